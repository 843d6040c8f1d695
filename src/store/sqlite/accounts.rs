//! The tables `users`, `auth_logs`, `names_given` and `hash_costs`.

use std::net::IpAddr;

use sqlx::SqliteConnection;

use super::super::{SignInCandidate, StoreError, Unique};
use super::unavailable;
use crate::domain::account::{Account, NewAccount, UserId};
use crate::domain::clock::Timestamp;
use crate::domain::password::{HashCost, PasswordHash};

/// The form that `CURRENT_TIMESTAMP` writes is made by SQLite itself, from whole seconds.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    account: &NewAccount,
    now: Timestamp,
) -> Result<UserId, StoreError> {
    sqlx::query(
        "INSERT INTO users (username, password_hash, email, date_registered)
         VALUES (?, ?, ?, datetime(?, 'unixepoch'))",
    )
    .bind(account.username.as_ref())
    .bind(account.password_hash.as_str())
    .bind(account.email.as_ref().map(AsRef::as_ref))
    .bind(now.as_secs())
    .execute(db)
    .await
    .map(|done| UserId(done.last_insert_rowid()))
    .map_err(conflict)
}

/// Tells which unique thing was taken, from the message of the constraint or trigger that refused.
fn conflict(error: sqlx::Error) -> StoreError {
    let message = error.as_database_error().map(sqlx::error::DatabaseError::message).unwrap_or_default();
    if message.contains("users.email") {
        StoreError::Conflict(Unique::Email)
    } else if message.contains("users.username") || message.contains("names_given.name") {
        StoreError::Conflict(Unique::Username)
    } else {
        unavailable(error)
    }
}

/// CAST, because other programs store a hash as a BLOB. A name is found whatever its case; where a store that was taken over holds two, the one spelled as typed wins.
pub(super) async fn candidate(
    db: &mut SqliteConnection,
    username: &str,
) -> Result<SignInCandidate, StoreError> {
    let account: Option<(i64, String, String)> = sqlx::query_as(
        "SELECT id, CAST(username AS TEXT), CAST(password_hash AS TEXT) FROM users
         WHERE username = ?1 COLLATE NOCASE
         ORDER BY username = ?1 DESC, id LIMIT 1",
    )
    .bind(username)
    .fetch_optional(&mut *db)
    .await
    .map_err(unavailable)?;
    let costs: Vec<String> =
        sqlx::query_scalar("SELECT cost FROM hash_costs WHERE accounts > 0 ORDER BY cost")
            .fetch_all(db)
            .await
            .map_err(unavailable)?;
    Ok(SignInCandidate {
        account: account.map(|(id, username, hash)| Account {
            id: UserId(id),
            username,
            password_hash: PasswordHash::stored(hash),
        }),
        costs: costs.into_iter().map(HashCost).collect(),
    })
}

pub(super) async fn record_sign_in(
    db: &mut SqliteConnection,
    user: UserId,
    checked: &PasswordHash,
    from: IpAddr,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let met = sqlx::query(
        "UPDATE users SET last_login = datetime(?, 'unixepoch') WHERE id = ? AND CAST(password_hash AS TEXT) = ?",
    )
    .bind(now.as_secs())
    .bind(user.0)
    .bind(checked.as_str())
    .execute(&mut *db)
    .await
    .map_err(unavailable)?
    .rows_affected();
    if met == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         VALUES (?, datetime(?, 'unixepoch'), ?)",
    )
    .bind(from.to_string())
    .bind(now.as_secs())
    .bind(user.0)
    .execute(db)
    .await
    .map_err(unavailable)?;
    Ok(true)
}

pub(super) async fn any(db: &mut SqliteConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users)").fetch_one(db).await.map_err(unavailable)
}
