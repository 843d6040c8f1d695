//! The credential cache: a password signs in without a hash until its entry expires or the account changes.

use std::cell::Cell;
use std::time::Duration;

use jwksd_core::account::Username;
use jwksd_core::issuer::Requester;
use jwksd_core::password::Password;
use sqlx::Executor as _;

use crate::helpers::{MINUTE, Setup, TestApp, TestResponse};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A service, with the number of hashes it has computed.
struct Counted {
    app: TestApp,
    so_far: Cell<u32>,
}

async fn spawn(credential_cache_ttl: Duration) -> Counted {
    let setup = Setup { admin_token: Some(TOKEN), credential_cache_ttl, ..Setup::default() };
    Counted { app: TestApp::with(setup).await, so_far: Cell::new(0) }
}

async fn hashed(app: &TestApp) -> u32 {
    let answer = TestResponse::send(app.request(reqwest::Method::GET, "/metrics").bearer_auth(TOKEN)).await;
    let count =
        answer.text.lines().find_map(|line| line.strip_prefix("jwksd_argon2_duration_seconds_count "));
    count.unwrap().parse().unwrap()
}

/// The status of a sign-in, and how many hashes it computed.
async fn sign_in(counted: &Counted, name: &str, password: &str) -> (u16, u32) {
    let status = counted.app.auth(name, password).await.status.as_u16();
    let so_far = hashed(&counted.app).await;
    (status, so_far - counted.so_far.replace(so_far))
}

/// Registers an account, which computes a hash too.
async fn register(counted: &Counted, name: &str) -> String {
    counted.so_far.set(counted.so_far.get() + 1);
    counted.app.register(name).await
}

#[tokio::test]
async fn a_generated_password_is_hashed_once_until_its_cache_entry_expires() {
    let counted = spawn(5 * MINUTE).await;
    let password = register(&counted, "alice").await;
    assert_eq!(sign_in(&counted, "alice", &password).await, (200, 1));
    assert_eq!(sign_in(&counted, "ALICE", &password).await, (200, 0));
    counted.app.clock.advance(5 * MINUTE);
    assert_eq!(sign_in(&counted, "alice", &password).await, (200, 1));
    assert_eq!(counted.app.count("auth_logs").await, 3, "each sign-in is recorded");
}

#[tokio::test]
async fn with_a_ttl_of_zero_every_sign_in_computes_a_hash() {
    let counted = spawn(Duration::ZERO).await;
    let password = register(&counted, "alice").await;
    for _ in 0..2 {
        assert_eq!(sign_in(&counted, "alice", &password).await, (200, 1));
    }
}

#[tokio::test]
async fn a_chosen_password_is_never_cached() {
    let counted = spawn(5 * MINUTE).await;
    let chosen = Password::assigned("correct horse battery staple".to_owned()).unwrap();
    let alice = Username::parse("alice").unwrap();
    counted.app.accounts.add(alice, None, chosen.clone(), Requester::Operator).await.unwrap();
    counted.so_far.set(1);
    for _ in 0..2 {
        assert_eq!(sign_in(&counted, "alice", chosen.reveal()).await, (200, 1));
    }
}

#[tokio::test]
async fn refusals_are_never_cached_for_known_and_unknown_usernames() {
    let counted = spawn(5 * MINUTE).await;
    let (alices, bobs) = (register(&counted, "alice").await, register(&counted, "bob").await);
    assert_eq!(sign_in(&counted, "bob", &bobs).await, (200, 1));
    for _ in 0..2 {
        assert_eq!(sign_in(&counted, "alice", &bobs).await, (401, 1));
        assert_eq!(sign_in(&counted, "unknown", &bobs).await, (401, 1));
        assert_eq!(sign_in(&counted, "bob", &alices).await, (401, 1));
    }
}

#[tokio::test]
async fn a_cached_password_is_refused_after_a_reset_and_for_disabled_or_deleted_accounts() {
    let counted = spawn(5 * MINUTE).await;
    let old = register(&counted, "alice").await;
    assert_eq!(sign_in(&counted, "alice", &old).await, (200, 1));
    // As another process does it.
    counted
        .app
        .db()
        .await
        .execute("INSERT INTO account_states (user_id, disabled_at) VALUES (1, 1)")
        .await
        .unwrap();
    assert_eq!(sign_in(&counted, "alice", &old).await, (401, 1));
    counted.app.db().await.execute("UPDATE account_states SET disabled_at = NULL").await.unwrap();
    assert_eq!(sign_in(&counted, "alice", &old).await, (200, 0));

    let new = counted.app.accounts.reset_password("alice", None).await.unwrap();
    counted.so_far.set(counted.so_far.get() + 1);
    assert_eq!(sign_in(&counted, "alice", &old).await, (401, 1));
    assert_eq!(sign_in(&counted, "alice", new.reveal()).await, (200, 1));
    assert_eq!(sign_in(&counted, "alice", new.reveal()).await, (200, 0));
    counted.app.accounts.delete("alice").await.unwrap();
    assert_eq!(sign_in(&counted, "alice", new.reveal()).await, (401, 1));
}
