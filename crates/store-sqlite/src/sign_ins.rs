//! The table `auth_logs`: read page by page and deleted in batches, so that neither delays a sign-in for long.
//!
//! Rows are read in the order of their time, as the indexes have it. A row whose time another program wrote as something
//! other than text has no place in that order. It is neither listed nor deleted.

use std::net::IpAddr;

use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};

use super::error::failed;
use super::text::lossy;
use jwksd_core::account::UserId;
use jwksd_core::client::ClientKey;
use jwksd_core::clock::Timestamp;
use jwksd_core::store::{Cursor, Page, SignIn, SignInFilter, StoreError};

#[derive(FromRow)]
struct Row {
    id: i64,
    time: String,
    at: Option<i64>,
    ip: Vec<u8>,
    user_id: Option<i64>,
    username: Option<Vec<u8>>,
}

impl Row {
    fn sign_in(self) -> SignIn {
        SignIn {
            cursor: Cursor { position: self.time, id: self.id },
            at: self.at.map(Timestamp::from_secs),
            from: lossy(self.ip),
            user: self.user_id.map(UserId),
            username: self.username.map(lossy),
        }
    }
}

// SQLite columns take values of any type, and sqlx refuses those of another type than the Rust field.
const COLUMNS: &str = "SELECT auth_logs.id, CAST(request_timestamp AS TEXT) AS time,
            unixepoch(request_timestamp) AS at, CAST(request_ip AS BLOB) AS ip,
            iif(typeof(user_id) = 'integer', user_id, NULL) AS user_id, CAST(username AS BLOB) AS username
     FROM auth_logs LEFT JOIN users ON users.id = user_id WHERE ";

pub(super) async fn page(
    db: &mut SqliteConnection,
    filter: &SignInFilter,
    page: &Page,
    at_most: u32,
) -> Result<Vec<SignIn>, StoreError> {
    let mut query = QueryBuilder::new(COLUMNS);
    match page {
        Page::After { cursor, up_to } => {
            listed(&mut query, filter, cursor.as_ref(), *up_to);
            query.push(" ORDER BY request_timestamp, auth_logs.id");
        }
        Page::NewerThan(id) => {
            // The unary plus keeps SQLite from using an index: the few new rows are at the end of the table's own order.
            query.push("typeof(request_timestamp) = 'text' AND auth_logs.id > ").push_bind(*id);
            matching(&mut query, filter, " AND +");
            query.push(" ORDER BY auth_logs.id");
        }
    }
    query.push(" LIMIT ").push_bind(at_most);
    query
        .build_query_as()
        .fetch_all(db)
        .await
        .map(|rows: Vec<Row>| rows.into_iter().map(Row::sign_in).collect())
        .map_err(failed)
}

/// The cursor before the last `count` rows; nothing if there are not more than that.
pub(super) async fn before_last(
    db: &mut SqliteConnection,
    filter: &SignInFilter,
    count: u32,
    up_to: i64,
) -> Result<Option<Cursor>, StoreError> {
    let mut query =
        QueryBuilder::new("SELECT CAST(request_timestamp AS TEXT), auth_logs.id FROM auth_logs WHERE ");
    listed(&mut query, filter, None, up_to);
    query.push(" ORDER BY request_timestamp DESC, auth_logs.id DESC LIMIT 1 OFFSET ").push_bind(count);
    query
        .build_query_as()
        .fetch_optional(db)
        .await
        .map(|row: Option<(String, i64)>| row.map(|(position, id)| Cursor { position, id }))
        .map_err(failed)
}

/// One lower bound, which an index finds directly. A cursor already lies after `since`.
fn listed(query: &mut QueryBuilder<Sqlite>, filter: &SignInFilter, behind: Option<&Cursor>, up_to: i64) {
    match (behind, filter.since) {
        (Some(Cursor { position, id }), _) => {
            // Times have whole seconds, so many rows share one. The number says where among them to continue.
            query.push("(request_timestamp, auth_logs.id) > (").push_bind(position.clone());
            query.push(", ").push_bind(*id).push(")")
        }
        (None, Some(since)) => {
            query.push("request_timestamp >= datetime(").push_bind(since.as_secs()).push(", 'unixepoch')")
        }
        // The empty text sorts before all other texts.
        (None, None) => query.push("request_timestamp >= ''"),
    };
    matching(query, filter, " AND ");
    // The empty BLOB sorts after all texts.
    query.push(" AND request_timestamp < x'' AND auth_logs.id <= ").push_bind(up_to);
}

fn matching(query: &mut QueryBuilder<Sqlite>, filter: &SignInFilter, and: &'static str) {
    if let Some(UserId(user)) = filter.user {
        query.push(and).push("user_id = ").push_bind(user);
    }
    if let Some(from) = filter.from {
        query.push(and).push("request_ip = ").push_bind(from.to_string());
    }
}

/// Whether a client has signed in to an account since then.
pub(super) async fn has_any(
    db: &mut SqliteConnection,
    user: UserId,
    client: ClientKey,
    since: Timestamp,
) -> Result<bool, StoreError> {
    for (first, last) in client.text_ranges() {
        let addresses: Vec<String> = sqlx::query_scalar(
            // From one address to the one before it, so that many sign-ins from one address cost no more than one. A client
            // has one IPv4 address, but may use any number of IPv6 addresses.
            "WITH RECURSIVE address(ip) AS (
                 SELECT max(request_ip) FROM auth_logs WHERE user_id = ?1 AND request_ip BETWEEN ?2 AND ?3
                 UNION ALL
                 SELECT (SELECT max(request_ip) FROM auth_logs
                         WHERE user_id = ?1 AND request_ip >= ?2 AND request_ip < address.ip)
                 FROM address WHERE ip IS NOT NULL
                 LIMIT 1000)
             SELECT ip FROM address
             WHERE EXISTS (SELECT 1 FROM auth_logs WHERE user_id = ?1 AND request_ip = ip
                           AND request_timestamp >= datetime(?4, 'unixepoch') AND request_timestamp < x'')",
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

pub(super) async fn newest(db: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM auth_logs").fetch_one(db).await.map_err(failed)
}

pub(super) async fn delete_before(
    db: &mut SqliteConnection,
    before: Timestamp,
    at_most: u32,
) -> Result<u64, StoreError> {
    sqlx::query(
        // A subquery, because DELETE with LIMIT is a compile-time option of SQLite that is usually off.
        "DELETE FROM auth_logs WHERE id IN
             (SELECT id FROM auth_logs
              WHERE request_timestamp >= '' AND request_timestamp < datetime(?, 'unixepoch')
              ORDER BY request_timestamp LIMIT ?)",
    )
    .bind(before.as_secs())
    .bind(at_most)
    .execute(db)
    .await
    .map(|done| done.rows_affected())
    .map_err(failed)
}
