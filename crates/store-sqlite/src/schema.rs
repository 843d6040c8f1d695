//! The schema: bringing it up to date, and what a file has of it.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, SqliteConnection};

use super::error::{WAY_OUT, failed, in_words, is_refused, unavailable};
use jwksd_core::store::StoreError;

/// Where the migrations are recorded.
pub(super) const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The version of the schema that this program works with.
#[must_use]
pub fn newest_schema() -> i64 {
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
    run_migrations(&mut tx).await?;
    tx.commit().await.map_err(failed)
}

/// Runs the migrations that are missing, without a transaction of its own.
pub(super) async fn run_migrations(db: &mut SqliteConnection) -> Result<(), StoreError> {
    MIGRATIONS.run_direct(None, db, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => too_new(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => not_added(error),
        other => unavailable(other),
    })
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

/// Refuses a file that a newer program has migrated, and one in which another program records its own migrations.
pub(super) async fn expect_known_version(db: &mut SqliteConnection) -> Result<(), StoreError> {
    if !has_table(db, MIGRATIONS_TABLE).await? {
        return Ok(());
    }
    let recorded = sqlx::query_as("SELECT version, CAST(checksum AS BLOB) FROM _sqlx_migrations");
    let recorded: Vec<(i64, Option<Vec<u8>>)> = match recorded.fetch_all(&mut *db).await {
        Ok(recorded) => recorded,
        Err(error) if is_refused(&error) => return Err(migrations_of_others()),
        Err(error) => return Err(failed(error)),
    };
    let is_ours = |(_, checksum): &(i64, Option<Vec<u8>>)| {
        MIGRATIONS.iter().any(|known| Some(&*known.checksum) == checksum.as_deref())
    };
    let newest = recorded.iter().map(|(version, _)| *version).max();
    match newest {
        Some(_) if !recorded.iter().any(is_ours) => Err(migrations_of_others()),
        Some(version) if !MIGRATIONS.version_exists(version) => Err(too_new(version)),
        _ => Ok(()),
    }
}

fn migrations_of_others() -> StoreError {
    StoreError::Foreign(format!(
        "another program records its own migrations in its table {MIGRATIONS_TABLE}: nothing was changed; name another file \
         and add the keys of this one there with `jwksd keys import`"
    ))
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
