use std::time::Duration;

use jwksd_core::clock::Timestamp;
use reqwest::Method;
use serde_json::json;

use crate::helpers::{DAY, MINUTE, Setup, TestApp, TestResponse};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const REFUSAL: &str = "Invalid username or password";
const THROTTLED: &str = "Too many wrong passwords for this username; wait as long as Retry-After says";

/// A limit of three wrong passwords, behind a proxy, so that each request can come from another client.
fn limited() -> Setup {
    Setup {
        auth_failure_limit: 3,
        trusted_proxies: vec!["127.0.0.1/32"],
        admin_token: Some(TOKEN),
        ..Setup::default()
    }
}

async fn send(app: &TestApp, path: &str, from: &str, name: &str, password: &str) -> TestResponse {
    let body = json!({"username": name, "password": password});
    TestResponse::send(app.post(path).header("x-forwarded-for", from).json(&body)).await
}

async fn auth(app: &TestApp, from: &str, name: &str, password: &str) -> TestResponse {
    send(app, "/auth", from, name, password).await
}

/// A wrong password from a client that was not seen before.
async fn guess(app: &TestApp, n: u8, name: &str) -> TestResponse {
    auth(app, &format!("192.0.2.{n}"), name, "wrong").await
}

async fn expect_wrong(app: &TestApp, guesses: std::ops::RangeInclusive<u8>, name: &str) {
    for n in guesses {
        guess(app, n, name).await.expect_error(401, "invalid_credentials", REFUSAL);
    }
}

#[track_caller]
fn expect_throttled(answer: &TestResponse, retry_after: &str) {
    answer.expect_error(429, "too_many_failures", THROTTLED);
    assert_eq!(answer.header("retry-after"), Some(retry_after));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("www-authenticate"), None);
}

async fn metric(app: &TestApp, name: &str) -> u64 {
    let answer = TestResponse::send(app.request(Method::GET, "/metrics").bearer_auth(TOKEN)).await;
    let value = answer.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn new_clients_wait_after_the_limit_for_names_with_and_without_an_account_and_no_hash_is_computed() {
    let app = TestApp::with(limited()).await;
    let password = app.register("alice").await;
    app.register("disabled").await;
    app.accounts.disable("disabled").await.unwrap();
    for name in ["alice", "disabled", "unknown", "no name \u{1f600}"] {
        expect_wrong(&app, 1..=3, name).await;
        expect_throttled(&guess(&app, 4, name).await, "1");
    }
    let hashes = metric(&app, "jwksd_argon2_duration_seconds_count").await;
    for path in ["/auth", "/password"] {
        // Also the right password, and also in another spelling of the name.
        expect_throttled(&send(&app, path, "192.0.2.5", "ALICE", &password).await, "1");
        expect_throttled(&send(&app, path, "192.0.2.5", "Unknown", "wrong").await, "1");
    }
    assert_eq!(metric(&app, "jwksd_argon2_duration_seconds_count").await, hashes);
    assert_eq!(metric(&app, "jwksd_throttled_names").await, 4);
    assert_eq!(metric(&app, r#"jwksd_sign_ins_total{outcome="throttled"}"#).await, 6);
    assert_eq!(metric(&app, r#"jwksd_sign_ins_total{outcome="refused"}"#).await, 12);
    assert_eq!(metric(&app, r#"jwksd_password_changes_total{outcome="throttled"}"#).await, 2);
    assert_eq!(metric(&app, r#"jwksd_http_rate_limited_total{route="/auth"}"#).await, 6);
    // Other names are not affected, and nothing was recorded.
    expect_wrong(&app, 4..=4, "bob").await;
    assert_eq!(app.count("auth_logs").await, 0);
}

#[tokio::test]
async fn wrong_passwords_at_password_and_at_auth_count_together() {
    let app = TestApp::with(limited()).await;
    app.register("alice").await;
    for path in ["/password", "/auth", "/password"] {
        let answer = send(&app, path, "192.0.2.1", "alice", "wrong").await;
        answer.expect_error(401, "invalid_credentials", REFUSAL);
    }
    expect_throttled(&guess(&app, 2, "alice").await, "1");
}

#[tokio::test]
async fn the_wait_doubles_with_each_wrong_password_and_its_end_admits_one_try() {
    let app = TestApp::with(limited()).await;
    let password = app.register("alice").await;
    expect_wrong(&app, 1..=3, "alice").await;
    for seconds in [1, 2, 4, 8] {
        expect_throttled(&guess(&app, 9, "alice").await, &seconds.to_string());
        app.clock.advance(Duration::from_secs(seconds) - Duration::from_millis(1));
        expect_throttled(&guess(&app, 9, "alice").await, "1");
        app.clock.advance(Duration::from_millis(1));
        expect_wrong(&app, 9..=9, "alice").await;
    }
    app.clock.advance(Duration::from_secs(16));
    // The right password is admitted like every other try, and its client need not wait any more.
    auth(&app, "198.51.100.1", "alice", &password).await.token();
    auth(&app, "198.51.100.1", "alice", &password).await.token();
    expect_throttled(&guess(&app, 9, "alice").await, "16");
    app.clock.advance(16 * Duration::from_secs(1) + 15 * MINUTE);
    expect_wrong(&app, 1..=3, "alice").await;
    expect_throttled(&guess(&app, 4, "alice").await, "1");
}

#[tokio::test]
async fn of_many_guesses_at_once_not_more_than_the_limit_and_one_for_each_thread_are_checked() {
    let app = std::sync::Arc::new(TestApp::with(limited()).await);
    for name in ["alice", "unknown"] {
        if name == "alice" {
            app.register(name).await;
        }
        let mut guesses = tokio::task::JoinSet::new();
        for n in 0..60 {
            let app = std::sync::Arc::clone(&app);
            guesses.spawn(async move { guess(&app, n, name).await.status.as_u16() });
        }
        let statuses = guesses.join_all().await;
        let checked = statuses.iter().filter(|status| **status == 401).count();
        // Two threads hash here.
        assert!((3..=4).contains(&checked), "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 60 - checked, "{statuses:?}");
    }
}

#[tokio::test]
async fn clients_that_signed_in_within_thirty_days_are_neither_refused_nor_counted() {
    let app = TestApp::with(limited()).await;
    let password = app.register("alice").await;
    let (home, office) = ("198.51.100.1", "2001:db8:0:1::1");
    for client in [home, office] {
        auth(&app, client, "alice", &password).await.token();
    }
    for _ in 0..20 {
        // A service that still has an old password, for example.
        auth(&app, home, "alice", "wrong").await.expect_error(401, "invalid_credentials", REFUSAL);
    }
    expect_wrong(&app, 1..=3, "alice").await;
    expect_throttled(&guess(&app, 4, "alice").await, "1");
    for client in [home, office, "2001:db8:0:1:ffff::2"] {
        auth(&app, client, "alice", &password).await.token();
        auth(&app, client, "alice", "wrong").await.expect_error(401, "invalid_credentials", REFUSAL);
        let change = send(&app, "/password", client, "alice", "wrong").await;
        change.expect_error(401, "invalid_credentials", REFUSAL);
    }
    // Their sign-ins change nothing for the others.
    expect_throttled(&guess(&app, 5, "alice").await, "1");
    for client in ["198.51.100.2", "2001:db8:0:2::1"] {
        expect_throttled(&auth(&app, client, "alice", &password).await, "1");
    }
    // The client of one account is new to another.
    app.register("bob").await;
    expect_wrong(&app, 1..=3, "bob").await;
    expect_throttled(&auth(&app, home, "bob", "wrong").await, "1");
}

#[tokio::test]
async fn after_a_restart_clients_are_still_known_and_the_others_begin_again() {
    let app = TestApp::with(limited()).await;
    let password = app.register("alice").await;
    auth(&app, "198.51.100.1", "alice", &password).await.token();
    expect_wrong(&app, 1..=3, "alice").await;
    expect_throttled(&guess(&app, 4, "alice").await, "1");

    let app = TestApp::with(Setup { dir: app.dir, clock: app.clock, ..limited() }).await;
    expect_wrong(&app, 1..=3, "alice").await;
    expect_throttled(&auth(&app, "198.51.100.2", "alice", &password).await, "1");
    auth(&app, "198.51.100.1", "alice", &password).await.token();

    // Thirty days later it is new again.
    let clock = std::sync::Arc::new(jwksd_core::clock::ManualClock::at(Timestamp::from_secs(app.now())));
    clock.advance(30 * DAY + MINUTE);
    let app = TestApp::with(Setup { dir: app.dir, clock, ..limited() }).await;
    expect_wrong(&app, 1..=3, "alice").await;
    expect_throttled(&auth(&app, "198.51.100.1", "alice", &password).await, "1");
}

#[tokio::test]
async fn right_passwords_never_count() {
    let app = TestApp::with(limited()).await;
    let password = app.register("alice").await;
    for n in 0..20 {
        auth(&app, &format!("198.51.100.{n}"), "alice", &password).await.token();
    }
    for _ in 0..20 {
        // Neither do requests without a name or a password.
        let answer = TestResponse::send(app.post("/auth").body(r#"{"username":"alice"}"#)).await;
        answer.expect_error(401, "invalid_credentials", REFUSAL);
    }
    expect_wrong(&app, 1..=3, "alice").await;
}

#[tokio::test]
async fn a_limit_of_zero_never_refuses() {
    let app = TestApp::with(Setup { auth_failure_limit: 0, ..limited() }).await;
    let password = app.register("alice").await;
    expect_wrong(&app, 1..=50, "alice").await;
    auth(&app, "198.51.100.1", "alice", &password).await.token();
}
