//! Accounts as an operator manages them, under a server that runs.

use std::sync::Arc;
use std::time::Duration;

use jwksd::domain::account::Email;
use jwksd::domain::clock::Clock as _;
use jwksd::domain::password::Hasher;
use jwksd::issuer::{Retention, Swept};

use crate::helpers::{Answer, DAY, Setup, TestApp, context, verify};

async fn expect_refused(app: &TestApp, name: &str, password: &str) {
    app.auth(name, password).await.expect_error(401, "invalid_credentials", "Invalid username or password");
}

#[tokio::test]
async fn a_reset_holds_from_the_next_request_on() {
    let app = TestApp::spawn().await;
    let old = app.register("alice").await;
    let new = app.issuer.reset_password("ALICE", None).await.unwrap();
    expect_refused(&app, "alice", &old).await;
    app.auth("alice", new.reveal()).await.token();
}

#[tokio::test]
async fn a_disabled_account_is_refused_as_a_wrong_password_is_until_it_is_enabled() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    app.issuer.disable("alice").await.unwrap();
    expect_refused(&app, "alice", &password).await;
    assert_eq!(app.count("auth_logs").await, 0);
    app.issuer.enable("alice").await.unwrap();
    app.auth("alice", &password).await.token();
}

#[tokio::test]
async fn a_deleted_account_is_gone_but_for_its_name_its_number_and_its_sign_ins() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    app.auth("alice", &password).await.token();
    app.issuer.delete("alice").await.unwrap();
    expect_refused(&app, "alice", &password).await;
    for name in ["alice", "Alice"] {
        let body = serde_json::json!({"username": name, "email": "a@example.com"});
        let answer = Answer::of(app.post("/register").json(&body)).await;
        answer.expect_error(409, "username_taken", "The username is taken");
    }
    assert!(app.issuer.delete("alice").await.is_err() && app.issuer.account("alice").await.is_err());
    assert_eq!((app.count("users").await, app.count("auth_logs").await), (1, 1));
}

#[tokio::test]
async fn a_token_that_is_out_outlives_its_account() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let token = app.auth("alice", &password).await.token();
    app.issuer.delete("alice").await.unwrap();
    assert_eq!(verify(&token, &app.jwks().await).unwrap()["sub"], "alice");
}

#[tokio::test]
async fn an_address_that_was_given_up_is_free_again() {
    let app = TestApp::spawn().await;
    app.register("alice").await;
    app.issuer.set_email("alice", Some(Email::parse("new@example.com").unwrap())).await.unwrap();
    let body = serde_json::json!({"username": "bob", "email": "alice@example.com"});
    assert_eq!(Answer::of(app.post("/register").json(&body)).await.status, 201);
}

async fn hashed_at(app: &TestApp, name: &str) -> String {
    app.issuer.account(name).await.unwrap().cost.unwrap().to_string()
}

/// Waits for what happens after the answer.
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
async fn a_sign_in_brings_an_old_hash_to_the_cost_of_today_be_it_more_or_less() {
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
async fn nobody_is_turned_away_because_his_hash_was_replaced_meanwhile() {
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
async fn sign_ins_are_kept_as_long_as_was_said_and_a_clock_set_forward_removes_none() {
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
