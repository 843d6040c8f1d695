//! The schema: bringing it up to date, and what a file has of it.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, SqliteConnection};

use super::error::{WAY_OUT, failed, in_words, is_refused, unavailable};
use crate::store::StoreError;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

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
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => not_added(error),
        other => unavailable(other),
    })?;
    tx.commit().await.map_err(failed)
}

/// The objects or rows of another program can be in the way of ours.
fn not_added(error: sqlx::Error) -> StoreError {
    let is_refused = is_refused(&error);
    let error = failed(error);
    if is_refused {
        let why = in_words(&error);
        return StoreError::Foreign(format!(
            "jwksd could not add its own tables and indexes in it ({why}): {WAY_OUT}"
        ));
    }
    error
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

/// Whether a table of ours has this column. A file may be older than the migration that added it.
pub(super) async fn has_column(
    db: &mut SqliteConnection,
    table: &str,
    column: &str,
) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pragma_table_info(?) WHERE name = ?)")
        .bind(table)
        .bind(column)
        .fetch_one(db)
        .await
        .map_err(failed)
}

/// Whether there is a table of this name, regardless of case, as in SQL.
pub(super) async fn has_table(db: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE)",
    )
    .bind(name)
    .fetch_one(db)
    .await
    .map_err(failed)
}
