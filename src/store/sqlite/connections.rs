//! Connections to the file: one that writes and takes its transactions one after the other, a few that only read beside it.
//!
//! They are renewed now and then, so that what was read wrongly once is not believed for ever.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _, Sqlite, Transaction};

use super::super::StoreError;
use super::{DatabaseFile, SQLITE_READONLY, code, is_busy, unavailable};

/// How long a transaction waits for that of another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that only read. More than there are cores would wait for each other.
const READERS: u32 = 4;

/// How long a connection lives. What it has read stays in its memory as long as nobody writes: a damaged page, too.
const LIFETIME: Duration = Duration::from_secs(30);

/// What an answered write survives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Durability {
    Full,
    Normal,
}

/// The one connection that writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pool: SqlitePool,
    file: File,
}

impl Writer {
    /// Opens the file, or makes it.
    pub(super) async fn open(location: &DatabaseFile) -> Result<Self, StoreError> {
        let pool = connect(options(location), 1, Some(LIFETIME)).await?;
        Ok(Self { pool, file: File::at(location) })
    }

    /// The connection, in no transaction.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        acquire(&self.pool).await
    }

    /// Begins a transaction that writes: the lock is taken at once, so it cannot fail half way for want of it.
    pub(super) async fn begin(
        &self,
        durability: Durability,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.file.expect_in_place()?;
        let begun = match begin_on(self.connection().await?, durability).await {
            Err(error) if code(&error) == Some(SQLITE_READONLY) => {
                // Whatever comes of it, it is gone.
                let _ = self.connection().await?.close().await;
                begin_on(self.connection().await?, durability).await
            }
            begun => begun,
        };
        begun.map_err(unavailable)
    }

    /// Ends it. The last connection to close writes the WAL back into the file.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// SQLite opens a file that cannot be written to for reading, and leaves it at that for as long as the connection lives;
/// on such a connection even `BEGIN IMMEDIATE` only reads. What deletes nothing finds that out.
async fn begin_on(
    connection: PoolConnection<Sqlite>,
    durability: Durability,
) -> sqlx::Result<Transaction<'static, Sqlite>> {
    let begin = match durability {
        Durability::Full => "PRAGMA synchronous = FULL; DELETE FROM master_key WHERE FALSE; BEGIN IMMEDIATE",
        Durability::Normal => {
            "PRAGMA synchronous = NORMAL; DELETE FROM master_key WHERE FALSE; BEGIN IMMEDIATE"
        }
    };
    Transaction::begin(connection, Some(begin.into_sql_str())).await
}

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    pool: SqlitePool,
    /// Used by nobody. For as long as it lives, a process has the file open: a restore goes by that.
    anchor: SqlitePool,
    file: File,
}

impl Readers {
    pub(super) async fn open(location: &DatabaseFile) -> Result<Self, StoreError> {
        let options = options(location).read_only(true);
        let anchor = connect(options.clone(), 1, None).await?;
        let pool = connect(options, READERS, Some(LIFETIME)).await?;
        Ok(Self { pool, anchor, file: File::at(location) })
    }

    /// One of them, in no transaction.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.file.expect_in_place()?;
        acquire(&self.pool).await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
        self.anchor.close().await;
    }
}

/// The file that was opened. What is written to it once it has lost its name, is lost.
#[derive(Clone, Debug)]
struct File {
    location: DatabaseFile,
    identity: Option<(u64, u64)>,
}

impl File {
    fn at(location: &DatabaseFile) -> Self {
        Self { location: location.clone(), identity: location.identity() }
    }

    fn expect_in_place(&self) -> Result<(), StoreError> {
        if self.location.identity() == self.identity { Ok(()) } else { Err(StoreError::Replaced) }
    }
}

fn options(location: &DatabaseFile) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(location.path())
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        // What was there before is overwritten: plaintext keys that were sealed, keys that were deleted.
        .pragma("secure_delete", "ON")
        // On macOS, a sync stops at the drive's cache otherwise; nothing elsewhere.
        .pragma("fullfsync", "ON")
        // A WAL that a long reader has made grow shrinks again: to 64 MiB.
        .pragma("journal_size_limit", "67108864")
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// A connection that is in no transaction.
///
/// When the disk fails, SQLite rolls back by itself, and the connection, which has not noticed, is of no more use.
async fn acquire(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>, StoreError> {
    loop {
        let connection = pool.acquire().await.map_err(unavailable)?;
        if !connection.is_in_transaction() {
            return Ok(connection);
        }
        // Whatever comes of it, it is gone.
        let _ = connection.close().await;
    }
}

async fn connect(
    options: SqliteConnectOptions,
    connections: u32,
    lifetime: Option<Duration>,
) -> Result<SqlitePool, StoreError> {
    // Switching a new file to WAL takes an exclusive lock for which SQLite does not wait by itself: two first starts
    // at the same moment meet here.
    let mut attempt = 0;
    loop {
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(lifetime)
            .acquire_timeout(BUSY_TIMEOUT * 2)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await;
        match pool {
            Err(error) if is_busy(&error) && attempt < 50 => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other.map_err(unavailable),
        }
    }
}
