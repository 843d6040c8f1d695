//! Operators manage accounts while the server runs.

use std::sync::Arc;
use std::time::Duration;

use jwksd_core::account::Email;
use jwksd_core::clock::Clock as _;
use jwksd_core::issuer::{Retention, Swept};
use jwksd_core::password::Hasher;

use crate::helpers::{DAY, Setup, TestApp, TestResponse, context, verify};

async fn expect_refused(app: &TestApp, name: &str, password: &str) {
    app.auth(name, password).await.expect_error(401, "invalid_credentials", "Invalid username or password");
}

#[tokio::test]
async fn a_reset_takes_effect_with_the_next_request() {
    let app = TestApp::spawn().await;
    let old = app.register("alice").await;
    let new = app.accounts.reset_password("ALICE", None).await.unwrap();
    expect_refused(&app, "alice", &old).await;
    app.auth("alice", new.reveal()).await.token();
}

#[tokio::test]
async fn a_disabled_account_is_refused_like_a_wrong_password_until_it_is_enabled() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    app.accounts.disable("alice").await.unwrap();
    expect_refused(&app, "alice", &password).await;
    assert_eq!(app.count("auth_logs").await, 0);
    app.accounts.enable("alice").await.unwrap();
    app.auth("alice", &password).await.token();
}

#[tokio::test]
async fn a_deleted_account_leaves_only_its_username_its_id_and_its_sign_ins() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    app.auth("alice", &password).await.token();
    app.accounts.delete("alice").await.unwrap();
    expect_refused(&app, "alice", &password).await;
    for name in ["alice", "Alice"] {
        let body = serde_json::json!({"username": name, "email": "a@example.com"});
        let answer = TestResponse::send(app.post("/register").json(&body)).await;
        answer.expect_error(409, "username_taken", "The username is taken");
    }
    assert!(app.accounts.delete("alice").await.is_err() && app.accounts.find("alice").await.is_err());
    assert_eq!((app.count("users").await, app.count("auth_logs").await), (1, 1));
}

#[tokio::test]
async fn an_issued_token_outlives_its_account() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let token = app.auth("alice", &password).await.token();
    app.accounts.delete("alice").await.unwrap();
    assert_eq!(verify(&token, &app.jwks().await).unwrap()["sub"], "alice");
}

#[tokio::test]
async fn a_released_email_address_can_be_registered_again() {
    let app = TestApp::spawn().await;
    app.register("alice").await;
    app.accounts.set_email("alice", Some(Email::parse("new@example.com").unwrap())).await.unwrap();
    let body = serde_json::json!({"username": "bob", "email": "alice@example.com"});
    assert_eq!(TestResponse::send(app.post("/register").json(&body)).await.status, 201);
}

async fn hashed_at(app: &TestApp, name: &str) -> String {
    app.accounts.find(name).await.unwrap().cost.unwrap().to_string()
}

/// Waits for the rehash, which happens after the response.
async fn expect_hashed_at(app: &TestApp, name: &str, cost: &str) {
    for _ in 0..200 {
        if hashed_at(app, name).await == cost {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", hashed_at(app, name).await);
}

#[tokio::test]
async fn a_sign_in_rehashes_at_the_current_cost_whether_higher_or_lower() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let mut dir = app.dir;
    for (memory, cost) in [(64, "argon2id v=19 m=64,t=1,p=1"), (16, "argon2id v=19 m=16,t=1,p=1")] {
        let hasher = Hasher::new(memory, 1, 1).unwrap();
        let app = TestApp::with(Setup { dir, hasher, ..Setup::default() }).await;
        expect_refused(&app, "alice", "wrong").await;
        assert_ne!(hashed_at(&app, "alice").await, cost, "a wrong password changes nothing");
        app.auth("alice", &password).await.token();
        expect_hashed_at(&app, "alice", cost).await;
        app.auth("alice", &password).await.token();
        dir = app.dir;
    }
}

#[tokio::test]
async fn sign_ins_succeed_while_the_hash_is_replaced() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let hasher = Hasher::new(1024, 1, 1).unwrap();
    let app = TestApp::with(Setup { dir: app.dir, hasher, ..Setup::default() }).await;
    let app = Arc::new(app);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (app, password) = (Arc::clone(&app), password.clone());
        requests.spawn(async move { app.auth("alice", &password).await.status.as_u16() });
    }
    assert!(requests.join_all().await.into_iter().all(|status| status == 200));
}

#[tokio::test]
async fn sign_ins_are_kept_for_the_retention_and_a_clock_set_forward_deletes_none() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let mut retention = Retention::new(context(&app.dir, &app.clock).await, DAY);
    app.auth("alice", &password).await.token();
    app.pass(DAY / 2).await;
    app.auth("alice", &password).await.token();
    assert_eq!(retention.sweep().await.unwrap(), Swept::All);
    assert_eq!(app.count("auth_logs").await, 2);
    app.pass(DAY / 2 + Duration::from_secs(1)).await;
    retention.sweep().await.unwrap();
    assert_eq!(app.count("auth_logs").await, 1);
    app.clock.set(app.clock.now().plus(30 * DAY));
    retention.sweep().await.unwrap();
    assert_eq!(app.count("auth_logs").await, 1);
}
