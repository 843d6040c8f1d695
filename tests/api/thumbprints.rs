//! One key is published once, under one `kid`, and what was revoked never comes back.

use jwksd_core::issuer::{IssuerError, Keyring};
use jwksd_core::key::{KeySpec, Kid};
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use serde_json::Value;

use crate::helpers::{DAY, MASTER_KEY, Setup, TestApp, TestResponse, context, master_key};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn app() -> TestApp {
    TestApp::with(Setup { admin_token: Some(TOKEN), ..Setup::default() }).await
}

/// The keyring of a second process on the same store.
async fn command(app: &TestApp) -> Keyring {
    let context = context(&app.dir, &app.clock).await;
    let master_key = master_key(MASTER_KEY, &context).await;
    Keyring::open(context, master_key, Setup::default().policy, KeySpec::default()).await.unwrap()
}

fn jwk(key: &PrivateKey, kid: &str) -> Value {
    let algorithm = key.public().key_type().default_algorithm();
    serde_json::to_value(Jwk::new(key.public().clone(), kid.to_owned(), algorithm).unwrap()).unwrap()
}

async fn upload(app: &TestApp, jwk: &Value) -> TestResponse {
    TestResponse::send(app.post("/upload").bearer_auth(TOKEN).body(jwk.to_string())).await
}

/// The `kid` of each published key that is this one.
async fn kids_of(app: &TestApp, key: &PrivateKey) -> Vec<Value> {
    let n = jwk(key, "any")["n"].clone();
    let keys = app.get("/jwks").await.json["keys"].as_array().unwrap().clone();
    keys.into_iter().filter(|key| key["n"] == n).map(|key| key["kid"].clone()).collect()
}

#[track_caller]
fn expect_refused(done: Result<(), IssuerError>, expected: &str) {
    match done {
        Err(IssuerError::KeyCommand(why)) => assert_eq!(why.to_string(), expected),
        other => panic!("{other:?}"),
    }
}

async fn sql(app: &TestApp, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut app.db().await).await.unwrap();
}

/// A key of our own that is published as the external key `theirs` too, as older versions allowed it.
async fn published_twice(app: &TestApp) -> PrivateKey {
    let key = PrivateKey::generate(NewKey::Rsa2048).unwrap();
    upload(app, &jwk(&key, "theirs")).await;
    sql(app, "CREATE TABLE kept AS SELECT * FROM uploaded_keys; DELETE FROM uploaded_keys").await;
    command(app).await.import(&key).await.unwrap();
    sql(app, "INSERT INTO uploaded_keys SELECT * FROM kept; DROP TABLE kept").await;
    key
}

#[tokio::test]
async fn a_key_that_was_uploaded_is_not_imported_as_well() {
    let app = app().await;
    let key = PrivateKey::generate(NewKey::Rsa2048).unwrap();
    upload(&app, &jwk(&key, "theirs")).await;
    let command = command(&app).await;
    expect_refused(
        command.import(&key).await,
        "the store publishes this key already, as the external key \"theirs\": withdraw that one first, with `jwksd keys \
         withdraw`",
    );
    app.keyring.tick().await.unwrap();
    assert_eq!(kids_of(&app, &key).await, ["theirs"]);
    command.withdraw("theirs").await.unwrap();
    command.import(&key).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(kids_of(&app, &key).await, ["3"]);
    let sentence = "The keys cannot be published: the key \"theirs\" is our own key 3";
    upload(&app, &jwk(&key, "theirs")).await.expect_error(400, "invalid_jwk", sentence);
}

#[tokio::test]
async fn a_key_that_is_published_twice_is_published_once_after_the_next_tick() {
    let app = app().await;
    let key = published_twice(&app).await;
    app.keyring.tick().await.unwrap();
    assert_eq!(kids_of(&app, &key).await, ["3"]);
    assert_eq!(app.count("uploaded_keys").await, 0);
    // A new process publishes it once from the start.
    let key = published_twice(&app).await;
    let other = command(&app).await;
    let published = other.publication().unwrap().body;
    let n = jwk(&key, "any")["n"].as_str().unwrap().to_owned();
    assert_eq!(String::from_utf8_lossy(&published).matches(&n).count(), 1);
}

#[tokio::test]
async fn revoking_or_expiring_a_key_takes_its_external_twin_with_it() {
    for revoke in [true, false] {
        let app = app().await;
        let key = published_twice(&app).await;
        let command = command(&app).await;
        if revoke {
            command.revoke(Kid(3)).await.unwrap();
        } else {
            command.expire(Kid(3)).await.unwrap();
        }
        app.keyring.tick().await.unwrap();
        assert_eq!(kids_of(&app, &key).await, Vec::<Value>::new());
        assert_eq!(app.count("uploaded_keys").await, 0);
    }
}

#[tokio::test]
async fn a_revoked_key_is_remembered_after_its_row_is_gone() {
    let app = app().await;
    let key = PrivateKey::generate(NewKey::Rsa2048).unwrap();
    app.keyring.import(&key).await.unwrap();
    app.keyring.revoke(Kid(3)).await.unwrap();
    for _ in 0..12 {
        app.pass(DAY).await;
    }
    assert!(!app.keyring.report().iter().any(|key| key.kid == Kid(3)), "its row is gone");
    let refusal = "this key was revoked in this store, so it is never used again: generate another one";
    expect_refused(app.keyring.import(&key).await, refusal);
    expect_refused(command(&app).await.import(&key).await, refusal);
    let sentence = "The keys cannot be published: the key \"theirs\" was revoked in this store, so it is never published again";
    upload(&app, &jwk(&key, "theirs")).await.expect_error(400, "invalid_jwk", sentence);
    assert_eq!(kids_of(&app, &key).await, Vec::<Value>::new());
    // A key that only expired may be used again.
    let expired = PrivateKey::generate(NewKey::Rsa2048).unwrap();
    app.keyring.import(&expired).await.unwrap();
    let kid = app.keyring.report().last().unwrap().kid;
    app.keyring.expire(kid).await.unwrap();
    for _ in 0..12 {
        app.pass(DAY).await;
    }
    app.keyring.import(&expired).await.unwrap();
}

#[tokio::test]
async fn keys_from_before_thumbprints_were_recorded_are_compared_too() {
    let app = app().await;
    let key = PrivateKey::generate(NewKey::Rsa2048).unwrap();
    app.keyring.import(&key).await.unwrap();
    app.keyring.revoke(Kid(3)).await.unwrap();
    sql(
        &app,
        "DELETE FROM key_thumbprints; DELETE FROM revoked_thumbprints;
         INSERT INTO keys_without_thumbprint SELECT kid FROM keys",
    )
    .await;
    let command = command(&app).await;
    expect_refused(command.import(&key).await, "the store already has this key, as key 3, which was revoked");
    assert_eq!(app.count("keys_without_thumbprint").await, 0);
    assert_eq!(app.count("key_thumbprints").await, 3);
    assert_eq!(app.count("revoked_thumbprints").await, 1);
    let sentence = "The keys cannot be published: the key \"theirs\" is our own key 3";
    upload(&app, &jwk(&key, "theirs")).await.expect_error(400, "invalid_jwk", sentence);
}

#[tokio::test]
async fn a_start_records_the_thumbprints_of_all_keys_and_skips_rows_that_do_not_open() {
    let app = app().await;
    sql(
        &app,
        "UPDATE keys SET key = x'00' WHERE kid = 2;
         DELETE FROM key_thumbprints; INSERT INTO keys_without_thumbprint SELECT kid FROM keys",
    )
    .await;
    let other = command(&app).await;
    for _ in 0..3 {
        other.tick().await.unwrap();
    }
    assert_eq!(app.count("keys_without_thumbprint").await, 0);
    let recorded: Vec<(i64, bool)> =
        sqlx::query_as("SELECT kid, thumbprint <> '' FROM key_thumbprints ORDER BY kid")
            .fetch_all(&mut app.db().await)
            .await
            .unwrap();
    assert_eq!(recorded[..2], [(1, true), (2, false)]);
}
