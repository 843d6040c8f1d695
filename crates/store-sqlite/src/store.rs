//! The [`Store`] in one SQLite file.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row as _, Transaction};
use tokio::time::Instant;

use super::account_watch::AccountWatch;
use super::error::{failed, unavailable};
use super::file::DatabaseFile;
use super::pool::{Durability, Readers, Writer};
use super::{accounts, keys, serving_mode, sign_in_batch, sign_ins, thumbprints, write_probe};
use jwksd_core::account::{AccountReport, NewAccount, TokenHolder, UserId};
use jwksd_core::client::ClientKey;
use jwksd_core::clock::Timestamp;
use jwksd_core::key::Kid;
use jwksd_core::store::{
    AccountChange, Applied, Cursor, KeyChange, KeySnapshot, KeyVersion, KnownKey, NewSignIn, NotWritable,
    Page, Pulse, SealedRows, ServingMode, SignIn, SignInBatcher, SignInCandidate, SignInFilter,
    SignInOutcome, Store, StoreError,
};

/// Maximum wait for the write lock before the time in a plan counts as stale.
const MAX_LOCK_WAIT: Duration = Duration::from_millis(500);

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    batcher: SignInBatcher,
    account_watch: AccountWatch,
}

impl SqliteStore {
    /// Opens the file, creates it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] says in words what is wrong with the file.
    pub async fn open(database: &DatabaseFile) -> Result<Self, StoreError> {
        database.create_private().map_err(unavailable)?;
        let file = database.identity();
        let opened = Self::open_file(database).await;
        // A restore may have put another file there. Its journal does not belong to the one that was opened.
        if database.identity() == file { opened } else { Err(StoreError::Replaced) }
    }

    async fn open_file(database: &DatabaseFile) -> Result<Self, StoreError> {
        let writer = Writer::open(database).await?;
        // After the migration: a read-only connection can neither switch the file to WAL nor create a table.
        let readers = Readers::open(database).await?;
        let batcher = SignInBatcher::new({
            let writer = writer.clone();
            move |sign_ins| sign_in_batch::record(writer.clone(), sign_ins)
        });
        Ok(Self { writer, readers, batcher, account_watch: AccountWatch::new(database) })
    }

    /// Removes what the changes have replaced from the file itself: plaintext keys of another program, and keys that are
    /// sealed under an old master key.
    async fn scrub(&self, replaced: Replaced) {
        // VACUUM rewrites the file from its live rows. The WAL has the old pages until it is truncated.
        if replaced.plaintext {
            self.run_cleanup("VACUUM").await;
        }
        if replaced.plaintext || replaced.master_key {
            self.run_cleanup("PRAGMA wal_checkpoint(TRUNCATE)").await;
        }
    }

    /// A failure is only logged: the changes themselves are committed by now.
    async fn run_cleanup(&self, sql: &'static str) {
        let cleaned = async {
            let mut connection = self.writer.connection().await?;
            sqlx::query(sql).fetch_optional(&mut *connection).await.map_err(failed)
        };
        let why = match cleaned.await {
            // The first column of a checkpoint tells whether a reader was in the way.
            Ok(Some(row)) if row.try_get::<i64, _>(0).is_ok_and(|busy| busy != 0) => {
                "another connection reads it".to_owned()
            }
            Ok(_) => return,
            Err(error) => error.to_string(),
        };
        tracing::warn!("{sql} failed because {why}: the file may still contain keys in their old form");
    }
}

/// What a set of changes replaces in the file.
struct Replaced {
    plaintext: bool,
    master_key: bool,
}

impl Replaced {
    fn by(changes: &[KeyChange]) -> Self {
        Self {
            plaintext: changes
                .iter()
                .any(|change| matches!(change, KeyChange::Adopt { sealed: Some(_), .. })),
            master_key: changes
                .iter()
                .any(|change| matches!(change, KeyChange::SetMasterKey(record) if record.number > 1)),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn keys(&self, sealed: &SealedRows) -> Result<KeySnapshot, StoreError> {
        // One transaction, so that all queries of the snapshot see the same commit.
        let mut tx = Transaction::begin(self.readers.connection().await?, None).await.map_err(failed)?;
        keys::snapshot(&mut tx, sealed).await
    }

    async fn known_keys(&self, thumbprints: &[String]) -> Result<Vec<KnownKey>, StoreError> {
        let mut connection = self.readers.connection().await?;
        thumbprints::known(&mut connection, thumbprints).await
    }

    async fn thumbprint_kids(&self) -> Result<Vec<(Kid, String)>, StoreError> {
        let mut connection = self.readers.connection().await?;
        thumbprints::as_kids(&mut connection).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        let mut connection = self.readers.connection().await?;
        Ok(Pulse { version: keys::version(&mut connection).await?, now: None })
    }

    async fn apply(&self, version: KeyVersion, changes: Vec<KeyChange>) -> Result<Applied, StoreError> {
        let replaced = Replaced::by(&changes);
        let asked = Instant::now();
        // Full: verifiers may have fetched a new key, and a revoked one must not come back after a power cut.
        let mut tx = self.writer.begin(Durability::Full).await?;
        if asked.elapsed() > MAX_LOCK_WAIT || keys::version(&mut tx).await? != version {
            // Dropping `tx` rolls back.
            return Ok(Applied::Conflict);
        }
        if keys::apply(&mut tx, changes).await? == Applied::Conflict {
            return Ok(Applied::Conflict);
        }
        self.writer.commit(tx).await?;
        self.scrub(replaced).await;
        Ok(Applied::Yes)
    }

    async fn serving_mode(&self) -> Result<Option<ServingMode>, StoreError> {
        serving_mode::recorded(&mut *self.readers.connection().await?).await
    }

    async fn record_serving_mode(&self, mode: ServingMode) -> Result<Option<ServingMode>, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        serving_mode::record_first(&mut tx, mode).await?;
        let recorded = serving_mode::recorded(&mut tx).await?;
        self.writer.commit(tx).await?;
        Ok(recorded)
    }

    async fn record_open_mode_key(&self, kid: Kid) -> Result<(), StoreError> {
        // Full: after a power cut, the tokens of this key must still be known as those that anyone could get.
        let mut tx = self.writer.begin(Durability::Full).await?;
        serving_mode::record_open_mode_key(&mut tx, kid).await?;
        self.writer.commit(tx).await
    }

    async fn has_accounts(&self) -> Result<bool, StoreError> {
        let query = async || accounts::any(&mut *self.readers.connection().await?).await;
        self.account_watch.ask(query).await
    }

    async fn register(&self, account: NewAccount, now: Timestamp) -> Result<UserId, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        let id = accounts::insert(&mut tx, &account, now).await?;
        self.writer.commit(tx).await?;
        Ok(id)
    }

    async fn sign_in_candidate(&self, username: &str) -> Result<SignInCandidate, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::candidate(&mut connection, username).await
    }

    async fn token_holder(&self, user: UserId) -> Result<Option<TokenHolder>, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::token_holder(&mut connection, user).await
    }

    async fn account(&self, username: &str) -> Result<Option<AccountReport>, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::report(&mut connection, username).await
    }

    async fn accounts(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::reports(&mut connection, after, at_most).await
    }

    async fn unusable_hashes(&self) -> Result<u64, StoreError> {
        let mut connection = self.readers.connection().await?;
        accounts::unusable_hashes(&mut connection).await
    }

    async fn change_account(
        &self,
        user: UserId,
        change: &AccountChange,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.writer.begin(Durability::Full).await?;
        // Full durability above: a power cut must not enable a disabled account or bring an old password back.
        let changed = accounts::change(&mut tx, user, change, now).await?;
        self.writer.commit(tx).await?;
        Ok(changed)
    }

    async fn record_sign_in(&self, sign_in: NewSignIn) -> Result<SignInOutcome, StoreError> {
        self.batcher.record(sign_in).await
    }

    async fn has_signed_in(
        &self,
        user: UserId,
        client: ClientKey,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut connection = self.readers.connection().await?;
        sign_ins::has_any(&mut connection, user, client, since).await
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
        let deleted = sign_ins::delete_before(&mut tx, before, at_most).await?;
        self.writer.commit(tx).await?;
        Ok(deleted)
    }

    async fn probe_write(&self) -> Result<(), NotWritable> {
        write_probe::probe(&self.writer).await
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last connection to close checkpoints the WAL.
        self.writer.close().await;
    }
}
