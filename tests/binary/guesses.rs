//! Guesses against one account, and its own changes of the password, with several servers on one file.

use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::json;

use crate::support::Server;
use crate::{dir, done, post, sign_in};

/// The default of `AUTH_FAILURE_LIMIT`.
const LIMIT: u8 = 10;

/// Behind a proxy, so that each request can come from another client.
fn server(dir: &std::path::Path) -> Server {
    Server::start(dir, &[("TRUSTED_PROXIES", "127.0.0.1")])
}

async fn auth_from(server: &Server, client: &str, name: &str, password: &str) -> Response {
    let request = Client::new().post(format!("{}/auth", server.url)).header("x-forwarded-for", client);
    request.json(&json!({"username": name, "password": password})).send().await.unwrap()
}

async fn status_from(server: &Server, client: &str, name: &str, password: &str) -> u16 {
    auth_from(server, client, name, password).await.status().as_u16()
}

/// As many wrong passwords as are admitted, each from another client, and one more.
async fn exhaust(server: &Server, name: &str) {
    for n in 0..LIMIT {
        assert_eq!(status_from(server, &format!("192.0.2.{n}"), name, "wrong").await, 401, "{n}");
    }
    let refused = auth_from(server, "192.0.2.99", name, "wrong").await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
}

#[tokio::test]
async fn each_process_counts_guesses_separately_and_from_the_start_and_knows_the_clients_of_an_account() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0.trim().to_owned();
    let [mut one, two] = [server(dir.path()), server(dir.path())];
    let home = "198.51.100.1";
    assert_eq!(status_from(&two, home, "alice", &password).await, 200);
    exhaust(&one, "alice").await;
    assert_eq!(status_from(&one, "198.51.100.2", "alice", &password).await, 429);
    assert_eq!(status_from(&one, home, "alice", &password).await, 200, "it signed in at the other process");
    assert_eq!(status_from(&two, "198.51.100.3", "alice", "wrong").await, 401);

    one.child.kill().unwrap();
    one.wait();
    let one = server(dir.path());
    exhaust(&one, "alice").await;
    assert_eq!(status_from(&one, home, "alice", &password).await, 200);
}

#[tokio::test]
async fn one_line_names_the_account_when_its_new_clients_must_wait_and_no_line_a_name_without_an_account() {
    let dir = dir();
    done(dir.path(), &["users", "add", "alice"]);
    let server = server(dir.path());
    exhaust(&server, "alice").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(status_from(&server, "192.0.2.99", "ALICE", "wrong").await, 401);
    assert_eq!(status_from(&server, "192.0.2.99", "alice", "wrong").await, 429);
    exhaust(&server, "a secret typed as a name").await;
    // The log is written by a thread of its own.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("must wait")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(
        line.ends_with(
            r#" WARN many passwords of an account were wrong: clients that are new to it must wait account="alice""#
        ),
        "{line}"
    );
    assert!(!log.contains("a secret"), "{log}");
}

#[tokio::test]
async fn a_change_of_the_password_takes_effect_in_every_process_with_the_next_request() {
    let dir = dir();
    let old = done(dir.path(), &["users", "add", "alice"]).0.trim().to_owned();
    let [one, two] = [server(dir.path()), server(dir.path())];
    for server in [&one, &two] {
        // The second time from the credential cache.
        assert_eq!((sign_in(server, "alice", &old).await, sign_in(server, "alice", &old).await), (200, 200));
    }
    let (status, changed) = post(&one, "/password", json!({"username": "alice", "password": old})).await;
    assert_eq!(status, 200, "{changed}");
    let new = changed["password"].as_str().unwrap();
    for server in [&two, &one] {
        assert_eq!((sign_in(server, "alice", &old).await, sign_in(server, "alice", new).await), (401, 200));
    }
}
