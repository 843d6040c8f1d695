//! The `keys` commands and `rekey`, and how a running server applies them.

use std::sync::Arc;

use jwksd_core::clock::Clock as _;
use jwksd_core::issuer::{self, IssuerError, KeyCommandError, Keyring, RekeyError};
use jwksd_core::key::lifecycle::Phase;
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::key::{KeySpec, Kid, import};
use jwksd_jose::private_key::{NewKey, PrivateKey};
use jwksd_store_sqlite::Contents;
use serde_json::json;
use sqlx::Row as _;
use tokio::task::JoinSet;

use crate::helpers::{
    DAY, HOUR, MINUTE, Setup, TTL, TestApp, TestResponse, context, database_file, decode, verify,
};

const NEW_KEY: &str = "another passphrase";

/// The keyring of a second process on the same store, such as a command.
async fn command(app: &TestApp) -> Keyring {
    Keyring::open(
        context(&app.dir, &app.clock).await,
        master_key(app, crate::helpers::MASTER_KEY).await,
        policy(),
        KeySpec::default(),
    )
    .await
    .unwrap()
}

fn policy() -> jwksd_core::key::lifecycle::RotationPolicy {
    jwksd_core::key::lifecycle::RotationPolicy::new(DAY, 7 * DAY, 2 * HOUR, TTL, 5 * MINUTE).unwrap()
}

async fn master_key(app: &TestApp, secret: &str) -> issuer::MasterKey {
    let Contents::Ours(record) = database_file(&app.dir).probe().await.unwrap().contents else {
        panic!("the store has a master key");
    };
    issuer::unlock(&MasterSecret::parse(secret).unwrap(), record).unwrap()
}

fn phases(keyring: &Keyring) -> Vec<(i64, Phase)> {
    keyring.report().iter().map(|key| (key.kid.0, key.phase)).collect()
}

#[track_caller]
fn expect_operation_error(done: Result<(), IssuerError>, expected: &str) {
    match done {
        Err(IssuerError::KeyCommand(why)) => assert_eq!(why.to_string(), expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_rotate_creates_the_next_key_and_the_server_publishes_it_in_the_next_tick() {
    let app = TestApp::spawn().await;
    let command = command(&app).await;
    command.rotate(false).await.unwrap();
    assert_eq!(phases(&command), [(1, Phase::Current), (2, Phase::Expired), (3, Phase::Next)]);
    expect_operation_error(
        command.rotate(false).await,
        "key 3 is already the next key: `keys list` shows when it starts to sign, `keys rotate --now` lets it sign now",
    );
    assert_eq!(app.published_kids().await, ["1"]);
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["1", "3"]);
    assert_eq!(decode(&app.token().await).0["kid"], "1");
    app.pass(2 * HOUR + MINUTE).await;
    assert_eq!(decode(&app.token().await).0["kid"], "3");
}

#[tokio::test]
async fn keys_rotate_now_signs_with_the_new_key_immediately() {
    let app = TestApp::spawn().await;
    let command = command(&app).await;
    command.rotate(true).await.unwrap();
    assert_eq!(phases(&command), [(1, Phase::Retiring), (2, Phase::Expired), (3, Phase::Current)]);
    command.rotate(false).await.unwrap();
    command.rotate(true).await.unwrap();
    let expected = [(1, Phase::Retiring), (2, Phase::Expired), (3, Phase::Retiring), (4, Phase::Current)];
    assert_eq!(phases(&command), expected, "the next key signs, and no other is created");
    app.keyring.tick().await.unwrap();
    assert_eq!(decode(&app.token().await).0["kid"], "4");
}

#[tokio::test]
async fn a_revoked_key_leaves_the_jwks_immediately_and_another_key_signs() {
    let app = TestApp::spawn().await;
    let token = app.token().await;
    let command = command(&app).await;
    command.revoke(Kid(1)).await.unwrap();
    assert_eq!(phases(&command), [(1, Phase::Revoked), (2, Phase::Expired), (3, Phase::Current)]);
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
    assert_eq!(verify(&token, &app.jwks().await), Err("the kid is not in the JWKS".to_owned()));
    assert_eq!(decode(&app.token().await).0["kid"], "3");
    expect_operation_error(command.revoke(Kid(1)).await, "key 1 has already been revoked");
    expect_operation_error(command.revoke(Kid(2)).await, "key 2 has already expired");
    expect_operation_error(command.revoke(Kid(9)).await, "there is no usable key 9");
    app.pass(DAY).await;
    assert_eq!(phases(&app.keyring)[0], (1, Phase::Revoked), "a revoked key stays revoked after its exp");
}

#[tokio::test]
async fn after_a_revocation_the_next_key_signs_before_its_lead() {
    let app = TestApp::spawn().await;
    let command = command(&app).await;
    command.rotate(false).await.unwrap();
    command.revoke(Kid(1)).await.unwrap();
    assert_eq!(phases(&command)[2], (3, Phase::Current));
}

#[tokio::test]
async fn keys_expire_reseals_the_key_with_its_new_exp_and_it_signs_expired_tokens() {
    let app = TestApp::spawn().await;
    let command = command(&app).await;
    app.clock.advance(HOUR);
    command.expire(Kid(1)).await.unwrap();
    let row = sqlx::query("SELECT exp FROM keys WHERE kid = 1").fetch_one(&mut app.db().await).await.unwrap();
    assert_eq!(row.get::<i64, _>("exp"), app.now());
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
    assert_eq!(app.keyring.unreadable(), []);
    let body = json!({"username": "alice", "password": app.register("alice").await});
    let expired = TestResponse::send(app.post("/auth?expired").json(&body)).await.token();
    assert_eq!(decode(&expired).0["kid"], "1");
    expect_operation_error(command.expire(Kid(1)).await, "key 1 has already expired");
}

#[tokio::test]
async fn an_exported_key_can_be_imported_into_another_store_and_verifies_its_tokens() {
    let (here, there) = (TestApp::spawn().await, TestApp::spawn().await);
    let token = here.token().await;
    let pem = command(&here).await.export(Kid(1)).await.unwrap();
    let key = import::parse(pem.as_bytes()).unwrap();

    let command = command(&there).await;
    command.import(&key).await.unwrap();
    assert_eq!(phases(&command), [(1, Phase::Current), (2, Phase::Expired), (3, Phase::Next)]);
    expect_operation_error(command.import(&key).await, "the store already has this key, as key 3");
    command.revoke(Kid(3)).await.unwrap();
    expect_operation_error(
        command.import(&key).await,
        "the store already has this key, as key 3, which was revoked",
    );
    let there = TestApp::spawn().await;
    let command = self::command(&there).await;
    command.import(&key).await.unwrap();
    there.keyring.tick().await.unwrap();
    let (own, imported) = (here.get("/jwks").await.json, there.get("/jwks").await.json);
    assert_eq!(own["keys"][0]["n"], imported["keys"][1]["n"]);
    verify(&token, &here.jwks().await).unwrap();
    there.pass(2 * HOUR + MINUTE).await;
    assert_eq!(decode(&there.token().await).0["kid"], "3");
    let error = command.export(Kid(9)).await.unwrap_err();
    assert!(matches!(error, IssuerError::KeyCommand(KeyCommandError::Unknown(Kid(9)))));
}

#[tokio::test]
async fn the_report_has_the_start_and_end_of_signing_for_each_key() {
    let app = TestApp::spawn().await;
    let begun = app.clock.now();
    app.pass(DAY - TTL - 2 * HOUR - MINUTE).await;
    let made = app.clock.now();
    let report = app.keyring.report();
    let (current, next) = (report[0], report[2]);
    assert_eq!((current.phase, current.signs_from), (Phase::Current, Some(begun)));
    assert_eq!((next.phase, next.created_at), (Phase::Next, made));
    let from = made.plus(2 * HOUR + std::time::Duration::from_secs(1));
    assert_eq!((current.signs_until, next.signs_from), (Some(from), Some(from)));
    let status = app.keyring.rotation_status();
    assert_eq!(status.signing_for, Some(made.since(begun)));
    assert_eq!(status.next_rotation, Some(from));
    assert_eq!(
        status.by_phase.into_iter().collect::<Vec<_>>(),
        [(Phase::Next, 1), (Phase::Current, 1), (Phase::Expired, 1)]
    );
}

#[tokio::test]
async fn a_rekeyed_store_opens_only_with_the_new_master_key_and_keeps_all_keys() {
    let app = TestApp::spawn().await;
    let before = app.jwks().await;
    let context = context(&app.dir, &app.clock).await;
    let old = master_key(&app, crate::helpers::MASTER_KEY).await;
    let new = MasterSecret::parse(NEW_KEY).unwrap();

    let rows = async || {
        sqlx::query_as::<_, (i64, Vec<u8>)>("SELECT kid, key FROM keys")
            .fetch_all(&mut app.db().await)
            .await
            .unwrap()
    };
    let sealed = rows().await;
    let report = issuer::rekey(&context, &old, &new, true).await.unwrap();
    assert_eq!((report.moved, report.left), (vec![Kid(1), Kid(2)], vec![]));
    assert_eq!(rows().await, sealed, "a dry run changes nothing");

    let report = issuer::rekey(&context, &old, &new, false).await.unwrap();
    assert_eq!((report.moved, report.left), (vec![Kid(1), Kid(2)], vec![]));
    let Contents::Ours(record) = database_file(&app.dir).probe().await.unwrap().contents else {
        panic!("the store has a master key");
    };
    assert_eq!(record.number, 2);
    assert!(
        issuer::unlock(&MasterSecret::parse(crate::helpers::MASTER_KEY).unwrap(), record.clone()).is_err()
    );
    let again = issuer::unlock(&new, record).unwrap();
    assert!(matches!(issuer::rekey(&context, &again, &new, false).await, Err(RekeyError::SameKey)));
    let under: Vec<i64> = sqlx::query_scalar("SELECT sealed_under FROM key_lives")
        .fetch_all(&mut app.db().await)
        .await
        .unwrap();
    assert_eq!(under, [2, 2]);

    let TestApp { dir, clock, .. } = app;
    let app = TestApp::with(Setup { dir, clock, master_key: NEW_KEY, ..Setup::default() }).await;
    assert_eq!(app.jwks().await, before);
}

#[tokio::test]
async fn a_rekey_lists_and_keeps_keys_that_the_old_master_key_does_not_open() {
    let app = TestApp::spawn().await;
    sqlx::query("UPDATE keys SET key = x'01' || zeroblob(60) WHERE kid = 2")
        .execute(&mut app.db().await)
        .await
        .unwrap();
    let context = context(&app.dir, &app.clock).await;
    let old = master_key(&app, crate::helpers::MASTER_KEY).await;
    let report = issuer::rekey(&context, &old, &MasterSecret::parse(NEW_KEY).unwrap(), false).await.unwrap();
    assert_eq!((report.moved, report.left), (vec![Kid(1)], vec![Kid(2)]));
}

#[tokio::test]
async fn a_server_with_the_old_master_key_signs_and_publishes_from_memory_and_writes_nothing() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let context = context(&app.dir, &app.clock).await;
    let old = master_key(&app, crate::helpers::MASTER_KEY).await;
    issuer::rekey(&context, &old, &MasterSecret::parse(NEW_KEY).unwrap(), false).await.unwrap();

    // A rotation is due too: it must not seal under the old master key.
    app.clock.advance(DAY - 2 * HOUR);
    for _ in 0..2 {
        let error = app.keyring.tick().await.unwrap_err().to_string();
        assert_eq!(error, "the master key of the store has changed: restart with the new NOT_MY_KEY");
    }
    assert_eq!(app.count("keys").await, 2);
    assert_eq!(app.published_kids().await, ["1"]);
    let token = app.auth("alice", &password).await.token();
    verify(&token, &app.jwks().await).unwrap();
    app.get("/readyz").await.expect_error(
        503,
        "not_ready",
        "Not ready: the store was moved to another master key: restart with the new NOT_MY_KEY",
    );

    let TestApp { dir, clock, .. } = app;
    let app = TestApp::with(Setup { dir, clock, master_key: NEW_KEY, ..Setup::default() }).await;
    verify(&token, &app.jwks().await).unwrap();
    assert_eq!(app.get("/readyz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_server_with_the_old_master_key_still_withdraws_revoked_keys() {
    let app = TestApp::spawn().await;
    let context = context(&app.dir, &app.clock).await;
    let old = master_key(&app, crate::helpers::MASTER_KEY).await;
    issuer::rekey(&context, &old, &MasterSecret::parse(NEW_KEY).unwrap(), false).await.unwrap();
    app.keyring.tick().await.unwrap_err();
    assert_eq!(app.published_kids().await, ["1"]);
    let command =
        Keyring::open(context, master_key(&app, NEW_KEY).await, policy(), KeySpec::default()).await.unwrap();
    command.revoke(Kid(1)).await.unwrap();
    app.keyring.tick().await.unwrap_err();
    app.get("/jwks").await.expect_error(503, "no_key", "There is no key to publish");
    assert!(app.get("/readyz").await.text.contains("restart with the new NOT_MY_KEY"));
}

#[tokio::test]
async fn a_rekey_includes_a_row_without_metadata() {
    let app = TestApp::spawn().await;
    sqlx::query("DELETE FROM key_lives WHERE kid = 1").execute(&mut app.db().await).await.unwrap();
    let context = context(&app.dir, &app.clock).await;
    let old = master_key(&app, crate::helpers::MASTER_KEY).await;
    let report = issuer::rekey(&context, &old, &MasterSecret::parse(NEW_KEY).unwrap(), false).await.unwrap();
    assert_eq!((report.moved, report.left), (vec![Kid(2), Kid(1)], vec![]));
}

#[tokio::test]
async fn a_retiring_key_does_not_sign_again_when_the_current_key_is_corrupt_or_missing() {
    for damage in
        ["UPDATE keys SET key = x'01' || zeroblob(60) WHERE kid = 3", "DELETE FROM keys WHERE kid = 3"]
    {
        let app = TestApp::spawn().await;
        command(&app).await.rotate(true).await.unwrap();
        sqlx::query(damage).execute(&mut app.db().await).await.unwrap();
        app.keyring.tick().await.unwrap();
        let phases = phases(&app.keyring);
        assert!(
            phases.contains(&(1, Phase::Retiring)) && phases.contains(&(4, Phase::Current)),
            "{damage}: {phases:?}"
        );
    }
}

#[tokio::test]
async fn of_two_next_keys_the_one_published_longer_signs_first() {
    let app = TestApp::spawn().await;
    let command = command(&app).await;
    command.rotate(false).await.unwrap();
    app.clock.advance(HOUR);
    command.import(&PrivateKey::generate(NewKey::Rsa2048).unwrap()).await.unwrap();
    command.revoke(Kid(1)).await.unwrap();
    let phases = phases(&command);
    assert_eq!(phases[2..], [(3, Phase::Current), (4, Phase::Next)]);
}

#[tokio::test]
async fn a_clock_set_back_by_more_than_a_lifetime_creates_one_key_and_not_many() {
    let app = TestApp::spawn().await;
    app.pass(DAY - 2 * HOUR).await;
    app.clock.advance(2 * HOUR);
    assert_eq!(app.published_kids().await, ["3"], "the expiry of key 1 is recorded");
    app.clock.set(app.clock.now().minus(10 * DAY));
    for _ in 0..20 {
        app.pass(std::time::Duration::from_secs(1)).await;
    }
    assert!(app.count("keys").await <= 4, "{:?}", phases(&app.keyring));
    let command = command(&app).await;
    command.rotate(true).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(app.get("/readyz").await.status.as_u16(), 200);
    app.token().await;
}

#[tokio::test]
async fn a_token_of_a_key_that_another_process_has_just_revoked_never_leaves() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    command(&app).await.revoke(Kid(1)).await.unwrap();
    // No tick since: this process still thinks that key 1 signs.
    assert_eq!(app.published_kids().await, ["1"]);
    let (app, mut sign_ins) = (Arc::new(app), JoinSet::new());
    for _ in 0..20 {
        let (app, password) = (Arc::clone(&app), password.clone());
        sign_ins.spawn(async move { app.auth("alice", &password).await.token() });
    }
    for token in sign_ins.join_all().await {
        assert_eq!(decode(&token).0["kid"], "3");
    }
    assert_eq!(app.count("auth_logs").await, 20, "each sign-in is recorded once");
    assert_eq!(app.published_kids().await, ["3"]);
}

/// A plan that waited too long for the write lock is made again, at the time when the lock is free.
#[tokio::test]
async fn a_key_counts_as_published_from_the_time_it_is_stored() {
    let app = TestApp::spawn().await;
    let command = command(&app).await;
    let mut blocker = app.db().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut blocker).await.unwrap();
    let rotating = tokio::spawn(async move {
        command.rotate(false).await.unwrap();
        command
    });
    // On a busy machine it takes a while until the key is generated and the lock is asked for; the wait counts from there.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    app.clock.advance(HOUR);
    sqlx::query("COMMIT").execute(&mut blocker).await.unwrap();
    let report = rotating.await.unwrap().report();
    assert_eq!((report[2].phase, report[2].created_at), (Phase::Next, app.clock.now()));
}

#[tokio::test]
async fn a_clock_set_back_by_an_hour_deletes_and_expires_no_key_early_and_no_token_outlives_its_key() {
    let app = TestApp::spawn().await;
    app.pass(DAY - HOUR).await;
    let before = app.published_kids().await;
    app.clock.set(app.clock.now().minus(HOUR));
    for _ in 0..8 {
        app.pass(10 * MINUTE).await;
        assert!(app.published_kids().await.starts_with(&before));
        assert_eq!(app.count("keys").await, 3);
        let (header, claims) = decode(&app.token().await);
        let kid: i64 = header["kid"].as_str().unwrap().parse().unwrap();
        let exp: i64 = sqlx::query_scalar("SELECT exp FROM keys WHERE kid = ?")
            .bind(kid)
            .fetch_one(&mut app.db().await)
            .await
            .unwrap();
        assert!(claims["exp"].as_i64().unwrap() <= exp);
    }
}
