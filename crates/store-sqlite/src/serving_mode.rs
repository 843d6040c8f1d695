//! The tables `serving_mode` and `open_mode_keys`.
//!
//! The recorded mode outlives a crash, and does not block anything by itself: only a process that has the store open keeps
//! another one from changing it.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::error::failed;
use super::file::DatabaseFile;
use super::restore::ExclusiveLock;
use jwksd_core::key::Kid;
use jwksd_core::store::{ServingMode, StoreError};

/// How often, and how long apart, a lock is asked for. A command that just looks at the store may have it open.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

impl DatabaseFile {
    /// Records another mode, while no process has the store open.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when one has it open for two seconds: it may be a server in the recorded mode.
    pub async fn switch_mode(&self, mode: ServingMode) -> Result<(), StoreError> {
        let mut attempt = 1;
        let mut lock = loop {
            match ExclusiveLock::take(self).await {
                Err(StoreError::InUse) if attempt < ATTEMPTS => attempt += 1,
                taken => break taken?,
            }
            tokio::time::sleep(PAUSE).await;
        };
        let switched = match lock.connection() {
            Some(db) => record(db, mode).await,
            None => Err(StoreError::Corrupt("it is not a SQLite database".to_owned())),
        };
        lock.give_up().await;
        switched
    }
}

async fn record(db: &mut SqliteConnection, mode: ServingMode) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO serving_mode (id, mode) VALUES (1, ?)")
        .bind(mode.name())
        .execute(db)
        .await
        .map(drop)
        .map_err(failed)
}

/// Records the mode, unless one is recorded.
pub(super) async fn record_first(db: &mut SqliteConnection, mode: ServingMode) -> Result<(), StoreError> {
    sqlx::query("INSERT OR IGNORE INTO serving_mode (id, mode) VALUES (1, ?)")
        .bind(mode.name())
        .execute(db)
        .await
        .map(drop)
        .map_err(failed)
}

/// The recorded mode.
pub(super) async fn recorded(db: &mut SqliteConnection) -> Result<Option<ServingMode>, StoreError> {
    let name: Option<String> = sqlx::query_scalar("SELECT CAST(mode AS TEXT) FROM serving_mode")
        .fetch_optional(db)
        .await
        .map_err(failed)?;
    let unknown = || StoreError::Corrupt("its table serving_mode was changed".to_owned());
    name.map(|name| ServingMode::from_name(&name).ok_or_else(unknown)).transpose()
}

/// Remembers that a key has signed in open mode.
pub(super) async fn record_open_mode_key(db: &mut SqliteConnection, kid: Kid) -> Result<(), StoreError> {
    sqlx::query("INSERT OR IGNORE INTO open_mode_keys (kid) VALUES (?)")
        .bind(kid.0)
        .execute(db)
        .await
        .map(drop)
        .map_err(failed)
}

/// The keys that have signed in open mode.
pub(super) async fn open_mode_keys(db: &mut SqliteConnection) -> Result<Vec<Kid>, StoreError> {
    let kids: Vec<i64> = sqlx::query_scalar("SELECT kid FROM open_mode_keys ORDER BY kid")
        .fetch_all(db)
        .await
        .map_err(failed)?;
    Ok(kids.into_iter().map(Kid).collect())
}
