//! The SQLite store: connections, transactions, durability. All SQL text is in this folder.
//!
//! One connection writes and takes its transactions one after the other; a few read beside it (WAL). Keys and accounts
//! are synced to the disk before they are answered (synchronous FULL); sign-ins are not synced by themselves, but ride
//! along with the next sync (NORMAL).

mod accounts;
mod connections;
mod copies;
mod exclusive_lock;
mod files;
mod inspection;
mod keys;
mod merge;
mod sign_in_batcher;
mod sign_ins;

use std::net::IpAddr;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, Row as _, Sqlite, SqliteConnection, Transaction};

use super::{
    AccountChange, Check, Cursor, Decide, KeySnapshot, MasterKeyRecord, Page, Select, SignIn,
    SignInCandidate, SignInFilter, Store, StoreError,
};
use crate::domain::account::{AccountReport, NewAccount, UserId};
use crate::domain::clock::Timestamp;
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::password::PasswordHash;

use self::connections::{Durability, Readers, Writer};
pub use self::copies::{directory_of, sync_directory_of};
pub use self::exclusive_lock::ExclusiveLock;
pub use self::files::{Contents, DatabaseFile, InvalidDatabaseUrl, Probe};
pub use self::inspection::{Counts, Depth, Inspection, newest_schema};
pub use self::merge::MergeOutcome;
use self::sign_in_batcher::{SignInBatcher, SignInRecord};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    batcher: SignInBatcher,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] says in words what is wrong with the file.
    pub async fn open(location: &DatabaseFile) -> Result<Self, StoreError> {
        location.make_private().map_err(unavailable)?;
        let file = location.identity();
        let opened = Self::open_file(location).await;
        // A restore may have put another file there, whose journal is none of the one that was opened.
        if location.identity() == file { opened } else { Err(StoreError::Replaced) }
    }

    async fn open_file(location: &DatabaseFile) -> Result<Self, StoreError> {
        let writer = Writer::open(location).await?;
        migrate(&mut *writer.connection().await?).await?;
        let readers = Readers::open(location).await?;
        let batcher = SignInBatcher::start(writer.clone());
        Ok(Self { writer, readers, batcher })
    }

    /// Writes the file anew, without what the other program has left in its free space: plaintext keys, for one.
    async fn clean_up(&self) {
        self.tidy("VACUUM").await;
        self.write_back().await;
    }

    /// Writes the WAL back into the file, so that what was replaced is gone from there too, as far as readers allow.
    async fn write_back(&self) {
        self.tidy("PRAGMA wal_checkpoint(TRUNCATE)").await;
    }

    /// What is done was committed before: that this fails is worth a word, and no failure of it.
    async fn tidy(&self, sql: &'static str) {
        let tidied = async {
            let mut connection = self.writer.connection().await?;
            sqlx::query(sql).fetch_optional(&mut *connection).await.map_err(unavailable)
        };
        let why = match tidied.await {
            // A checkpoint tells in its first column whether somebody was in the way.
            Ok(Some(row)) if row.try_get::<i64, _>(0).is_ok_and(|busy| busy != 0) => {
                "somebody reads it".to_owned()
            }
            Ok(_) => return,
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            "the file could not be tidied ({sql}), because {why}: it may still hold keys as they were before"
        );
    }

    /// Begins a transaction in which keys may be sealed: under this master key, or not at all.
    async fn begin_sealed_under(
        &self,
        expected: &MasterKeyRecord,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        if keys::master_key(&mut tx).await?.as_ref() != Some(expected) {
            return Err(StoreError::MasterKeyChanged);
        }
        Ok(tx)
    }
}

fn all(lives: &[KeyMetadata]) -> Vec<Kid> {
    lives.iter().map(|life| life.kid).collect()
}

#[async_trait]
impl Store for SqliteStore {
    async fn master_key(&self) -> Result<Option<MasterKeyRecord>, StoreError> {
        let mut connection = self.readers.connection().await?;
        keys::master_key(&mut connection).await
    }

    async fn initialize(
        &self,
        record: MasterKeyRecord,
        decide: Decide<'_>,
    ) -> Result<MasterKeyRecord, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        if let Some(present) = keys::master_key(&mut tx).await? {
            return Ok(present);
        }
        keys::insert_master_key(&mut tx, &record).await?;
        let picture = keys::picture(&mut tx, &|_| Vec::new()).await?;
        let changes = decide(&picture).map_err(|_| StoreError::Refused)?;
        let takes_over = !changes.is_empty();
        keys::apply(&mut tx, changes).await?;
        tx.commit().await.map_err(unavailable)?;
        if takes_over {
            self.clean_up().await;
        }
        Ok(record)
    }

    async fn keys(&self, select: Select<'_>) -> Result<KeySnapshot, StoreError> {
        let mut tx = Transaction::begin(self.readers.connection().await?, None).await.map_err(unavailable)?;
        keys::picture(&mut tx, select).await
    }

    async fn change_keys(
        &self,
        expected: &MasterKeyRecord,
        select: Select<'_>,
        decide: Decide<'_>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_sealed_under(expected).await?;
        let picture = keys::picture(&mut tx, select).await?;
        let changes = decide(&picture).map_err(|_| StoreError::Refused)?;
        keys::apply(&mut tx, changes).await?;
        tx.commit().await.map_err(unavailable)
    }

    async fn replace_master_key(
        &self,
        expected: &MasterKeyRecord,
        new: &MasterKeyRecord,
        decide: Decide<'_>,
        check: Check<'_>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_sealed_under(expected).await?;
        let picture = keys::picture(&mut tx, &all).await?;
        let changes = decide(&picture).map_err(|_| StoreError::Refused)?;
        keys::update_master_key(&mut tx, new).await?;
        keys::apply(&mut tx, changes).await?;
        check(&keys::picture(&mut tx, &all).await?).map_err(|_| StoreError::Refused)?;
        tx.commit().await.map_err(unavailable)?;
        self.write_back().await;
        Ok(())
    }

    async fn key_changes(&self) -> Result<i64, StoreError> {
        let mut connection = self.readers.connection().await?;
        keys::changes(&mut connection).await
    }

    async fn register(&self, account: NewAccount, now: Timestamp) -> Result<UserId, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        let id = accounts::insert(&mut tx, &account, now).await?;
        tx.commit().await.map_err(unavailable)?;
        Ok(id)
    }

    async fn sign_in_candidate(&self, username: &str) -> Result<SignInCandidate, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::candidate(&mut connection, username).await
    }

    async fn account(&self, username: &str) -> Result<Option<AccountReport>, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::report(&mut connection, username).await
    }

    async fn accounts(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::reports(&mut connection, after, at_most).await
    }

    async fn change_account(
        &self,
        user: UserId,
        change: &AccountChange,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        let changed = accounts::change(&mut tx, user, change, now).await?;
        tx.commit().await.map_err(unavailable)?;
        Ok(changed)
    }

    async fn record_sign_in(
        &self,
        user: UserId,
        checked: &PasswordHash,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.batcher.record(SignInRecord { user, checked: checked.clone(), from, at: now }).await
    }

    async fn sign_ins(
        &self,
        filter: &SignInFilter,
        page: &Page,
        at_most: u32,
    ) -> Result<Vec<SignIn>, StoreError> {
        let mut connection = self.readers.connection().await?;
        sign_ins::page(&mut connection, filter, page, at_most).await
    }

    async fn before_last_sign_ins(
        &self,
        filter: &SignInFilter,
        count: u32,
        up_to: i64,
    ) -> Result<Option<Cursor>, StoreError> {
        let mut connection = self.readers.connection().await?;
        sign_ins::before_last(&mut connection, filter, count, up_to).await
    }

    async fn newest_sign_in(&self) -> Result<i64, StoreError> {
        let mut connection = self.readers.connection().await?;
        sign_ins::newest(&mut connection).await
    }

    async fn delete_sign_ins_before(&self, before: Timestamp, at_most: u32) -> Result<u64, StoreError> {
        let mut tx = self.writer.begin(Durability::Normal).await?;
        let removed = sign_ins::delete_before(&mut tx, before, at_most).await?;
        tx.commit().await.map_err(unavailable)?;
        Ok(removed)
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last connection to close writes the WAL back into the file.
        self.writer.close().await;
    }
}

/// Brings the schema up to date in one transaction, so that two processes do it one after the other.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
    if let Some(version) = files::schema_version(&mut tx).await?
        && version < newest_schema()
    {
        let newest = newest_schema();
        tracing::info!(
            "bringing the store from schema {version} to {newest}: with millions of rows this takes a while"
        );
    }
    MIGRATIONS.run_direct(None, &mut *tx, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => {
            StoreError::Corrupt(format!("its schema is at version {version}: a newer jwksd made it"))
        }
        other => unavailable(other),
    })?;
    tx.commit().await.map_err(unavailable)
}

/// What another program has written may be no text.
fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl StoreError {
    /// Whether the same may work a moment later: another process holds the lock, or has just put another file in place.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Replaced => true,
            Self::Unavailable(cause) => cause
                .downcast_ref()
                .is_some_and(|error| is_busy(error) || code(error) == Some(SQLITE_READONLY_DBMOVED)),
            _ => false,
        }
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_READONLY_DBMOVED: i32 = SQLITE_READONLY | 4 << 8;

/// The extended result code of SQLite, whose low byte is the plain one.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)?.parse().ok()
}

fn is_busy(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xFF, SQLITE_BUSY | SQLITE_LOCKED))
}
