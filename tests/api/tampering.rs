//! What an attacker who writes the store's file, but does not have `NOT_MY_KEY`, can and cannot do.

use jsonwebtoken::jwk::JwkSet;
use jwksd_core::issuer::Keyring;
use jwksd_core::key::uploaded_set::UploadedSet;
use jwksd_core::key::{KeySpec, Kid};
use jwksd_core::password::{Hasher, Password, Salt};
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sqlx::Executor as _;

use crate::helpers::{Setup, TestApp, context, decode, master_key, rsa_pem, verify};

fn keyring(app: &TestApp) -> &Keyring {
    &app.keyring
}

/// Writes to the file, and runs a tick in which the service reads it.
async fn write(app: &TestApp, sql: &'static str) {
    app.db().await.execute(sqlx::raw_sql(sql)).await.unwrap();
    keyring(app).tick().await.unwrap();
}

/// What a server publishes that starts now.
async fn kids_after_a_restart(app: &TestApp) -> Vec<String> {
    let context = context(&app.dir, &app.clock).await;
    let master_key = master_key(Setup::default().master_key, &context).await;
    let keyring =
        Keyring::open(context, master_key, Setup::default().policy, KeySpec::default()).await.unwrap();
    let set: JwkSet = serde_json::from_slice(&keyring.publication().unwrap().body).unwrap();
    set.keys.into_iter().map(|key| key.common.key_id.unwrap()).collect()
}

/// Uploads an external key for each `kid` and `exp`.
async fn upload(app: &TestApp, keys: &[(&str, Option<i64>)]) {
    let keys: Vec<_> = keys
        .iter()
        .map(|(kid, exp)| {
            let public = PrivateKey::generate(NewKey::Rsa2048).unwrap().public().clone();
            let algorithm = public.key_type().default_algorithm();
            let jwk = Jwk::new(public, (*kid).to_owned(), algorithm).unwrap();
            let mut jwk = serde_json::to_value(jwk).unwrap();
            if let Some(exp) = exp {
                jwk["exp"] = (*exp).into();
            }
            jwk
        })
        .collect();
    let set = serde_json::json!({"keys": keys}).to_string();
    keyring(app).upload(UploadedSet::parse(set.as_bytes()).unwrap().keys).await.unwrap();
}

#[tokio::test]
async fn an_old_copy_of_a_whole_row_is_accepted_by_the_next_start_but_not_by_a_server_that_saw_the_end() {
    let app = TestApp::spawn().await;
    write(&app, "CREATE TABLE kept AS SELECT * FROM keys WHERE kid = 1").await;
    keyring(&app).expire(Kid(1)).await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
    let sql = "UPDATE keys SET key = (SELECT key FROM kept), exp = (SELECT exp FROM kept) WHERE kid = 1;
               UPDATE key_lives SET expired_at = NULL WHERE kid = 1";
    app.db().await.execute(sqlx::raw_sql(sql)).await.unwrap();
    assert_eq!(kids_after_a_restart(&app).await, ["1", "3"], "a sealed row does not record its age");
    keyring(&app).tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
    assert_eq!(kids_after_a_restart(&app).await, ["3"], "the end is recorded again");
}

#[tokio::test]
async fn deleting_the_record_of_a_revocation_undoes_it_for_the_next_start_but_not_for_a_running_server() {
    let app = TestApp::spawn().await;
    let token = app.token().await;
    keyring(&app).revoke(Kid(1)).await.unwrap();
    assert_eq!(verify(&token, &app.jwks().await), Err("the kid is not in the JWKS".to_owned()));
    app.db().await.execute("UPDATE key_lives SET revoked_at = NULL WHERE kid = 1").await.unwrap();
    assert_eq!(kids_after_a_restart(&app).await, ["1", "3"]);
    keyring(&app).tick().await.unwrap();
    assert_eq!(verify(&token, &app.jwks().await), Err("the kid is not in the JWKS".to_owned()));
    assert_eq!(kids_after_a_restart(&app).await, ["3"], "the revocation is recorded again");
}

#[tokio::test]
async fn a_withdrawn_external_key_can_be_restored() {
    let app = TestApp::spawn().await;
    upload(&app, &[("mine", None)]).await;
    write(&app, "CREATE TABLE kept AS SELECT * FROM uploaded_keys").await;
    keyring(&app).withdraw("mine").await.unwrap();
    assert_eq!(app.published_kids().await, ["1"]);
    write(&app, "INSERT INTO uploaded_keys SELECT * FROM kept").await;
    assert_eq!(app.published_kids().await, ["1", "mine"]);
}

#[tokio::test]
async fn an_external_key_opens_only_with_its_own_kid_and_exp() {
    for tampering in [
        "UPDATE uploaded_keys SET kid = 'c' WHERE kid = 'a'",
        "UPDATE uploaded_keys SET exp = exp + 1 WHERE kid = 'a'",
        "UPDATE uploaded_keys SET exp = NULL WHERE kid = 'a'",
        "UPDATE uploaded_keys SET jwk = (SELECT jwk FROM uploaded_keys WHERE kid = 'b') WHERE kid = 'a'",
        "UPDATE uploaded_keys SET jwk = substr(jwk, 1, 60) || x'00' || substr(jwk, 62) WHERE kid = 'a'",
    ] {
        let app = TestApp::spawn().await;
        let exp = app.now() + 1000;
        upload(&app, &[("a", Some(exp)), ("b", Some(exp))]).await;
        assert_eq!(app.published_kids().await, ["1", "a", "b"]);
        write(&app, tampering).await;
        assert_eq!(app.published_kids().await, ["1", "b"], "{tampering}");
    }
}

#[tokio::test]
async fn a_value_sealed_for_one_table_does_not_open_in_another() {
    let app = TestApp::spawn().await;
    upload(&app, &[("mine", None)]).await;
    let before = app.get("/jwks").await.text;
    write(
        &app,
        "INSERT INTO uploaded_keys SELECT kid, key, exp, 0 FROM keys WHERE kid = 1;
         INSERT INTO keys (kid, key, exp) SELECT 50, jwk, 4102444800 FROM uploaded_keys WHERE kid = 'mine';
         INSERT INTO keys (kid, key, exp) SELECT 51, check_value, 4102444800 FROM master_key",
    )
    .await;
    assert_eq!(app.get("/jwks").await.text, before, "a private key is not published as a public one");
    let unreadable: Vec<_> = keyring(&app).unreadable().iter().map(|row| row.kid).collect();
    assert_eq!(unreadable, [Kid(50), Kid(51)]);
}

#[tokio::test]
async fn a_store_without_its_master_key_record_imports_plaintext_keys() {
    let app = TestApp::spawn().await;
    let pem = rsa_pem();
    sqlx::query("INSERT INTO keys (kid, key, exp) VALUES (50, ?, ?)")
        .bind(pem.as_bytes())
        .bind(app.now() + 1000)
        .execute(&mut app.db().await)
        .await
        .unwrap();
    keyring(&app).tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["1"]);
    app.db().await.execute("DELETE FROM master_key").await.unwrap();
    let TestApp { dir, clock, .. } = app;
    let app = TestApp::with(Setup { dir, clock, ..Setup::default() }).await;
    assert_eq!(app.published_kids().await, ["1", "50"], "it looks like another program's store");
}

#[tokio::test]
async fn a_hash_with_an_extreme_cost_does_not_delay_other_sign_ins() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    app.register("bob").await;
    for cost in ["m=4194304000,t=1,p=1", "m=19456,t=4294967295,p=1"] {
        sqlx::query("UPDATE users SET password_hash = ? WHERE username = 'bob'")
            .bind(format!("$argon2id$v=19${cost}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"))
            .execute(&mut app.db().await)
            .await
            .unwrap();
        for name in ["alice", "bob", "unknown"] {
            let answer = app.auth(name, "wrong").await;
            answer.expect_error(401, "invalid_credentials", "Invalid username or password");
        }
        app.auth("alice", &password).await.token();
    }
}

#[tokio::test]
async fn an_attacker_who_writes_a_hash_can_sign_in_to_that_account() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    app.accounts.disable("alice").await.unwrap();
    let theirs = Password::assigned("chosen by the attacker".to_owned()).unwrap();
    let hash =
        Hasher::new(8, 1, 1).unwrap().hash(&theirs, &Salt::generate(&mut StdRng::seed_from_u64(1))).unwrap();
    sqlx::query("UPDATE users SET password_hash = ?")
        .bind(hash.as_str())
        .execute(&mut app.db().await)
        .await
        .unwrap();
    write(&app, "DELETE FROM account_states").await;
    assert_eq!(app.auth("alice", &password).await.status, 401);
    let token = app.auth("alice", theirs.reveal()).await.token();
    verify(&token, &app.jwks().await).unwrap();
    assert_eq!(decode(&token).1["sub"], "alice");
}
