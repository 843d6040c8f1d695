//! The schema: bringing it up to date, by one process at a time.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use tokio::time::sleep;

use super::connections::{Begin, Connections, act};
use super::error::{failed, is_duplicate_object};
use jwksd_core::store::StoreError;

/// The oldest version of PostgreSQL that works, as `server_version_num`.
const OLDEST_SERVER: i32 = 140_000;

/// How often a migration is tried while other processes do the same.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Maximum time of a migration, which may rewrite large tables.
const TIME_LIMIT: Duration = Duration::from_hours(1);

fn migrations() -> Migrator {
    Migrator {
        // By a row lock instead: advisory locks do not pass a pooler.
        locking: false,
        // A newer program may have migrated further. `readable_by` says whether this one can work with that.
        ignore_missing: true,
        table_name: Cow::Borrowed("jwksd._sqlx_migrations"),
        create_schemas: Cow::Borrowed(&[Cow::Borrowed("jwksd")]),
        ..sqlx::migrate!("../../migrations/postgres")
    }
}

/// The version of the schema that this program works with.
#[must_use]
pub fn newest_schema() -> i64 {
    migrations().iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings the schema up to date. When several processes start at once, one after the other does it.
pub(crate) async fn migrate(connections: &Connections) -> Result<(), StoreError> {
    let connections = connections.with_limit(TIME_LIMIT);
    for _ in 1..ATTEMPTS {
        match try_migrate(&connections).await {
            // Another process has just created the same object.
            Err(error) if is_duplicate_object(&error) => sleep(PAUSE).await,
            done => return done,
        }
    }
    try_migrate(&connections).await.map_err(in_words)
}

async fn try_migrate(connections: &Connections) -> Result<(), StoreError> {
    act!(connections, Begin::Write, |db| migrate_once(db))
}

/// What is in the way of the tables is not the work of another process that starts.
pub(crate) fn in_words(error: StoreError) -> StoreError {
    if !is_duplicate_object(&error) {
        return error;
    }
    StoreError::Foreign(
        "its schema jwksd has tables that jwksd has not made, or another process is making them just now: look at it, and name \
         another database, or try again"
            .to_owned(),
    )
}

async fn migrate_once(db: &mut PgConnection) -> Result<(), StoreError> {
    expect_server(db).await?;
    if exists(db).await? {
        sqlx::query("SELECT one FROM jwksd.store FOR UPDATE").execute(&mut *db).await.map_err(failed)?;
        expect_readable(db).await?;
    }
    migrate_in(db).await
}

/// Brings the schema up to date in the transaction of `db`.
pub(crate) async fn migrate_in(db: &mut PgConnection) -> Result<(), StoreError> {
    // Without notices that what is there already is skipped.
    sqlx::raw_sql("SET LOCAL client_min_messages = warning").execute(&mut *db).await.map_err(failed)?;
    migrations().run_direct(None, db, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(error),
        MigrateError::VersionMismatch(version) => {
            StoreError::Corrupt(format!("step {version} of its schema is not that of jwksd"))
        }
        other => StoreError::unavailable(other),
    })
}

pub(crate) async fn expect_server(db: &mut PgConnection) -> Result<(), StoreError> {
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int4")
        .fetch_one(db)
        .await
        .map_err(failed)?;
    if version < OLDEST_SERVER {
        let (is, least) = (version / 10_000, OLDEST_SERVER / 10_000);
        return Err(StoreError::Foreign(format!("it is PostgreSQL {is}: use {least} or newer")));
    }
    Ok(())
}

/// Whether the database has the tables of a store.
pub(crate) async fn exists(db: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        // The tables of information_schema hide what the role may not use.
        "SELECT EXISTS (SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                        WHERE nspname = 'jwksd' AND relname = 'store')",
    )
    .fetch_one(db)
    .await
    .map_err(failed)
}

/// Refuses a store that a newer program has changed too much.
pub(crate) async fn expect_readable(db: &mut PgConnection) -> Result<(), StoreError> {
    let readable_by: i64 =
        sqlx::query_scalar("SELECT readable_by FROM jwksd.store").fetch_one(db).await.map_err(failed)?;
    if readable_by <= newest_schema() {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "its schema needs version {readable_by} or newer: a newer jwksd made it"
    )))
}
