//! The table `auth_logs`: read page by page, and deleted in batches.

use std::net::IpAddr;

use sqlx::postgres::PgConnection;
use sqlx::{FromRow, Postgres, QueryBuilder};

use super::error::failed;
use jwksd_core::account::UserId;
use jwksd_core::client::ClientKey;
use jwksd_core::clock::Timestamp;
use jwksd_core::store::{Cursor, Page, SignIn, SignInFilter, StoreError};

#[derive(FromRow)]
struct Row {
    id: i64,
    at_seconds: i64,
    request_ip: String,
    user_id: Option<i64>,
    username: Option<String>,
}

impl Row {
    fn sign_in(self) -> SignIn {
        SignIn {
            cursor: Cursor { position: self.at_seconds.to_string(), id: self.id },
            at: Some(Timestamp::from_secs(self.at_seconds)),
            from: self.request_ip,
            user: self.user_id.map(UserId),
            username: self.username,
        }
    }
}

const COLUMNS: &str = "SELECT auth_logs.id, at_seconds, request_ip, user_id, username
     FROM jwksd.auth_logs LEFT JOIN jwksd.accounts ON accounts.id = user_id WHERE ";

pub(crate) async fn page(
    db: &mut PgConnection,
    filter: &SignInFilter,
    page: &Page,
    at_most: u32,
) -> Result<Vec<SignIn>, StoreError> {
    let mut query = QueryBuilder::new(COLUMNS);
    match page {
        Page::After { cursor, up_to } => {
            listed(&mut query, filter, cursor.as_ref(), *up_to)?;
            query.push(" ORDER BY at_seconds, auth_logs.id");
        }
        Page::NewerThan(id) => {
            query.push("auth_logs.id > ").push_bind(*id);
            matching(&mut query, filter);
            query.push(" ORDER BY auth_logs.id");
        }
    }
    query.push(" LIMIT ").push_bind(i64::from(at_most));
    let rows: Vec<Row> = query.build_query_as().fetch_all(db).await.map_err(failed)?;
    Ok(rows.into_iter().map(Row::sign_in).collect())
}

/// The cursor before the last `count` rows; nothing if there are not more than that.
pub(crate) async fn before_last(
    db: &mut PgConnection,
    filter: &SignInFilter,
    count: u32,
    up_to: i64,
) -> Result<Option<Cursor>, StoreError> {
    let mut query = QueryBuilder::new("SELECT at_seconds, auth_logs.id FROM jwksd.auth_logs WHERE ");
    listed(&mut query, filter, None, up_to)?;
    query.push(" ORDER BY at_seconds DESC, auth_logs.id DESC LIMIT 1 OFFSET ").push_bind(i64::from(count));
    let row: Option<(i64, i64)> = query.build_query_as().fetch_optional(db).await.map_err(failed)?;
    Ok(row.map(|(at, id)| Cursor { position: at.to_string(), id }))
}

/// One lower bound, which an index finds directly. A cursor already lies after `since`.
fn listed(
    query: &mut QueryBuilder<Postgres>,
    filter: &SignInFilter,
    behind: Option<&Cursor>,
    up_to: i64,
) -> Result<(), StoreError> {
    query.push("auth_logs.id <= ").push_bind(up_to);
    match (behind, filter.since) {
        (Some(Cursor { position, id }), _) => {
            let at: i64 = position.parse().map_err(StoreError::unavailable)?;
            // Many rows share one second. The number says where among them to continue.
            query
                .push(" AND (at_seconds, auth_logs.id) > (")
                .push_bind(at)
                .push(", ")
                .push_bind(*id)
                .push(")");
        }
        (None, Some(since)) => {
            query.push(" AND at_seconds >= ").push_bind(since.as_secs());
        }
        (None, None) => {}
    }
    matching(query, filter);
    Ok(())
}

fn matching(query: &mut QueryBuilder<Postgres>, filter: &SignInFilter) {
    if let Some(UserId(user)) = filter.user {
        query.push(" AND user_id = ").push_bind(user);
    }
    if let Some(from) = filter.from {
        query.push(" AND request_ip = ").push_bind(from.to_string());
    }
}

/// Whether a client has signed in to an account since then.
pub(crate) async fn has_any(
    db: &mut PgConnection,
    user: UserId,
    client: ClientKey,
    since: Timestamp,
) -> Result<bool, StoreError> {
    for (first, last) in client.text_ranges() {
        let addresses: Vec<String> = sqlx::query_scalar(
            // From one address to the one before it, so that many sign-ins from one address cost no more than one. A client has one
            // IPv4 address, but may use any number of IPv6 addresses.
            "WITH RECURSIVE address(ip, number) AS (
                 (SELECT max(request_ip), 1 FROM jwksd.auth_logs WHERE user_id = $1 AND request_ip BETWEEN $2 AND $3)
                 UNION ALL
                 SELECT (SELECT max(request_ip) FROM jwksd.auth_logs
                         WHERE user_id = $1 AND request_ip >= $2 AND request_ip < address.ip), number + 1
                 FROM address WHERE ip IS NOT NULL AND number < 1000)
             SELECT ip FROM address
             WHERE EXISTS (SELECT 1 FROM jwksd.auth_logs WHERE user_id = $1 AND request_ip = ip AND at_seconds >= $4)",
        )
        .bind(user.0)
        .bind(first)
        .bind(last)
        .bind(since.as_secs())
        .fetch_all(&mut *db)
        .await
        .map_err(failed)?;
        let is_of_client =
            |text: &String| text.parse::<IpAddr>().is_ok_and(|ip| ClientKey::from(ip) == client);
        if addresses.iter().any(is_of_client) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) async fn newest(db: &mut PgConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM jwksd.auth_logs").fetch_one(db).await.map_err(failed)
}

pub(crate) async fn delete_before(
    db: &mut PgConnection,
    before: Timestamp,
    at_most: u32,
) -> Result<u64, StoreError> {
    // Rows that another process is deleting are left to it.
    let deleted = sqlx::query(
        "DELETE FROM jwksd.auth_logs WHERE id IN
             (SELECT id FROM jwksd.auth_logs WHERE at_seconds < $1 ORDER BY at_seconds, id LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(before.as_secs())
    .bind(i64::from(at_most))
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(deleted.rows_affected())
}
