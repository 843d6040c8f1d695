//! The keys in the store: sealed, tampered with, imported from another program, rotated.

use std::time::Duration;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use jwksd_core::clock::Clock as _;
use jwksd_core::issuer::{self, Keyring, MasterKeyError};
use jwksd_core::key::KeySpec;
use jwksd_core::key::lifecycle::RotationPolicy;
use jwksd_core::key::seal::MasterSecret;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use jwksd_store_sqlite::Contents;
use sqlx::{Executor as _, Row as _};

use crate::helpers::{
    DAY, HOUR, MASTER_KEY, MINUTE, Setup, TTL, TestApp, TestResponse, context, database, database_file,
    decode, rsa_pem, verify,
};

async fn rows(app: &TestApp) -> Vec<(i64, Vec<u8>, i64)> {
    let rows = sqlx::query("SELECT * FROM keys ORDER BY kid").fetch_all(&mut app.db().await).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn reasons(app: &TestApp) -> Vec<String> {
    app.keyring.unreadable().iter().map(|row| format!("{}: {}", row.kid, row.why)).collect()
}

/// Restarts the service on the same store.
async fn restart(app: TestApp) -> TestApp {
    let TestApp { dir, clock, .. } = app;
    TestApp::with(Setup { dir, clock, ..Setup::default() }).await
}

// Written from the specification only: no code of jwksd decrypts the row.
#[tokio::test]
async fn a_row_opens_as_the_contract_specifies() {
    let app = TestApp::spawn().await;
    let key = base64::engine::general_purpose::URL_SAFE.decode(MASTER_KEY).unwrap();
    let cipher = Aes256Gcm::new_from_slice(&key).unwrap();
    let rows = rows(&app).await;
    assert_eq!(rows.len(), 2);
    for (kid, sealed, exp) in rows {
        assert_eq!(sealed[0], 1);
        let nonce = Nonce::try_from(&sealed[1..13]).unwrap();
        let aad = format!("jwksd:keys:{kid}:{exp}");
        let pem = cipher.decrypt(&nonce, Payload { msg: &sealed[13..], aad: aad.as_bytes() }).unwrap();
        let pem = String::from_utf8(pem).unwrap();
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{}", &pem[..40]);
        assert!(cipher.decrypt(&nonce, Payload { msg: &sealed[13..], aad: b"" }).is_err());
    }
}

#[tokio::test]
async fn a_tampered_row_is_reported_and_ignored_and_the_other_keys_stay_in_use() {
    const TAMPERED: &str = "it was changed after it was sealed: its bytes, its kid or its exp";
    for tampering in [
        "UPDATE keys SET exp = exp + 3600 WHERE kid = 1",
        "UPDATE keys SET key = substr(key, 1, 100) || x'00' || substr(key, 102) WHERE kid = 1",
        "UPDATE keys SET key = (SELECT key FROM keys WHERE kid = 2) WHERE kid = 1",
    ] {
        let app = TestApp::spawn().await;
        app.db().await.execute(tampering).await.unwrap();
        let app = restart(app).await;
        assert_eq!(reasons(&app), [format!("1: {TAMPERED}")], "{tampering}");
        assert_eq!(app.published_kids().await, ["3"]);
        assert_eq!(decode(&app.token().await).0["kid"], "3");
        assert_eq!(rows(&app).await.len(), 3, "the row is not changed");
    }
}

#[tokio::test]
async fn a_running_server_detects_a_tampered_row() {
    let app = TestApp::spawn().await;
    app.db().await.execute("UPDATE keys SET exp = exp + 1 WHERE kid = 1").await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn neither_of_two_swapped_rows_opens() {
    let app = TestApp::spawn().await;
    let mut db = app.db().await;
    for swap in [
        "UPDATE keys SET kid = -1 WHERE kid = 1",
        "UPDATE keys SET kid = 1 WHERE kid = 2",
        "UPDATE keys SET kid = 2 WHERE kid = -1",
    ] {
        db.execute(swap).await.unwrap();
    }
    let app = restart(app).await;
    assert_eq!(reasons(&app).len(), 2, "{:?}", reasons(&app));
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn a_non_integer_exp_and_the_largest_kid_do_not_stop_the_service() {
    for tampering in [
        "UPDATE keys SET exp = 'soon' WHERE kid = 1",
        "UPDATE keys SET exp = x'00' WHERE kid = 1",
        "INSERT INTO keys (kid, key, exp) VALUES (9223372036854775807, x'01', 0)",
    ] {
        let app = TestApp::spawn().await;
        app.db().await.execute(tampering).await.unwrap();
        let app = restart(app).await;
        assert_eq!(reasons(&app).len(), 1, "{tampering}: {:?}", reasons(&app));
        app.pass(DAY).await;
        let kids = app.published_kids().await;
        assert!(kids.len() == 1 && kids[0] != "1", "{tampering}: {kids:?}");
    }
}

#[tokio::test]
async fn when_the_newest_expired_key_is_corrupt_an_older_one_signs_expired_tokens() {
    let app = TestApp::spawn().await;
    app.pass(DAY).await;
    app.db().await.execute("UPDATE keys SET key = x'01' || zeroblob(100) WHERE kid = 1").await.unwrap();
    let app = restart(app).await;
    assert_eq!(reasons(&app).len(), 1, "{:?}", reasons(&app));
    let body = serde_json::json!({"username": "alice", "password": app.register("alice").await});
    let token = TestResponse::send(app.post("/auth?expired").json(&body)).await.token();
    assert_eq!(decode(&token).0["kid"], "2");

    app.db().await.execute("UPDATE keys SET key = x'01' || zeroblob(100) WHERE kid = 2").await.unwrap();
    let app = restart(app).await;
    let body = serde_json::json!({"username": "bob", "password": app.register("bob").await});
    let token = TestResponse::send(app.post("/auth?expired").json(&body)).await.token();
    assert_eq!(decode(&token).0["kid"], "4", "if no expired key opens, one is created");
    let changes = app.count("key_lives").await;
    app.keyring.tick().await.unwrap();
    assert_eq!(app.count("key_lives").await, changes, "the next tick changes nothing");
}

#[tokio::test]
async fn a_row_that_is_sealed_as_the_contract_specifies_is_published() {
    let app = TestApp::spawn().await;
    let key = base64::engine::general_purpose::URL_SAFE.decode(MASTER_KEY).unwrap();
    let pem = rsa_pem();
    let (kid, exp) = (40, app.now() + 1000);
    let aad = format!("jwksd:keys:{kid}:{exp}");
    let payload = Payload { msg: pem.as_bytes(), aad: aad.as_bytes() };
    let sealed = Aes256Gcm::new_from_slice(&key).unwrap().encrypt(&Nonce::from([7; 12]), payload).unwrap();
    let row = [&[1], [7; 12].as_slice(), &sealed].concat();
    sqlx::query("INSERT INTO keys (kid, key, exp) VALUES (?, ?, ?)")
        .bind(kid)
        .bind(row)
        .bind(exp)
        .execute(&mut app.db().await)
        .await
        .unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["1", "40"]);
}

#[tokio::test]
async fn a_wrong_master_key_is_detected_before_anything_is_written() {
    let app = TestApp::spawn().await;
    let Contents::Ours(record) = database_file(&app.dir).probe().await.unwrap().contents else {
        panic!("the store has a master key");
    };
    let wrong = MasterSecret::parse("another passphrase").unwrap();
    let error = issuer::unlock(&wrong, record).unwrap_err();
    assert!(matches!(error, MasterKeyError::WrongMasterKey));
    assert_eq!(
        error.to_string(),
        "NOT_MY_KEY is not the key that this store was sealed with; nothing was changed"
    );
}

#[tokio::test]
async fn keys_and_accounts_survive_a_restart() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let token = app.auth("alice", &password).await.token();
    let before = app.jwks().await;
    let app = restart(app).await;
    assert_eq!(app.jwks().await, before);
    verify(&token, &app.jwks().await).unwrap();
    assert_eq!(decode(&app.auth("alice", &password).await.token()).0["kid"], "1");
}

const FOREIGN: &str = "
    CREATE TABLE keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL);
    CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL, email TEXT UNIQUE, date_registered TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        last_login TIMESTAMP);
    CREATE TABLE auth_logs(id INTEGER PRIMARY KEY AUTOINCREMENT, request_ip TEXT NOT NULL,
        request_timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, user_id INTEGER,
        FOREIGN KEY(user_id) REFERENCES users(id));";

/// A hash of `password` from the tests of the Argon2 reference implementation.
const FOREIGN_HASH: &str =
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

#[tokio::test]
async fn the_database_of_another_implementation_is_imported() {
    let setup = Setup::default();
    let now = setup.clock.now().as_secs();
    let mut db = database(&setup.dir).await;
    db.execute(FOREIGN).await.unwrap();
    let valid = rsa_pem();
    let expired = rsa_pem();
    for (key, exp) in
        [(valid.as_bytes(), now + 3600), (expired.as_bytes(), now - 3600), (b"gAAAAABfernet", now + 3600)]
    {
        sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)")
            .bind(key)
            .bind(exp)
            .execute(&mut db)
            .await
            .unwrap();
    }
    // Stored as TEXT, and too short to be used.
    let short = include_str!("../../crates/jose/tests/data/rsa-1024.pem");
    sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)")
        .bind(short)
        .bind(now + 3600)
        .execute(&mut db)
        .await
        .unwrap();
    for name in ["José", "Bob", "bob"] {
        sqlx::query("INSERT INTO users (username, password_hash) VALUES (?, ?)")
            .bind(name)
            .bind(FOREIGN_HASH)
            .execute(&mut db)
            .await
            .unwrap();
    }

    let app = TestApp::with(setup).await;
    assert_eq!(
        app.published_kids().await,
        ["1", "5"],
        "a next key is due, because the imported key expires in an hour"
    );
    for name in ["José", "Bob", "bob"] {
        let token = app.auth(name, "password").await.token();
        assert_eq!(decode(&token).1["sub"], *name);
        verify(&token, &app.jwks().await).unwrap();
    }
    let rows = rows(&app).await;
    assert!(rows[..2].iter().all(|(_, key, _)| key[0] == 1), "plaintext keys are sealed in place");
    assert_eq!(rows[2].1, b"gAAAAABfernet");
    assert_eq!(rows[3].1, short.as_bytes());
    let file = std::fs::read(crate::helpers::path(&app.dir)).unwrap();
    for line in valid.lines().chain(expired.lines()).filter(|line| line.len() == 64) {
        assert!(
            !file.windows(64).any(|window| window == line.as_bytes()),
            "a plaintext key is still in the file"
        );
    }
    assert_eq!(
        reasons(&app),
        [
            "3: it is not sealed by jwksd: another program wrote it",
            "4: its private key lies in the file in the clear, and cannot be used: the RSA key has 1024 bits: use 2048 \
             to 8192"
        ]
    );

    let answer =
        app.post("/register").json(&serde_json::json!({"username": "BOB", "email": "b@example.com"}));
    assert_eq!(answer.send().await.unwrap().status().as_u16(), 409);
}

#[tokio::test]
async fn a_plaintext_key_that_appears_later_is_not_trusted() {
    let app = TestApp::spawn().await;
    let pem = rsa_pem();
    sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)")
        .bind(pem.as_bytes())
        .bind(app.now() + 1000)
        .execute(&mut app.db().await)
        .await
        .unwrap();
    let app = restart(app).await;
    assert_eq!(app.published_kids().await, ["1"]);
    assert_eq!(reasons(&app), ["3: its private key lies in the file in the clear"]);
}

/// A store that another program made, with one key that expires at this time.
async fn foreign_store(setup: &Setup, exp: i64) {
    let mut db = database(&setup.dir).await;
    db.execute(FOREIGN).await.unwrap();
    sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)")
        .bind(rsa_pem().as_bytes())
        .bind(exp)
        .execute(&mut db)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_taken_over_key_that_outlives_the_policy_ends_one_token_lifetime_after_its_successor_signs() {
    let setup = Setup::default();
    let far = setup.clock.now().as_secs() + 10 * 365 * 86_400;
    foreign_store(&setup, far).await;
    let app = TestApp::with(setup).await;
    let token = app.token().await;
    assert_eq!(decode(&token).0["kid"], "1");
    assert_eq!(app.published_kids().await, ["1", "2"]);
    assert_eq!(rows(&app).await[0].2, far);
    app.pass(2 * HOUR + Duration::from_secs(1)).await;
    assert_eq!(decode(&app.token().await).0["kid"], "2");
    assert_eq!(rows(&app).await[0].2, app.now() + 15 * 60 + 3);
    verify(&token, &app.jwks().await).unwrap();
    app.pass(TTL + Duration::from_secs(3)).await;
    assert_eq!(app.published_kids().await, ["2"]);
    assert_eq!(reasons(&app), Vec::<String>::new());
}

#[tokio::test]
async fn a_first_start_a_year_ahead_leaves_no_key_published_after_the_tokens_of_proper_length() {
    let setup = Setup::default();
    let now = setup.clock.now();
    setup.clock.set(now.plus(365 * DAY));
    let app = TestApp::with(setup).await;
    assert_eq!(app.published_kids().await, ["1"]);
    app.clock.set(now);
    let app = restart(app).await;
    assert_eq!(app.published_kids().await, ["1", "3"]);
    app.pass(2 * HOUR + Duration::from_secs(1)).await;
    assert_eq!(decode(&app.token().await).0["kid"], "3");
    app.pass(TTL + Duration::from_secs(3)).await;
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn a_shorter_token_ttl_ends_no_key_before_the_tokens_of_the_longer_one() {
    let app = TestApp::spawn().await;
    let token = app.token().await;
    let TestApp { dir, clock, .. } = app;
    let (ttl, second) = (Duration::from_secs(5), Duration::from_secs(1));
    let policy = RotationPolicy::new(HOUR, 7 * DAY, Duration::ZERO, ttl, second).unwrap();
    let app = TestApp::with(Setup { dir, policy, clock, ..Setup::default() }).await;
    assert_eq!(app.published_kids().await, ["1", "3"]);
    app.pass(TTL - second).await;
    verify(&token, &app.jwks().await).unwrap();
    app.pass(Duration::from_secs(5)).await;
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn a_taken_over_key_that_has_expired_is_kept_for_a_week_whatever_the_retention() {
    let policy = RotationPolicy::new(DAY, Duration::ZERO, 2 * HOUR, TTL, 5 * MINUTE).unwrap();
    let setup = Setup { policy, ..Setup::default() };
    let now = setup.clock.now().as_secs();
    foreign_store(&setup, now - 86_400).await;
    sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)")
        .bind(rsa_pem().as_bytes())
        .bind(now - 3600)
        .execute(&mut database(&setup.dir).await)
        .await
        .unwrap();
    let app = TestApp::with(setup).await;
    let kids = async || rows(&app).await.iter().map(|row| row.0).collect::<Vec<_>>();
    app.pass(6 * DAY).await;
    assert_eq!(kids().await[..2], [1, 2]);
    app.pass(DAY).await;
    assert!(!kids().await.contains(&1), "{:?}", kids().await);
}

#[tokio::test]
async fn a_number_near_the_end_of_its_range_creates_no_key_and_is_named() {
    let app = TestApp::spawn().await;
    app.db()
        .await
        .execute("INSERT INTO key_lives (kid, made_at) VALUES (9223372036854775800, 1)")
        .await
        .unwrap();
    let error = app.keyring.rotate(false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kid 9223372036854775801 is too close to the end of its range to create further keys: start with a new store"
    );
}

#[tokio::test]
async fn a_row_of_another_program_near_the_end_of_the_range_does_not_stop_the_rotation() {
    let app = TestApp::spawn().await;
    app.db()
        .await
        .execute("INSERT INTO keys (kid, key, exp) VALUES (9223372036854775806, 'x', 1900000000)")
        .await
        .unwrap();
    app.keyring.rotate(false).await.unwrap();
    assert_eq!(app.published_kids().await, ["1", "3"]);
}

#[tokio::test]
async fn a_hundred_keys_are_published_and_no_more() {
    let setup = Setup::default();
    let exp = setup.clock.now().as_secs() + 50_000;
    foreign_store(&setup, exp).await;
    let pems: Vec<_> = std::thread::scope(|scope| {
        let half = || (0..51).map(|_| rsa_pem()).collect::<Vec<_>>();
        let threads = [scope.spawn(half), scope.spawn(half)];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut db = database(&setup.dir).await;
    for pem in pems {
        sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)")
            .bind(pem.as_bytes())
            .bind(exp)
            .execute(&mut db)
            .await
            .unwrap();
    }
    drop(db);
    let app = TestApp::with(setup).await;
    let signer = decode(&app.token().await).0["kid"].as_str().unwrap().to_owned();
    let published = app.published_kids().await;
    assert_eq!(published.len(), 100);
    assert_eq!(
        (published[0].as_str(), published[1].as_str(), published[99].as_str()),
        (&*signer, "5", "103")
    );
    assert_eq!(app.keyring.published().len(), 100);
    let error = app.keyring.import(&PrivateKey::generate(NewKey::Rsa2048).unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "100 keys are published, which is the maximum: revoke or expire some first"
    );
}

#[tokio::test]
async fn a_database_with_other_tables_is_refused_unchanged() {
    let setup = Setup::default();
    let mut db = database(&setup.dir).await;
    db.execute("CREATE TABLE keys(id INTEGER PRIMARY KEY, pem TEXT)").await.unwrap();
    let error = database_file(&setup.dir).probe().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "its table keys has the columns id,pem instead of kid,key,exp: nothing was changed; change that table, or \
         name another file and add the keys of this one there with `jwksd keys import`"
    );
}

/// The first two migrations are the schema of the first release.
#[tokio::test]
async fn a_store_of_the_first_schema_opens_with_its_keys_and_accounts() {
    let setup = Setup::default();
    let mut db = database(&setup.dir).await;
    sqlx::migrate!("migrations/sqlite").run_to(2, &mut db).await.unwrap();
    let key = base64::engine::general_purpose::URL_SAFE.decode(MASTER_KEY).unwrap();
    let cipher = Aes256Gcm::new_from_slice(&key).unwrap();
    let seal = |text: &[u8], aad: &str| {
        let payload = Payload { msg: text, aad: aad.as_bytes() };
        [&[1], [9; 12].as_slice(), &cipher.encrypt(&Nonce::from([9; 12]), payload).unwrap()].concat()
    };
    let (pem, exp) = (rsa_pem(), setup.clock.now().as_secs() + 50_000);
    sqlx::query("INSERT INTO master_key (id, salt, check_value) VALUES (1, zeroblob(16), ?)")
        .bind(seal(b"jwksd", "jwksd:master_key"))
        .execute(&mut db)
        .await
        .unwrap();
    sqlx::query("INSERT INTO keys (kid, key, exp) VALUES (7, ?, ?)")
        .bind(seal(pem.as_bytes(), &format!("jwksd:keys:7:{exp}")))
        .bind(exp)
        .execute(&mut db)
        .await
        .unwrap();
    db.execute("INSERT INTO key_lives (kid, made_at, published_at, signs_since) VALUES (7, 1, 1, 1)")
        .await
        .unwrap();
    sqlx::query("INSERT INTO users (username, password_hash) VALUES ('alice', ?)")
        .bind(FOREIGN_HASH)
        .execute(&mut db)
        .await
        .unwrap();

    let app = TestApp::with(setup).await;
    assert_eq!(app.published_kids().await, ["7"]);
    assert_eq!(decode(&app.auth("alice", "password").await.token()).0["kid"], "7");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_and_a_newer_schema_are_refused() {
    let setup = Setup::default();
    std::fs::write(crate::helpers::path(&setup.dir), "x".repeat(5000)).unwrap();
    let error = database_file(&setup.dir).probe().await.unwrap_err();
    assert_eq!(error.to_string(), "it is not a SQLite database");

    let app = TestApp::spawn().await;
    app.db().await.execute("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 2").await.unwrap();
    let error = database_file(&app.dir).probe().await.unwrap_err();
    assert_eq!(error.to_string(), "its schema is at version 9999: a newer jwksd made it");
}

#[tokio::test]
async fn a_new_key_is_published_for_its_lead_before_it_signs_and_an_old_one_until_its_tokens_expire() {
    let app = TestApp::spawn().await;
    let first = app.token().await;
    app.pass(DAY - TTL - 2 * HOUR - 2 * MINUTE).await;
    assert_eq!(app.published_kids().await, ["1"]);
    app.pass(2 * MINUTE).await;
    assert_eq!(app.published_kids().await, ["1", "3"]);
    assert_eq!(decode(&app.token().await).0["kid"], "1");
    app.pass(2 * HOUR).await;
    assert_eq!(decode(&app.token().await).0["kid"], "1", "the key is published for less than its lead");
    app.pass(Duration::from_secs(1)).await;
    assert_eq!(decode(&app.token().await).0["kid"], "3");
    assert_eq!(app.published_kids().await, ["1", "3"]);
    verify(&first, &app.jwks().await).unwrap();
    app.pass(TTL).await;
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn expired_keys_are_deleted_after_the_retention_except_the_newest() {
    let app = TestApp::spawn().await;
    app.pass(DAY).await;
    app.pass(8 * DAY).await;
    let kids = async || rows(&app).await.iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(kids().await, [3, 4], "the newest expired key and the signing key");
    let body = serde_json::json!({"username": "alice", "password": app.register("alice").await});
    let expired = TestResponse::send(app.post("/auth?expired").json(&body)).await.token();
    assert_eq!(decode(&expired).0["kid"], "3");
}

#[tokio::test]
async fn a_clock_set_forward_deletes_no_key() {
    let app = TestApp::spawn().await;
    app.pass(DAY).await;
    app.clock.set(app.clock.now().plus(30 * DAY));
    app.pass(Duration::ZERO).await;
    let kids: Vec<_> = rows(&app).await.iter().map(|row| row.0).collect();
    assert_eq!(kids, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_token_never_outlives_its_key() {
    let app = TestApp::spawn().await;
    app.register("alice").await;
    app.clock.advance(DAY - MINUTE);
    let claims = decode(&app.token().await).1;
    let exp = rows(&app).await[0].2;
    assert_eq!(claims["exp"], exp);
}

#[tokio::test]
async fn changes_of_another_process_are_served_after_one_tick() {
    let app = TestApp::spawn().await;
    app.clock.advance(DAY);
    let other = other_process(&app).await;
    assert_eq!(rows(&app).await.len(), 3);
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
    assert_eq!(rows(&app).await.len(), 3, "one new key, not two");
    drop(other);
}

/// A second keyring on the same file, as another process has one.
async fn other_process(app: &TestApp) -> Keyring {
    let Contents::Ours(record) = database_file(&app.dir).probe().await.unwrap().contents else {
        panic!("the store has a master key");
    };
    let master_key = issuer::unlock(&MasterSecret::parse(MASTER_KEY).unwrap(), record).unwrap();
    let keyring = Keyring::open(
        context(&app.dir, &app.clock).await,
        master_key,
        Setup::default().policy,
        KeySpec::default(),
    );
    let keyring = keyring.await.unwrap();
    keyring.tick().await.unwrap();
    keyring
}
