//! The statements that record a batch of sign-ins.

use std::net::IpAddr;

use serde::Serialize;
use sqlx::SqliteConnection;

use super::error::{failed, unavailable};
use super::pool::{Durability, Writer};
use jwksd_core::clock::Timestamp;
use jwksd_core::store::{NewSignIn, SignInOutcome, StoreError};

/// Records the valid ones of a batch. Returns an outcome for each, in order.
pub(super) async fn record(
    writer: Writer,
    sign_ins: Vec<NewSignIn>,
) -> Result<Vec<SignInOutcome>, StoreError> {
    if sign_ins.is_empty() {
        return Ok(Vec::new());
    }
    // Not Full: one fsync per batch would limit sign-ins to the speed of the disk. A power cut may lose the last
    // rows of the log; in WAL mode it does not damage the file.
    let mut tx = writer.begin(Durability::Normal).await?;
    let rows: Vec<_> = sign_ins.iter().map(Row::new).collect();
    // Under the write lock, so that no account is disabled and no key revoked between this check and the commit.
    let outcomes = check(&mut tx, &json(&rows)?, rows.len()).await?;
    let is_valid = |outcome: &SignInOutcome| *outcome == SignInOutcome::Recorded;
    let valid: Vec<_> =
        rows.iter().zip(&outcomes).filter(|(_, outcome)| is_valid(outcome)).map(|(row, _)| row).collect();
    insert(&mut tx, &json(&valid)?).await?;
    writer.commit(tx).await?;
    Ok(outcomes)
}

/// A sign-in as SQL reads it: user, hash, address, time, key, latest sign-out. A batch is one JSON parameter, so it costs few statements.
#[derive(Serialize)]
struct Row<'a>(i64, &'a str, IpAddr, i64, Option<i64>, Option<i64>);

impl<'a> Row<'a> {
    fn new(sign_in: &'a NewSignIn) -> Self {
        let kid = sign_in.signed_by.map(|kid| kid.0);
        let signed_out_at = sign_in.signed_out_at.map(Timestamp::as_millis);
        Self(sign_in.user.0, sign_in.checked.as_str(), sign_in.from, sign_in.at.as_secs(), kid, signed_out_at)
    }
}

fn json(rows: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(unavailable)
}

/// An outcome for each row. Rows whose account has changed are not in the result of the query.
async fn check(
    db: &mut SqliteConnection,
    rows: &str,
    count: usize,
) -> Result<Vec<SignInOutcome>, StoreError> {
    // Compares the hash that was checked: a password that was reset meanwhile must not sign in once more. And the sign-out:
    // /verify would refuse the token of an earlier second, and must refuse it even if its `iat` is a later one.
    // The `key` that json_each gives an element of an array is its position.
    let found: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT sign_in.key,
                sign_in.value ->> 4 IS NULL
                OR coalesce(CAST(keys.exp AS INTEGER) > sign_in.value ->> 3
                            AND ended.expired_at IS NULL AND ended.revoked_at IS NULL, 0)
         FROM json_each(?) AS sign_in
         JOIN users ON users.id = sign_in.value ->> 0 AND CAST(password_hash AS TEXT) = sign_in.value ->> 1
         LEFT JOIN account_states ON account_states.user_id = users.id
         LEFT JOIN sign_outs ON sign_outs.user_id = users.id
         LEFT JOIN keys ON keys.kid = sign_in.value ->> 4
         LEFT JOIN key_lives AS ended ON ended.kid = sign_in.value ->> 4
         WHERE disabled_at IS NULL AND account_states.deleted_at IS NULL AND signed_out_at IS sign_in.value ->> 5",
    )
    .bind(rows)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    // Refusal is the default: an answer that the query does not give must not let a token out.
    let mut outcomes = vec![SignInOutcome::AccountChanged; count];
    for (position, has_key) in found {
        if let Some(outcome) = usize::try_from(position).ok().and_then(|index| outcomes.get_mut(index)) {
            *outcome = if has_key { SignInOutcome::Recorded } else { SignInOutcome::KeyEnded };
        }
    }
    Ok(outcomes)
}

/// Inserts these sign-ins, whether or not they are valid.
pub(super) async fn insert_all(db: &mut SqliteConnection, sign_ins: &[NewSignIn]) -> Result<(), StoreError> {
    let rows: Vec<_> = sign_ins.iter().map(Row::new).collect();
    insert(db, &json(&rows)?).await
}

async fn insert(db: &mut SqliteConnection, rows: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         SELECT value ->> 2, datetime(value ->> 3, 'unixepoch'), value ->> 0 FROM json_each(?)",
    )
    .bind(rows)
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    sqlx::query(
        // One batch may hold several sign-ins of one user, of which UPDATE FROM would take an arbitrary one.
        "UPDATE users SET last_login = datetime(latest.at, 'unixepoch')
         FROM (SELECT value ->> 0 AS user, max(value ->> 3) AS at FROM json_each(?) GROUP BY 1) AS latest
         WHERE id = latest.user",
    )
    .bind(rows)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}
