//! Hundreds of thousands of keys that have ended may be kept. A round of the rotation reads and remembers only a few.

use std::collections::BTreeMap;

use jwksd_core::clock::Clock as _;
use jwksd_core::key::Kid;
use jwksd_core::key::lifecycle::Phase;

use crate::helpers::{DAY, TestApp};

const KEPT: i64 = 1000;

/// Adds keys that expired six days ago, of which retention leaves one day.
async fn add_kept_keys(app: &TestApp) {
    let (now, at) = (app.now(), app.clock.now().minus(6 * DAY).as_millis());
    let mut db = app.db().await;
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO keys (kid, key, exp) SELECT 100 + i, x'00', ?2 - 6 * 86400 - i % 60 FROM n",
    )
    .bind(KEPT)
    .bind(now)
    .execute(&mut db)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO key_lives (kid, made_at, published_at, signs_since, expired_at, revoked_at)
         SELECT kid, ?1, ?1, iif(kid % 2, ?1, NULL), ?1, iif(kid % 10, NULL, ?1) FROM keys WHERE kid > 100",
    )
    .bind(at)
    .execute(&mut db)
    .await
    .unwrap();
}

async fn ticks(app: &TestApp, count: usize) {
    for _ in 0..count {
        app.keyring.tick().await.unwrap();
    }
}

#[tokio::test]
async fn a_round_remembers_few_of_the_kept_keys_and_all_are_listed_and_counted() {
    let app = TestApp::spawn().await;
    add_kept_keys(&app).await;
    ticks(&app, 8).await;
    assert!(app.keyring.report().len() < 210, "{}", app.keyring.report().len());
    assert_eq!(app.keyring.full_report().await.unwrap().len(), 1003);
    let by_phase = app.keyring.rotation_status().by_phase;
    // The newest key that has signed is one of the kept ones, so a new key had to follow it.
    let listed = app.keyring.full_report().await.unwrap();
    let mut expected = BTreeMap::new();
    for key in listed {
        *expected.entry(key.phase).or_default() += 1;
    }
    assert_eq!(by_phase, expected);
    assert_eq!(by_phase[&Phase::Revoked], 100);
    // A key that is not in memory is known nevertheless.
    let refused = app.keyring.revoke(Kid(600 + 1)).await.unwrap_err();
    assert_eq!(refused.to_string(), "key 601 has already expired");
    let refused = app.keyring.expire(Kid(610)).await.unwrap_err();
    assert_eq!(refused.to_string(), "key 610 has already been revoked");
    let refused = app.keyring.revoke(Kid(50_000)).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no usable key 50000");
}

#[tokio::test]
async fn kept_keys_are_deleted_batch_by_batch_when_their_retention_is_over() {
    let app = TestApp::spawn().await;
    add_kept_keys(&app).await;
    ticks(&app, 8).await;
    let kept = "SELECT count(*) FROM keys WHERE kid BETWEEN 101 AND 1100";
    let count = async || -> i64 { sqlx::query_scalar(kept).fetch_one(&mut app.db().await).await.unwrap() };
    assert_eq!(count().await, KEPT);
    app.clock.advance(2 * DAY);
    app.keyring.tick().await.unwrap();
    let left = count().await;
    assert!((KEPT - 205..KEPT).contains(&left), "one round deletes a batch, and {left} are left");
    ticks(&app, 6).await;
    // The newest one that has signed stays, and so does the newest expired one.
    assert!(count().await <= 2, "{}", count().await);
    assert!(app.keyring.report().len() < 10);
}

#[tokio::test]
async fn a_key_whose_exp_was_changed_into_a_text_does_not_keep_the_others_from_being_deleted() {
    let app = TestApp::spawn().await;
    add_kept_keys(&app).await;
    let damage = "UPDATE keys SET exp = 'never' WHERE kid = 700; INSERT OR IGNORE INTO keys_without_thumbprint VALUES (700)";
    sqlx::raw_sql(damage).execute(&mut app.db().await).await.unwrap();
    ticks(&app, 8).await;
    app.clock.advance(2 * DAY);
    ticks(&app, 8).await;
    let kept = "SELECT kid FROM keys WHERE kid BETWEEN 101 AND 1100";
    let kids: Vec<i64> = sqlx::query_scalar(kept).fetch_all(&mut app.db().await).await.unwrap();
    assert!(kids.len() <= 3 && kids.contains(&700), "{kids:?}");
}

#[tokio::test]
async fn a_clock_set_forward_deletes_no_kept_key_that_was_not_in_memory() {
    let app = TestApp::spawn().await;
    add_kept_keys(&app).await;
    ticks(&app, 8).await;
    app.clock.set(app.clock.now().plus(365 * DAY));
    ticks(&app, 8).await;
    let kept = "SELECT count(*) FROM keys WHERE kid BETWEEN 101 AND 1100";
    let count: i64 = sqlx::query_scalar(kept).fetch_one(&mut app.db().await).await.unwrap();
    assert_eq!(count, KEPT);
}

#[tokio::test]
async fn keys_are_created_while_another_table_forbids_deletions_which_are_made_up_for_later() {
    let app = TestApp::spawn().await;
    let table = "CREATE TABLE tok(kid INTEGER REFERENCES keys(kid)); INSERT INTO tok SELECT kid FROM keys";
    sqlx::raw_sql(table).execute(&mut app.db().await).await.unwrap();
    for _ in 0..48 {
        app.clock.advance(DAY / 4);
        app.keyring.tick().await.unwrap();
        assert_eq!(app.get("/jwks").await.status, 200);
        assert_eq!(app.get("/readyz").await.status, 200);
    }
    let is_kept = || app.keyring.report().iter().any(|key| key.kid == Kid(1));
    assert!(is_kept(), "its retention has been over for days");
    sqlx::raw_sql("DROP TABLE tok").execute(&mut app.db().await).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert!(is_kept(), "it is not tried in each tick");
    app.clock.advance(DAY / 1440);
    ticks(&app, 2).await;
    assert!(!is_kept());
}
