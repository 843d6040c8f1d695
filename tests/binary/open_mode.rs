//! Where open mode, which issues tokens to anyone, refuses to work, and what becomes of its tokens.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use crate::support::{Server, jwksd, run};
use crate::{DB, command, dir, done, get, objects, post, stderr};

const OPEN: (&str, &str) = ("AUTH_MODE", "open");

async fn token(server: &Server) -> String {
    let (status, answer) = post(server, "/auth", json!({"username": "mallory"})).await;
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().unwrap().to_owned()
}

/// Whether a verifier that has just read the JWKS accepts the token.
async fn verifies(server: &Server, token: &str) -> bool {
    let set: JwkSet = serde_json::from_value(get(server, "/jwks").await).unwrap();
    let header = decode_header(token).unwrap();
    set.find(&header.kid.unwrap()).is_some_and(|jwk| {
        let key = DecodingKey::from_jwk(jwk).unwrap();
        decode::<Value>(token, &key, &Validation::new(header.alg)).is_ok()
    })
}

fn phases(dir: &Path) -> Vec<(i64, String)> {
    let (keys, _) = done(dir, &["keys", "list", "--json"]);
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let phase = |key: &Value| (key["kid"].as_i64().unwrap(), key["phase"].as_str().unwrap().to_owned());
    keys["keys"].as_array().unwrap().iter().map(phase).collect()
}

fn named<const N: usize>(phases: [(i64, &str); N]) -> Vec<(i64, String)> {
    phases.map(|(kid, phase)| (kid, phase.to_owned())).to_vec()
}

fn refusal(dir: &Path, env: &[(&str, &str)]) -> String {
    let output = run(dir, &["serve"], &[env, &[("RUST_LOG", "off"), ("PORT", "0")]].concat(), "");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    stderr(&output)
}

#[tokio::test]
async fn tokens_of_open_mode_do_not_verify_once_the_store_is_served_in_password_mode() {
    let dir = dir();
    let dir = dir.path();
    let server = Server::start(dir, &[OPEN]);
    let before = [token(&server).await, token(&server).await];
    // A key that waits has signed nothing, so it stays.
    done(dir, &["keys", "rotate"]);
    assert!(verifies(&server, &before[0]).await);
    drop(server);

    let server = Server::start(dir, &[]);
    for token in &before {
        assert!(!verifies(&server, token).await, "anyone could get it");
    }
    assert_eq!(phases(dir), named([(1, "revoked"), (2, "expired"), (3, "current")]));
    let password = done(dir, &["users", "add", "alice"]).0;
    let body = json!({"username": "alice", "password": password.trim()});
    let (_, answer) = post(&server, "/auth", body).await;
    assert!(verifies(&server, answer["token"].as_str().unwrap()).await);
    drop(server);

    drop(Server::start(dir, &[]));
    assert_eq!(phases(dir), named([(1, "revoked"), (2, "expired"), (3, "current")]), "once is enough");
}

#[tokio::test]
async fn the_end_of_open_mode_is_logged_with_each_key_that_it_ends() {
    let dir = dir();
    let dir = dir.path();
    token(&Server::start(dir, &[OPEN])).await;
    let mut server = jwksd(dir, &["serve"], &[("PORT", "0")]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(server.stderr.take().unwrap());
    while !log.contains("serving on") && lines.read_line(&mut log).unwrap() > 0 {}
    server.kill().unwrap();
    server.wait().unwrap();
    for line in [
        "the store was served in open mode, where anyone gets a token: the keys that signed there are revoked, and their \
         tokens no longer verify",
        "key 1: revoked, because it has signed in open mode, where anyone gets a token",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_restore_does_not_forget_which_keys_signed_in_open_mode() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    done(dir, &["users", "delete", "alice", "--yes"]);
    done(dir, &["backup", "copy.db"]);
    let given = token(&Server::start(dir, &[OPEN])).await;
    done(dir, &["restore", "copy.db"]);
    assert!(!verifies(&Server::start(dir, &[]), &given).await);
}

#[tokio::test]
async fn a_store_is_served_in_one_mode_at_a_time_and_a_crash_blocks_nothing() {
    let dir = dir();
    let dir = dir.path();
    for (first, second) in [("open", "password"), ("password", "open")] {
        let mut server = Server::start(dir, &[("AUTH_MODE", first)]);
        let expected = format!(
            "jwksd: AUTH_MODE is {second}, and {DB} was last served in {first} mode and is still in use, by a server or \
             another program: stop it first, or set another DATABASE_URL\n"
        );
        assert_eq!(refusal(dir, &[("AUTH_MODE", second)]), expected);
        let other = Server::start(dir, &[("AUTH_MODE", first)]);
        get(&other, "/jwks").await;
        drop(other);
        get(&server, "/jwks").await;
        // SIGKILL leaves no time to clean up.
        server.child.kill().unwrap();
        server.wait();
    }
    drop(Server::start(dir, &[("AUTH_MODE", "open")]));
}

#[tokio::test]
async fn two_first_starts_in_different_modes_do_not_both_serve() {
    for _ in 0..5 {
        let dir = dir();
        let start = |mode| {
            jwksd(dir.path(), &["serve"], &[("AUTH_MODE", mode), ("PORT", "0"), ("RUST_LOG", "off")])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut servers = [start("open"), start("password")];
        // One of the two must end by itself.
        let mut ended = 0;
        for _ in 0..200 {
            ended = servers.iter_mut().filter_map(|server| server.try_wait().unwrap()).count();
            if ended > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for server in &mut servers {
            let _ = server.kill();
            server.wait().unwrap();
        }
        assert_eq!(ended, 1);
    }
}

#[tokio::test]
async fn open_mode_looks_for_accounts_with_every_token() {
    let dir = dir();
    let dir = dir.path();
    let server = Server::start(dir, &[OPEN]);
    // Longer than it takes until an answer is remembered.
    for _ in 0..8 {
        token(&server).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    done(dir, &["users", "add", "alice"]);
    let closed =
        json!({"error": "Open mode issues no tokens on a store with accounts", "code": "open_mode_closed"});
    for path in ["/auth", "/auth?expired", "/auth?fault=alg-none"] {
        assert_eq!(post(&server, path, json!({})).await, (403, closed.clone()), "{path}");
    }
    // The log has a thread of its own.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let log = server.log();
    assert_eq!(log.matches("the store has accounts, so open mode issues no tokens").count(), 1, "{log}");
    done(dir, &["users", "delete", "alice", "--yes"]);
    token(&server).await;
    drop(server);

    let server = Server::start(dir, &[OPEN, ("OPEN_AUTH_ANYWAY", "true")]);
    done(dir, &["users", "add", "bob"]);
    token(&server).await;
}

#[test]
fn open_mode_refuses_an_issuer_on_another_machine_and_trusted_proxies_before_it_creates_anything() {
    let dir = dir();
    let dir = dir.path();
    let anyway = ", or set OPEN_AUTH_ANYWAY=true if you want that\n";
    for issuer in [
        "https://login.example.com",
        "http://192.0.2.1:8080",
        "http://[2001:db8::1]",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com/path",
    ] {
        let expected = format!(
            "jwksd: AUTH_MODE is open, so anyone gets a token, and ISSUER is {issuer}, whose tokens other machines may \
             trust: unset it{anyway}"
        );
        assert_eq!(refusal(dir, &[OPEN, ("ISSUER", issuer)]), expected);
        let env = [OPEN, ("ISSUER", issuer), ("PORT", "0")];
        let findings = run(dir, &["doctor", "--json"], &env, "");
        let findings = objects(std::str::from_utf8(&findings.stdout).unwrap());
        let text = expected.trim_start_matches("jwksd: ").trim_end();
        assert!(findings.iter().any(|it| it["level"] == "error" && it["text"] == text), "{findings:?}");
    }
    let expected = format!(
        "jwksd: AUTH_MODE is open, so anyone gets a token, and TRUSTED_PROXIES is set, and a proxy passes the requests of \
         others on: unset it{anyway}"
    );
    assert_eq!(refusal(dir, &[OPEN, ("TRUSTED_PROXIES", "127.0.0.1")]), expected);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "nothing is created");

    for issuer in
        ["http://localhost:9000", "http://127.0.0.2/path", "https://[::1]:8443", "http://jwksd.LOCALHOST"]
    {
        drop(Server::start(dir, &[OPEN, ("ISSUER", issuer)]));
    }
    let anyway = ("OPEN_AUTH_ANYWAY", "true");
    let public = [OPEN, anyway, ("ISSUER", "https://login.example.com"), ("TRUSTED_PROXIES", "::1")];
    drop(Server::start(dir, &public));
    assert_eq!(command(dir, &["users", "list"]).0, 0);
}
