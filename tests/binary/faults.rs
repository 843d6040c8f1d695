//! What breaks around a server: the JWKS goes on, the rest says 503, and all is well again when the fault is over.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, Row as _};

use crate::support::{BINARY, Server};
use crate::{DB, db, dir, done, get, sign_in};

const NO_HASH_IS_KNOWN: [(&str, &str); 3] =
    [("CREDENTIAL_CACHE_TTL", "0"), ("AUTH_RATE_LIMIT", "0"), ("REGISTER_RATE_LIMIT", "0")];

/// A server that a write beyond its limit on the size of files does not end: that is how a full disk is played.
fn start_on_a_small_disk(dir: &Path, env: &[(&str, &str)]) -> Server {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" serve", BINARY]).current_dir(dir).env_clear();
    let started = Server::of(command.envs(env.iter().copied()), env);
    started.unwrap_or_else(|log| panic!("it did not start:\n{log}"))
}

/// Sets a limit of a process that runs.
fn limit(server: &Server, what: &str) {
    let pid = server.child.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, what]).status().unwrap().success());
}

async fn expect_unavailable(server: &Server, path: &str, body: Value) {
    let answer = Client::new().post(format!("{}{path}", server.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said, json!({"error": "The service cannot answer just now", "code": "unavailable"}));
}

/// Waits until a sign-in works again.
async fn expect_recovery(server: &Server, name: &str, password: &str) {
    let begun = Instant::now();
    while sign_in(server, name, password).await != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
    }
}

async fn sign_ins(dir: &Path) -> i64 {
    db(dir).await.fetch_one("SELECT count(*) FROM auth_logs").await.unwrap().get(0)
}

#[tokio::test]
async fn a_full_disk_keeps_no_key_from_being_published_and_is_got_over() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let server = start_on_a_small_disk(dir.path(), &NO_HASH_IS_KNOWN);
    assert_eq!(sign_in(&server, "alice", password).await, 200);

    limit(&server, "--fsize=4096:");
    expect_unavailable(&server, "/auth", json!({"username": "alice", "password": password})).await;
    expect_unavailable(&server, "/register", json!({"username": "bob", "email": "bob@example.com"})).await;
    assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
    assert_eq!(sign_ins(dir.path()).await, 1);

    limit(&server, "--fsize=unlimited:");
    expect_recovery(&server, "alice", password).await;
    assert_eq!(sign_ins(dir.path()).await, 2);
}

#[tokio::test]
async fn a_process_that_keeps_the_write_lock_holds_up_sign_ins_alone_and_as_long_as_it_lasts() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let server = Server::start(dir.path(), &NO_HASH_IS_KNOWN);
    let mut other = db(dir.path()).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();

    let refused = tokio::spawn({
        let body = json!({"username": "alice", "password": password});
        let url = format!("{}/auth", server.url);
        async move { Client::new().post(url).json(&body).send().await.unwrap().status() }
    });
    while !refused.is_finished() {
        assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(refused.await.unwrap(), 503);

    lock.rollback().await.unwrap();
    expect_recovery(&server, "alice", password).await;
    assert_eq!(sign_ins(dir.path()).await, 1);
}

#[tokio::test]
async fn a_server_without_files_to_open_goes_on_when_there_are_some_again_and_says_it_once() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    limit(&server, "--nofile=8:");
    // Whoever knocks waits in the queue of the system.
    let waiting: Vec<_> =
        (0..5).map(|_| tokio::spawn(Client::new().get(format!("{}/jwks", server.url)).send())).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    limit(&server, "--nofile=1024:");
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    let mut log = String::new();
    while !log.contains("connections are accepted again") {
        tokio::time::sleep(Duration::from_millis(20)).await;
        log.push_str(&server.log());
    }
    assert_eq!(log.matches("no connection can be accepted, which is tried again").count(), 1, "{log}");
    assert_eq!(log.matches("connections are accepted again").count(), 1, "{log}");
}

#[tokio::test]
async fn a_journal_that_was_cut_short_costs_what_was_cut_off_and_nothing_before_it() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let mut server = Server::start(dir.path(), &NO_HASH_IS_KNOWN);
    for _ in 0..5 {
        assert_eq!(sign_in(&server, "alice", password).await, 200);
    }
    server.child.kill().unwrap();
    server.wait();
    let journal = dir.path().join(format!("{DB}-wal"));
    let file = std::fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5000).unwrap();

    let server = Server::start(dir.path(), &NO_HASH_IS_KNOWN);
    assert_eq!(sign_in(&server, "alice", password).await, 200);
    let left = sign_ins(dir.path()).await;
    assert!((1..=6).contains(&left), "{left}");
    let whole: String = db(dir.path()).await.fetch_one("PRAGMA integrity_check").await.unwrap().get(0);
    assert_eq!(whole, "ok");
}

#[tokio::test]
async fn a_server_leaves_no_image_of_its_memory() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
}
