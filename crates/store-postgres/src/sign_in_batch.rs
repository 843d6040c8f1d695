//! The statement that records a batch of sign-ins.

use sqlx::postgres::PgConnection;

use super::error::failed;
use jwksd_core::clock::Timestamp;
use jwksd_core::store::{NewSignIn, SignInOutcome, StoreError};

/// Records the valid ones of a batch by one statement, which is a transaction of its own. Returns an outcome for each, in order.
///
/// The rows of the accounts are locked in the order of their numbers, so that batches of several processes cannot wait for each other
/// in a circle. Until the commit, no account can be disabled. The row of the key is not locked: batches that follow each other would
/// keep an operator from revoking it.
pub(crate) async fn record(
    db: &mut PgConnection,
    sign_ins: &[NewSignIn],
) -> Result<Vec<SignInOutcome>, StoreError> {
    let column = |value: fn(&NewSignIn) -> i64| sign_ins.iter().map(value).collect::<Vec<_>>();
    let optional = |value: fn(&NewSignIn) -> Option<i64>| sign_ins.iter().map(value).collect::<Vec<_>>();
    let addresses: Vec<_> = sign_ins.iter().map(|it| it.from.to_string()).collect();
    let rows: Vec<(i64, bool, bool)> = sqlx::query_as(
        "WITH sign_in AS (
             SELECT * FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[])
                 WITH ORDINALITY AS it(user_id, checked, ip, at, kid, signed_out_at, number)),
         account AS MATERIALIZED (
             SELECT id, password_hash, disabled_at, deleted_at, signed_out_at FROM jwksd.accounts
             WHERE id IN (SELECT user_id FROM sign_in) ORDER BY id FOR NO KEY UPDATE),
         checked AS MATERIALIZED (
             SELECT sign_in.*,
                    coalesce(password_hash = checked AND disabled_at IS NULL AND account.deleted_at IS NULL
                             AND account.signed_out_at IS NOT DISTINCT FROM sign_in.signed_out_at, FALSE) AS has_account,
                    sign_in.kid IS NULL
                    OR coalesce(exp > at AND expired_at IS NULL AND revoked_at IS NULL, FALSE) AS has_key
             FROM sign_in LEFT JOIN account ON account.id = sign_in.user_id
             LEFT JOIN jwksd.key_history ON key_history.kid = sign_in.kid
             LEFT JOIN jwksd.keys ON keys.kid = key_history.kid),
         logged AS (
             INSERT INTO jwksd.auth_logs (request_ip, at_seconds, user_id)
             SELECT ip, at, user_id FROM checked WHERE has_account AND has_key ORDER BY number),
         -- One batch may hold several sign-ins of one account.
         latest AS (SELECT user_id, max(at) AS at FROM checked WHERE has_account AND has_key GROUP BY user_id),
         updated AS (
             UPDATE jwksd.accounts SET last_login_seconds = latest.at FROM latest WHERE id = latest.user_id)
         SELECT number, has_account, has_key FROM checked ORDER BY number",
    )
    .bind(column(|it| it.user.0))
    .bind(sign_ins.iter().map(|it| sendable(it.checked.as_str())).collect::<Vec<_>>())
    .bind(addresses)
    .bind(column(|it| it.at.as_secs()))
    .bind(optional(|it| it.signed_by.map(|kid| kid.0)))
    .bind(optional(|it| it.signed_out_at.map(Timestamp::as_millis)))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    // Refusal is the default: an answer that the statement does not give must not let a token out.
    let mut outcomes = vec![SignInOutcome::AccountChanged; sign_ins.len()];
    for (number, has_account, has_key) in rows {
        let outcome = usize::try_from(number - 1).ok().and_then(|index| outcomes.get_mut(index));
        if let (Some(outcome), true) = (outcome, has_account) {
            *outcome = if has_key { SignInOutcome::Recorded } else { SignInOutcome::KeyEnded };
        }
    }
    Ok(outcomes)
}

/// A text with U+0000 cannot be sent, and no account has such a hash.
fn sendable(hash: &str) -> Option<&str> {
    (!hash.contains('\0')).then_some(hash)
}
