//! Keys rotate in real time, in real processes: fast, in two processes at once, with kills at random moments, and during
//! a rekey.
//!
//! Each soak test takes `SOAK_SECONDS`, 20 by default; `KILLS` sets the number of kills instead. For longer runs by hand:
//! `SOAK_SECONDS=600 KILLS=1000 cargo test --release --test rotation`.

#![expect(clippy::disallowed_methods, reason = "the real program runs in real time")]

#[path = "support/running.rs"]
mod running;
mod support;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Client;
use running::{Repetition, db, jwks, kid, kill_midway, opens, signed_claims, soak_time, two_master_keys};
use serde_json::Value;
use sqlx::SqliteConnection;
use support::{Server, run};

const LEAD: Duration = Duration::from_secs(4);
const FAST: [(&str, &str); 6] = [
    ("KEY_LIFETIME", "14s"),
    ("KEY_LEAD", "4s"),
    ("TOKEN_TTL", "3s"),
    ("JWKS_MAX_AGE", "1s"),
    ("AUTH_MODE", "open"),
    ("AUTH_RATE_LIMIT", "0"),
];
const OPEN: [(&str, &str); 2] = [("AUTH_MODE", "open"), ("AUTH_RATE_LIMIT", "0")];

async fn token(client: &Client, server: &Server) -> String {
    let answer = client.post(format!("{}/auth", server.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

fn kids(set: &JwkSet) -> Vec<i64> {
    set.keys.iter().map(|key| key.common.key_id.as_deref().unwrap().parse().unwrap()).collect()
}

fn verify(token: &str, set: &JwkSet) -> Result<Value, String> {
    let key = set.find(&kid(token).to_string()).ok_or(format!("kid {} is unknown", kid(token)))?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    let claims = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation);
    claims.map(|data| data.claims).map_err(|error| error.to_string())
}

fn unix_millis() -> u128 {
    UNIX_EPOCH.elapsed().unwrap().as_millis()
}

/// A verifier that fetches the JWKS of one server every half lead, and not in between.
struct Verifier {
    jwks: JwkSet,
    read_at: Instant,
}

impl Verifier {
    async fn read_if_due(&mut self, client: &Client, server: &Server) {
        if self.read_at.elapsed() >= LEAD / 2 {
            self.read_at = Instant::now();
            self.jwks = jwks(client, server).await;
        }
    }
}

/// Verifies tokens of the first server through the last one's JWKS, when they are issued and when they expire.
async fn soak(dir: &Path, servers: &[Server], time: Duration, rotate_by_hand: bool) {
    let client = Client::new();
    let (signing, publishing) = (servers.first().unwrap(), servers.last().unwrap());
    let mut verifier = Verifier { jwks: jwks(&client, publishing).await, read_at: Instant::now() };
    let (mut open, mut kids_seen) = (VecDeque::new(), Vec::new());
    let (begun, mut db, mut rotated) = (Instant::now(), db(dir).await, !rotate_by_hand);
    let mut last_refusal = String::new();
    while begun.elapsed() < time {
        // The first key has no next one for about six seconds. Later there nearly always is one, and the command fails.
        if !rotated && begun.elapsed() > Duration::from_secs(1) {
            let output = run(dir, &["keys", "rotate"], &FAST, "");
            rotated = output.status.success();
            last_refusal = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        let token = token(&client, signing).await;
        verifier.read_if_due(&client, publishing).await;
        let claims = verify(&token, &verifier.jwks).unwrap();
        kids_seen.push(kid(&token));
        open.push_back((claims["exp"].as_u64().unwrap(), token));
        while open.front().is_some_and(|(exp, _)| u128::from(*exp) * 1000 < unix_millis() + 600) {
            let (exp, token) = open.pop_front().unwrap();
            if unix_millis() < u128::from(exp) * 1000 - 100 {
                verify(&token, &verifier.jwks).unwrap();
            }
        }
        expect_published(&client, servers, &mut db).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(rotated, "a rotation by hand succeeded: {last_refusal}");
    kids_seen.dedup();
    let expected = usize::try_from(time.as_secs() / 14).unwrap();
    assert!(kids_seen.len() > expected, "too few keys: {kids_seen:?}");
    assert!(kids_seen.is_sorted(), "a former key signed again: {kids_seen:?}");
}

/// Expects no expired key in any JWKS, and at most one next key.
async fn expect_published(client: &Client, servers: &[Server], db: &mut SqliteConnection) {
    let exps: Vec<(i64, i64)> =
        sqlx::query_as("SELECT kid, exp FROM keys").fetch_all(&mut *db).await.unwrap();
    let asked_at = unix_millis();
    for server in servers {
        for kid in kids(&jwks(client, server).await) {
            let exp = exps.iter().find(|(row, _)| *row == kid).map(|(_, exp)| *exp);
            assert!(
                exp.is_none_or(|exp| i128::from(exp) * 1000 > i128::try_from(asked_at).unwrap()),
                "kid {kid}"
            );
        }
    }
    let next: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM keys JOIN key_lives USING (kid)
         WHERE published_at IS NOT NULL AND expired_at IS NULL AND revoked_at IS NULL AND exp > unixepoch()
         AND kid > (SELECT max(kid) FROM key_lives WHERE signs_since IS NOT NULL)",
    )
    .fetch_one(db)
    .await
    .unwrap();
    assert!(next <= 1, "{next} next keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_fetches_the_jwks_every_half_lead_verifies_every_token_for_its_whole_lifetime() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &FAST);
    soak(dir.path(), &[server], soak_time(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_store_rotate_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let servers = [Server::start(dir.path(), &FAST), Server::start(dir.path(), &FAST)];
    soak(dir.path(), &servers, soak_time(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_published_for_the_whole_lead_before_its_first_signature() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &FAST);
    let client = Client::new();
    let first = kid(&token(&client, &server).await);
    let mut published_at = None;
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(30), "the key did not change");
        let signer = kid(&token(&client, &server).await);
        if signer != first {
            let published: Instant = published_at.expect("a key is published before it signs");
            assert!(published.elapsed() >= LEAD, "published for {:?}", published.elapsed());
            break;
        }
        if jwks(&client, &server).await.keys.len() > 1 {
            published_at.get_or_insert_with(Instant::now);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_keys_commands_are_served_within_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &OPEN);
    let client = Client::new();
    let revoked = run(dir.path(), &["keys", "revoke", "1"], &[], "");
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    let done = Instant::now();
    while kids(&jwks(&client, &server).await).contains(&1) {
        assert!(done.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(kid(&token(&client, &server).await), 1);
}

/// Lifetimes so short that a server creates a key every two seconds.
const FASTEST: [(&str, &str); 6] = [
    ("KEY_LIFETIME", "4s"),
    ("KEY_LEAD", "0"),
    ("TOKEN_TTL", "1s"),
    ("JWKS_MAX_AGE", "1s"),
    ("AUTH_MODE", "open"),
    ("AUTH_RATE_LIMIT", "0"),
];

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_during_a_rotation_the_store_opens_and_no_issued_token_loses_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let mut tokens: Vec<(String, JwkSet)> = Vec::new();
    drop(Server::start(dir.path(), &FASTEST));
    let (repetition, mut rounds) = (Repetition::new("KILLS"), 0);
    while repetition.continues_after(rounds) {
        rounds += 1;
        let mut server = Server::start(dir.path(), &FASTEST);
        let rotation =
            kill_midway(dir.path(), &["keys", "rotate", "--now"], &FASTEST, Duration::from_millis(250));
        let issuing = async {
            let until = Instant::now() + Duration::from_millis(rand::random_range(10..900));
            while Instant::now() < until {
                let token = token(&client, &server).await;
                tokens.push((token, jwks(&client, &server).await));
            }
        };
        tokio::join!(rotation, issuing);
        server.child.kill().unwrap();
        server.wait();

        let output = run(dir.path(), &["keys", "list", "--json"], &FASTEST, "");
        let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(listing["unreadable"], serde_json::json!([]));
        let exps: Vec<(i64, i64)> =
            sqlx::query_as("SELECT kid, exp FROM keys").fetch_all(&mut db(dir.path()).await).await.unwrap();
        for (token, set) in tokens.drain(..) {
            let claims = signed_claims(&token, &set).unwrap();
            let (_, exp) =
                exps.iter().find(|(row, _)| *row == kid(&token)).expect("a key is stored before it signs");
            assert!(claims["exp"].as_i64().unwrap() <= *exp);
        }
    }
    let mut db = db(dir.path()).await;
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM key_lives").fetch_one(&mut db).await.unwrap();
    assert!(made > rounds.cast_signed() / 2, "keys were created throughout");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_during_a_rekey_the_store_opens_with_exactly_one_master_key() {
    let dir = tempfile::tempdir().unwrap();
    let keys = two_master_keys();
    let [first, second] = keys.each_ref().map(String::as_str);
    drop(Server::start(dir.path(), &[("NOT_MY_KEY", first)]));
    // The duration of a whole rekey is the range of the kill.
    let begun = Instant::now();
    assert!(
        run(dir.path(), &["rekey"], &[("NOT_MY_KEY", first), ("NEW_NOT_MY_KEY", second)], "")
            .status
            .success()
    );
    let whole = begun.elapsed();
    let (mut now, mut next, mut moved) = (second, first, 0);
    let (repetition, mut rounds) = (Repetition::new("KILLS"), 0);
    while repetition.continues_after(rounds) {
        rounds += 1;
        kill_midway(dir.path(), &["rekey"], &[("NOT_MY_KEY", now), ("NEW_NOT_MY_KEY", next)], whole * 3 / 2)
            .await;
        let (old, new) = (opens(dir.path(), now), opens(dir.path(), next));
        assert!(old != new, "round {rounds}: old {old}, new {new}");
        if new {
            (now, next) = (next, now);
            moved += 1;
        }
    }
    assert!(0 < moved && moved < rounds, "some rekeys commit and some do not: {moved} of {rounds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_during_rotations_of_a_running_server_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let old = ("NOT_MY_KEY", "the first passphrase of two");
    let new = ("NOT_MY_KEY", "the second passphrase of two");
    let with = |key| [&FAST[..], &[key]].concat();
    let server = Server::start(dir.path(), &with(old));
    let client = Client::new();
    tokio::time::sleep(Duration::from_secs(3)).await;

    let moved = run(dir.path(), &["rekey"], &[&with(old)[..], &[("NEW_NOT_MY_KEY", new.1)]].concat(), "");
    let told = String::from_utf8_lossy(&moved.stderr).into_owned();
    assert!(moved.status.success() && told.contains("are sealed under the new master key"), "{told}");

    let before: i64 =
        sqlx::query_scalar("SELECT count(*) FROM keys").fetch_one(&mut db(dir.path()).await).await.unwrap();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let token = token(&client, &server).await;
        verify(&token, &jwks(&client, &server).await).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ready = client.get(format!("{}/readyz", server.url)).send().await.unwrap();
    let status = ready.status();
    let why = ready.text().await.unwrap();
    assert!(status == 503 && why.contains("restart with the new NOT_MY_KEY"), "{status} {why}");
    assert!(server.log().contains("restart with the new NOT_MY_KEY"));
    let after: i64 =
        sqlx::query_scalar("SELECT count(*) FROM keys").fetch_one(&mut db(dir.path()).await).await.unwrap();
    assert_eq!(after, before, "nothing is sealed under the old master key");

    let last = token(&client, &server).await;
    drop(server);
    let server = Server::start(dir.path(), &with(new));
    verify(&last, &jwks(&client, &server).await).unwrap();
    let output = run(dir.path(), &["keys", "list", "--json"], &with(new), "");
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listing["unreadable"], serde_json::json!([]));
}
