//! Floods of requests and connections: a server takes bounded memory for them, releases it, and serves other clients.
//!
//! `ADDRESSES` and `CONNECTIONS` set their number for longer runs by hand.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{BINARY, Server};
use crate::{dir, get, post};

/// Requests that are sent before their responses are read.
const PIPELINED: usize = 50;

fn how_many(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// Resident memory of a server in MiB.
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap()
}

/// All addresses of 127.0.0.0/8 are this machine's.
async fn connect_from(server: &Server, client: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((client, 0).into()).unwrap();
    socket.connect(server.url.trim_start_matches("http://").parse().unwrap()).await.unwrap()
}

/// Sends one request for each address, as a proxy does, and counts the responses by status.
async fn request_from_each(server: &Server, addresses: impl Iterator<Item = u32>) -> Vec<(u16, usize)> {
    let mut stream = connect(server).await;
    let addresses: Vec<u32> = addresses.collect();
    let mut statuses = BTreeMap::new();
    for chunk in addresses.chunks(PIPELINED) {
        let requests: Vec<String> = chunk.iter().map(|bits| request_of(*bits)).collect();
        stream.write_all(requests.concat().as_bytes()).await.unwrap();
        for status in answers(&mut stream, chunk.len()).await {
            *statuses.entry(status).or_default() += 1;
        }
    }
    statuses.into_iter().collect()
}

fn request_of(bits: u32) -> String {
    let address = Ipv4Addr::from_bits(bits);
    format!("POST /auth HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {address}\r\ncontent-length: 0\r\n\r\n")
}

/// The statuses of the next `count` responses, each of which has an error object as its body.
async fn answers(stream: &mut TcpStream, count: usize) -> Vec<u16> {
    let mut heard = String::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.unwrap();
        assert!(n > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
        let bodies = heard.matches("\"}").count();
        if bodies == count {
            return heard.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect();
        }
    }
}

async fn sign_in_from(server: &Server, address: &str, account: &Value) -> u16 {
    sign_in(server.url.clone(), address.to_owned(), account.clone()).await
}

async fn sign_in(url: String, address: String, account: Value) -> u16 {
    let request = Client::new().post(format!("{url}/auth")).header("x-forwarded-for", address);
    request.json(&account).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_addresses_take_bounded_memory_and_release_it_and_one_is_refused_while_others_sign_in() {
    let dir = dir();
    let server = Server::start(dir.path(), &[("TRUSTED_PROXIES", "127.0.0.1")]);
    let (_, made) = post(&server, "/register", json!({"username": "alice", "email": "a@example.com"})).await;
    let account = json!({"username": "alice", "password": made["password"]});
    assert_eq!(sign_in_from(&server, "192.0.2.1", &account).await, 200);
    let before = memory(&server);

    let addresses = u32::try_from(how_many("ADDRESSES", 100_000)).unwrap();
    let begun = Instant::now();
    let one_address = async {
        let statuses = request_from_each(&server, std::iter::repeat_n(1, 5_000)).await;
        let refused = statuses.iter().find(|(status, _)| *status == 429).map_or(0, |(_, count)| *count);
        assert!(refused > 2_500, "{statuses:?}");
    };
    let all_addresses = async {
        request_from_each(&server, 1 << 24..(1 << 24) + addresses).await;
        begun.elapsed()
    };
    let others = async {
        for n in 0..20 {
            assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
            assert_eq!(sign_in_from(&server, &format!("198.51.100.{n}"), &account).await, 200);
        }
    };
    let ((), took, ()) = tokio::join!(one_address, all_addresses, others);
    let during = memory(&server);

    tokio::time::sleep(Duration::from_secs(12)).await;
    let after = memory(&server);
    eprintln!(
        "{addresses} addresses in {took:.0?}: {before} MiB before, {during} during, {after} MiB afterwards"
    );
    assert!(during < before + 48, "{before} {during}");
    assert!(after < before + 24, "{before} {after}");
}

/// A server with this connection limit.
fn with_connections(dir: &Path, count: usize) -> Server {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {}; exec \"$0\" serve", count + 64);
    command.args(["-c", &script, BINARY]).current_dir(dir).env_clear();
    Server::spawn(&mut command, &[]).unwrap()
}

#[tokio::test]
async fn a_client_that_holds_its_whole_share_is_named_in_the_log_once_and_taken_for_a_proxy_if_it_is_the_only_one()
 {
    let said = "refused a connection from 127.0.0.1, which has 16 connections with unfinished requests";
    let remedy = "; all connections come from this address: if it is a proxy, set TRUSTED_PROXIES to it";
    for (others, said) in [(0, format!("{said}{remedy} left_out=0")), (1, format!("{said} left_out=0"))] {
        let dir = dir();
        let server = with_connections(dir.path(), 64);
        let mut open = Vec::new();
        for _ in 0..others {
            open.push(connect_from(&server, [127, 0, 0, 2]).await);
        }
        for _ in 0..20 {
            let mut stream = connect_from(&server, [127, 0, 0, 1]).await;
            // The body never arrives. A connection that is refused is closed meanwhile.
            let head = b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
            let _ = stream.write_all(head).await;
            open.push(stream);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let log = server.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("refused a connection")).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARN") && lines[0].ends_with(&said), "{lines:?}");
    }
}

#[tokio::test]
async fn idle_connections_up_to_the_file_limit_do_not_lock_clients_out() {
    let dir = dir();
    let count = how_many("CONNECTIONS", 400);
    // The connection limit is below the number of connections: new ones close idle ones.
    let server = with_connections(dir.path(), count);
    let before = memory(&server);
    let mut idle = Vec::new();
    // Of several clients: one holds a quarter of the limit at most.
    for n in (0..=u8::MAX).cycle().take(count + 100) {
        idle.push(connect_from(&server, [127, 0, 0, 1 + n % 8]).await);
    }
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
    }
    eprintln!(
        "{} idle connections: {before} MiB before, {} MiB with them; 50 others were answered in {:.0?}",
        idle.len(),
        memory(&server),
        begun.elapsed()
    );
}

#[tokio::test]
async fn connections_to_a_stopped_server_wait_in_the_accept_queue() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    signal(&server, "-STOP");
    let mut waiting = Vec::new();
    for _ in 0..400 {
        let connected = tokio::time::timeout(Duration::from_secs(20), connect(&server)).await;
        waiting.push(connected.expect("the accept queue has room for it"));
    }
    signal(&server, "-CONT");
    assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
}

fn signal(server: &Server, which: &str) {
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args([which, &pid]).status().unwrap().success());
}

/// Each sends ten guesses a second, which is the default limit.
const GUESSERS: u8 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_guesses_a_second_after_a_restart_delay_neither_known_nor_new_clients_for_long() {
    let dir = dir();
    // Without the credential cache, each sign-in computes a real hash.
    let settings = [
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("CREDENTIAL_CACHE_TTL", "0"),
        ("REGISTER_RATE_LIMIT", "0"),
        // Otherwise most guesses are refused before they reach the queue.
        ("AUTH_FAILURE_LIMIT", "0"),
    ];
    let server = Server::start(dir.path(), &settings);
    let mut users = Vec::new();
    for n in 0..20 {
        let name = format!("user{n}");
        let (_, made) =
            post(&server, "/register", json!({"username": name, "email": format!("{name}@example.com")}))
                .await;
        let account = json!({"username": name, "password": made["password"]});
        assert_eq!(sign_in_from(&server, &format!("198.51.100.{n}"), &account).await, 200);
        users.push(account);
    }
    // The store still knows which clients have signed in.
    drop(server);
    let server = Server::start(dir.path(), &settings);
    let client = Client::new();
    let guessers: Vec<_> =
        (0..GUESSERS).map(|n| tokio::spawn(guess(server.url.clone(), client.clone(), n))).collect();
    // Until more guesses wait than are hashed in a second.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let mut slowest = Duration::ZERO;
    for (n, account) in users.iter().enumerate() {
        let begun = Instant::now();
        assert_eq!(sign_in_from(&server, &format!("198.51.100.{n}"), account).await, 200, "known {n}");
        slowest = slowest.max(begun.elapsed());
    }
    let mut newcomers = JoinSet::new();
    for (n, account) in users.into_iter().enumerate() {
        let sign_in = move |url| sign_in(url, format!("203.0.113.{n}"), account.clone());
        let url = server.url.clone();
        newcomers.spawn(async move {
            // A 503 says when to come back. Where other programs keep the cores busy, hashes come last.
            for _ in 0..2 {
                let status = sign_in(url.clone()).await;
                if status != 503 {
                    return status;
                }
            }
            sign_in(url).await
        });
    }
    let newcomers = newcomers.join_all().await;
    guessers.iter().for_each(JoinHandle::abort);
    eprintln!("the slowest sign-in of a known user took {slowest:.0?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(newcomers, [200; 20]);
}

/// Guesses the password of one user from one address, ten times a second, whether or not the server keeps up.
async fn guess(url: String, client: Client, n: u8) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    // Dropped with the task.
    let mut requests = JoinSet::new();
    loop {
        ticks.tick().await;
        let request = client
            .post(format!("{url}/auth"))
            .header("x-forwarded-for", format!("192.0.2.{n}"))
            .json(&json!({"username": format!("user{}", n % 20), "password": "a wrong guess"}));
        requests.spawn(async move { drop(request.send().await) });
        while requests.try_join_next().is_some() {}
    }
}
