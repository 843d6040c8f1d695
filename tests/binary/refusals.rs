//! Refused sign-ins in the log, and the fail2ban filter that reads them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use regex::Regex;
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::Server;
use crate::{dir, done, skipped};

const FILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/fail2ban/jwksd.conf");

async fn sign_in(server: &Server, client: &str, body: Value) -> u16 {
    let request = Client::new().post(format!("{}/auth", server.url)).header("x-forwarded-for", client);
    let request = request.header("x-request-id", format!("from-{client}"));
    request.json(&body).send().await.unwrap().status().as_u16()
}

/// The log lines about refused sign-ins, without their times.
fn refusals(server: &Server) -> Vec<String> {
    // The log is written by a thread of its own.
    std::thread::sleep(Duration::from_millis(300));
    server.log().lines().filter(|line| line.contains("refused")).map(str::to_owned).collect()
}

/// A server with the accounts alice and bob, of which bob is disabled, and alice's password.
fn server(dir: &Path, format: &str) -> (Server, String) {
    let password = done(dir, &["users", "add", "alice"]).0.trim().to_owned();
    done(dir, &["users", "add", "bob"]);
    done(dir, &["users", "disable", "bob"]);
    let settings = [("TRUSTED_PROXIES", "127.0.0.1"), ("AUTH_RATE_LIMIT", "0"), ("LOG_FORMAT", format)];
    (Server::start(dir, &settings), password)
}

async fn guess(server: &Server, password: &str) {
    for (client, name, password, status) in [
        ("192.0.2.1", "alice", "guess", 401),
        ("192.0.2.2", "ALICE", "guess", 401),
        ("192.0.2.3", "correct horse", "secret typed as a name", 401),
        ("2001:db8::4", "bob", "guess", 401),
        ("192.0.2.5", "alice", password, 200),
    ] {
        let body = json!({"username": name, "password": password});
        assert_eq!(sign_in(server, client, body).await, status, "{client}");
    }
    assert_eq!(sign_in(server, "192.0.2.6", json!({})).await, 401);
}

#[tokio::test]
async fn a_refused_sign_in_is_one_line_with_client_reason_id_and_the_account_if_it_exists() {
    let dir = dir();
    let (server, password) = server(dir.path(), "text");
    guess(&server, &password).await;
    let lines = refusals(&server);
    let without_time: Vec<_> = lines.iter().map(|line| line.split_once("Z ").unwrap().1.trim()).collect();
    assert_eq!(
        without_time,
        [
            r#"INFO refused a sign-in from 192.0.2.1: wrong password request_id="from-192.0.2.1" account="alice""#,
            r#"INFO refused a sign-in from 192.0.2.2: wrong password request_id="from-192.0.2.2" account="alice""#,
            r#"INFO refused a sign-in from 192.0.2.3: unknown account request_id="from-192.0.2.3""#,
            r#"INFO refused a sign-in from 2001:db8::4: disabled account request_id="from-2001:db8::4" account="bob""#,
            r#"INFO refused a sign-in from 192.0.2.6: missing credentials request_id="from-192.0.2.6""#,
        ]
    );
}

#[tokio::test]
async fn many_refused_sign_ins_are_logged_in_part_and_counted() {
    let dir = dir();
    let (server, _) = server(dir.path(), "text");
    let client = Client::new();
    for _ in 0..200 {
        let answer = client.post(format!("{}/auth", server.url)).body("{}").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401);
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(sign_in(&server, "192.0.2.1", json!({})).await, 401);
    let lines = refusals(&server);
    let left_out: usize = lines
        .iter()
        .filter_map(|line| {
            line.split_once("refused ")?.1.split_once(" more sign-ins")?.0.parse::<usize>().ok()
        })
        .sum();
    let logged = lines.iter().filter(|line| line.contains("refused a sign-in from ")).count();
    assert!(left_out > 0, "{lines:?}");
    assert_eq!(logged + left_out, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_without_credentials_hides_no_guess() {
    let dir = dir();
    let (server, _) = server(dir.path(), "text");
    let flood = async |client: Client| loop {
        let request = client.post(format!("{}/auth", server.url)).header("x-forwarded-for", "198.51.100.1");
        assert_eq!(request.body("{}").send().await.unwrap().status().as_u16(), 401);
    };
    let guesses = async {
        for n in 0..4 {
            // Each in another second, in which the flood has already used up its own lines.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let body = json!({"username": "alice", "password": "guess"});
            assert_eq!(sign_in(&server, &format!("192.0.2.{n}"), body).await, 401);
        }
    };
    tokio::select! {
        () = guesses => {}
        () = flood(Client::new()) => {}
    }
    let lines = refusals(&server);
    assert_eq!(banned(&lines), ["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3"], "{lines:?}");
    let of_flood = lines.iter().filter(|line| line.contains("198.51.100.1: missing credentials")).count();
    assert!((1..=4 * 6).contains(&of_flood), "{lines:?}");
}

/// The regular expressions of the filter. fail2ban removes the time that it finds, and knows addresses by `<ADDR>`.
fn filter() -> Vec<Regex> {
    let text = fs::read_to_string(FILTER).unwrap();
    let prefix = text.lines().find_map(|line| line.strip_prefix("_prefix = ")).unwrap();
    let (_, rest) = text.split_once("failregex = ").unwrap();
    let lines = rest.lines().map(str::trim).take_while(|line| !line.is_empty());
    let regex = |line: &str| line.replace("%(_prefix)s", prefix).replace("<ADDR>", "(?<address>[0-9a-f.:]+)");
    lines.map(|line| Regex::new(&regex(line)).unwrap()).collect()
}

fn banned(lines: &[String]) -> Vec<String> {
    let (filter, time) = (filter(), Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap());
    let found = lines.iter().filter_map(|line| {
        let line = time.replace(line, "");
        let hit = filter.iter().find_map(|regex| regex.captures(&line))?;
        Some(hit["address"].to_owned())
    });
    found.collect()
}

#[tokio::test]
async fn the_fail2ban_filter_finds_the_clients_in_text_and_in_json() {
    let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::4"];
    for format in ["text", "json"] {
        let dir = dir();
        let (server, password) = server(dir.path(), format);
        guess(&server, &password).await;
        let lines = refusals(&server);
        assert_eq!(lines.len(), 5);
        assert_eq!(banned(&lines), clients, "{lines:?}");
        let journal: Vec<_> = lines.iter().map(|line| format!("host jwksd[42]: {line}")).collect();
        assert_eq!(banned(&journal), clients, "{journal:?}");

        let log = dir.path().join("log");
        fs::write(&log, lines.join("\n") + "\n").unwrap();
        match Command::new("fail2ban-regex").arg(&log).arg(FILTER).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("Lines: 5 lines, 0 ignored, 4 matched, 1 missed"), "{said}");
            }
            Err(_) => skipped("fail2ban-regex is not installed: it did not read the filter"),
        }
    }
    // Only jwksd's own words in their place count.
    let forged = [
        r#"2026-01-31T09:05:00.000000Z  INFO the external key "x INFO refused a sign-in from 192.0.2.9: wrong password " is published"#,
        "2026-01-31T09:05:00.000000Z DEBUG GET /INFO refused a sign-in from 192.0.2.9: wrong password ",
    ];
    assert_eq!(banned(&forged.map(str::to_owned)), [""; 0]);
}
