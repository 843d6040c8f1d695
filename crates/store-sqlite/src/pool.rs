//! Connections to the file: one writer, which runs its transactions one after the other, and a few readers.
//!
//! Connections are renewed regularly. A page that was once read wrongly stays in the cache of its connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{Connection as _, SqlSafeStr as _, Sqlite, Transaction};

use super::error::{failed, is_busy, is_read_only};
use super::file::{self, BUSY_TIMEOUT, DatabaseFile, identity};
use super::schema::migrate;
use jwksd_core::store::StoreError;

/// Maximum number of reading connections. More than there are cores would wait for each other.
const READERS: u32 = 4;

/// Maximum lifetime of a connection. Its page cache stays valid until the file changes, and may hold a damaged page.
const LIFETIME: Duration = Duration::from_secs(30);

/// What a committed transaction survives: the values of `PRAGMA synchronous`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Durability {
    /// A power cut.
    Full,
    /// The end of the process. A power cut may undo the last moment.
    Normal,
}

/// The one connection that writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pool: SqlitePool,
    file: File,
    wal: File,
}

impl Writer {
    /// Opens the file, creates it if it is missing, and brings its schema up to date.
    pub(super) async fn open(database: &DatabaseFile) -> Result<Self, StoreError> {
        // SQLite has one write lock per file. Waiting for it in the queue of our pool is fair; its busy handler, which
        // sleeps and tries again, is not.
        let pool = connect(options(database), 1, Some(LIFETIME)).await?;
        migrate(&mut *acquire(&pool).await?).await?;
        // After the migration: SQLite creates the WAL with the first transaction.
        Ok(Self { pool, file: File::new(database.path()), wal: File::new(&database.wal()) })
    }

    /// The connection, outside of any transaction.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        acquire(&self.pool).await
    }

    /// Begins a transaction with the write lock, so that no later statement of it can fail because of a lock.
    pub(crate) async fn begin(
        &self,
        durability: Durability,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.file.expect_in_place()?;
        let begun = match begin_on(self.connection().await?, durability).await {
            // The file may have become writable since. Only a new connection notices.
            Err(error) if is_read_only(&error) => {
                // The connection is dropped also if closing fails.
                let _ = self.connection().await?.close().await;
                begin_on(self.connection().await?, durability).await
            }
            begun => begun,
        };
        begun.map_err(failed)
    }

    /// Commits, and looks at the file again: it may have been removed while the transaction waited for the lock, and what
    /// it wrote is then lost.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if another file, or none, has the name of the store or of its WAL by now.
    pub(super) async fn commit(&self, tx: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        tx.commit().await.map_err(failed)?;
        self.file.expect_in_place()?;
        self.wal.expect_in_place()
    }

    /// Closes it. The last connection to close checkpoints the WAL.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Begins a transaction that can write.
///
/// SQLite opens a read-only file for reading and keeps that for the lifetime of the connection. On such a connection
/// `BEGIN IMMEDIATE` succeeds and takes no write lock. A `DELETE` without rows reveals it.
async fn begin_on(
    connection: PoolConnection<Sqlite>,
    durability: Durability,
) -> sqlx::Result<Transaction<'static, Sqlite>> {
    // Set before each transaction: SQLite does not allow a change inside one, and the connection keeps the last level.
    let begin = match durability {
        Durability::Full => "PRAGMA synchronous = FULL; DELETE FROM master_key WHERE FALSE; BEGIN IMMEDIATE",
        Durability::Normal => {
            "PRAGMA synchronous = NORMAL; DELETE FROM master_key WHERE FALSE; BEGIN IMMEDIATE"
        }
    };
    Transaction::begin(connection, Some(begin.into_sql_str())).await
}

/// The reading connections.
#[derive(Debug)]
pub(super) struct Readers {
    pool: SqlitePool,
    /// Never used. Keeps the file open for the lifetime of the process, which is what a restore checks.
    anchor: SqlitePool,
    file: File,
}

impl Readers {
    pub(super) async fn open(database: &DatabaseFile) -> Result<Self, StoreError> {
        let options = options(database).read_only(true);
        let anchor = connect(options.clone(), 1, None).await?;
        let pool = connect(options, READERS, Some(LIFETIME)).await?;
        Ok(Self { pool, anchor, file: File::new(database.path()) })
    }

    /// One of them, outside of any transaction.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.file.expect_in_place()?;
        acquire(&self.pool).await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
        self.anchor.close().await;
    }
}

/// A file of the store, as it was when it was opened. Writes to it are lost once another file has its name.
#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl File {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path) }
    }

    fn expect_in_place(&self) -> Result<(), StoreError> {
        // On Unix a missing file has no identity, so it counts as replaced too.
        if identity(&self.path) == self.identity { Ok(()) } else { Err(StoreError::Replaced) }
    }
}

fn options(database: &DatabaseFile) -> SqliteConnectOptions {
    file::options(database.path())
        .journal_mode(SqliteJournalMode::Wal)
        // SQLite enforces foreign keys only on connections that ask for it.
        .foreign_keys(true)
        // Overwrites deleted content: plaintext keys that were sealed, keys that were deleted.
        .pragma("secure_delete", "ON")
        // On macOS a plain fsync stops at the drive's cache. Elsewhere this has no effect.
        .pragma("fullfsync", "ON")
        // A long reader lets the WAL grow. It shrinks to 64 MiB afterwards.
        .pragma("journal_size_limit", "67108864")
}

/// A connection that is not in a transaction.
///
/// When the disk fails, SQLite rolls back by itself. sqlx does not notice, and the connection becomes unusable.
async fn acquire(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>, StoreError> {
    loop {
        let connection = pool.acquire().await.map_err(failed)?;
        if !connection.is_in_transaction() {
            return Ok(connection);
        }
        // The connection is dropped also if closing fails.
        let _ = connection.close().await;
    }
}

async fn connect(
    options: SqliteConnectOptions,
    connections: u32,
    lifetime: Option<Duration>,
) -> Result<SqlitePool, StoreError> {
    // Switching a new file to WAL takes an exclusive lock, and SQLite does not wait for that one: two first starts at
    // the same moment meet here.
    let mut attempt = 0;
    loop {
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(lifetime)
            // Longer than one transaction can wait for the lock, so that the one behind it gets its turn.
            .acquire_timeout(BUSY_TIMEOUT * 2)
            // A ping finds connections that a server has closed. A file does not close any.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await;
        match pool {
            Err(error) if is_busy(&error) && attempt < 50 => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other.map_err(failed),
        }
    }
}
