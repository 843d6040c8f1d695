//! The schema: bringing it up to date, and what a file has of it.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, SqliteConnection};

use super::error::{failed, unavailable};
use crate::store::StoreError;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The tables of the course, with their columns in the order that `SELECT *` gives.
const COURSE_COLUMNS: [(&str, &str); 3] = [
    ("keys", "kid,key,exp"),
    ("users", "id,username,password_hash,email,date_registered,last_login"),
    ("auth_logs", "id,request_ip,request_timestamp,user_id"),
];

/// The version of the schema that this program works with.
#[must_use]
pub(crate) fn newest_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings the schema up to date in one transaction, so that two processes do it one after the other.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    // A transaction that begins with a read may fail with SQLITE_BUSY when it first writes, without any wait.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    if let Some(version) = version(&mut tx).await?
        && version < newest_schema()
    {
        let newest = newest_schema();
        tracing::info!(
            "migrating the store from schema {version} to {newest}; with millions of rows this takes a while"
        );
    }
    MIGRATIONS.run_direct(None, &mut *tx, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => too_new(version),
        MigrateError::Execute(error) => failed(error),
        other => unavailable(other),
    })?;
    tx.commit().await.map_err(failed)
}

fn too_new(version: i64) -> StoreError {
    StoreError::Corrupt(format!("its schema is at version {version}: a newer jwksd made it"))
}

/// Refuses a file that a newer program has migrated.
pub(super) async fn expect_known_version(db: &mut SqliteConnection) -> Result<(), StoreError> {
    match version(db).await? {
        Some(version) if !MIGRATIONS.version_exists(version) => Err(too_new(version)),
        _ => Ok(()),
    }
}

/// The version of the schema; nothing if another program made the file.
pub(super) async fn version(db: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    if !has_table(db, "_sqlx_migrations").await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(db).await.map_err(failed)
}

pub(super) async fn has_table(db: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)")
        .bind(name)
        .fetch_one(db)
        .await
        .map_err(failed)
}

/// Refuses a database of another program whose tables have the course's names and other columns.
pub(super) async fn expect_course_columns(db: &mut SqliteConnection) -> Result<(), StoreError> {
    for (table, expected) in COURSE_COLUMNS {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?) ORDER BY cid")
            .bind(table)
            .fetch_all(&mut *db)
            .await
            .map_err(failed)?;
        let columns = columns.join(",");
        // An empty list means that the table is missing. The first migration then creates it.
        if !columns.is_empty() && columns != expected {
            return Err(StoreError::Corrupt(format!(
                "its table {table} has the columns {columns} instead of {expected}"
            )));
        }
    }
    Ok(())
}

/// The steps of the schema that are missing or differ, and the objects that they should have made.
pub(super) async fn faults(db: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    if !has_table(db, "_sqlx_migrations").await? {
        return Ok(Vec::new());
    }
    let taken: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *db)
            .await
            .map_err(failed)?;
    let last = taken.last().map_or(0, |(version, ..)| *version);
    let mut faults = Vec::new();
    // Later steps are not missing: the file is older, and a server that opens it migrates it.
    for known in MIGRATIONS.iter().filter(|known| known.version <= last) {
        let is_taken = |(version, checksum, success): &(i64, Vec<u8>, bool)| {
            *version == known.version && *success && checksum[..] == *known.checksum
        };
        if !taken.iter().any(is_taken) {
            faults.push(format!("step {} of its schema is missing, incomplete or different", known.version));
        }
    }
    if faults.is_empty() && last == newest_schema() {
        let (expected, present) = (objects(&mut new_store().await?).await?, objects(db).await?);
        let missing = expected.iter().filter(|object| !present.contains(object));
        faults.extend(missing.map(|(kind, name, _)| format!("its {kind} {name} is missing or different")));
    }
    Ok(faults)
}

async fn new_store() -> Result<SqliteConnection, StoreError> {
    // Made by the migrations themselves, so that a list of expected objects cannot get out of date.
    let mut db = SqliteConnection::connect("sqlite::memory:").await.map_err(failed)?;
    MIGRATIONS.run_direct(None, &mut db, false).await.map_err(unavailable)?;
    Ok(db)
}

/// Everything that the migrations made, except the tables of the course: another program may have brought those.
async fn objects(db: &mut SqliteConnection) -> Result<Vec<(String, String, String)>, StoreError> {
    sqlx::query_as(
        "SELECT type, name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT IN ('keys', 'users', 'auth_logs', '_sqlx_migrations')",
    )
    .fetch_all(db)
    .await
    .map_err(failed)
}
