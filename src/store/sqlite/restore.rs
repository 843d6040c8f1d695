//! Replacing a store by a copy. No other process may have the store open, or open it meanwhile.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::error::{failed, is_busy, is_unreadable, unavailable};
use super::file::DatabaseFile;
use super::merge::{self, MergeOutcome};
use crate::directory::{directory_of, sync_directory_of};
use crate::store::StoreError;

/// A store that no other process has open, or can open, while this lock is held.
#[derive(Debug)]
pub(crate) struct ExclusiveLock {
    database: DatabaseFile,
    /// Nothing if SQLite cannot lock the file, because it is not a database.
    db: Option<SqliteConnection>,
    /// Whether the file was missing, and we created it empty.
    is_new: bool,
}

impl ExclusiveLock {
    /// Locks a store, or reserves its name if it is missing. A file that is not a database cannot be locked, and is
    /// taken as it is.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open.
    pub(crate) async fn take(database: &DatabaseFile) -> Result<Self, StoreError> {
        let database = database.clone();
        // An empty file that we hold keeps other processes from creating a store there.
        let is_new = database.create_private().map_err(unavailable)?;
        let mut db = SqliteConnectOptions::new()
            .filename(database.path())
            // A running server does not let go of the file: waiting would only delay the refusal.
            .busy_timeout(std::time::Duration::ZERO)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(failed)?;
        match lock_exclusively(&mut db).await {
            Ok(journal) if journal == "delete" => Ok(Self { database, db: Some(db), is_new }),
            Ok(_) => Err(StoreError::InUse),
            Err(error) if is_busy(&error) => Err(StoreError::InUse),
            Err(error) if is_unreadable(&error) => Ok(Self { database, db: None, is_new }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Merges into a copy, whose schema is up to date, what a restore must not undo: numbers and names that this store has
    /// given out since, keys that were created, used, ended or revoked, accounts that were disabled or deleted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the copy cannot be written.
    pub(crate) async fn merge_into(&mut self, copy: &Path) -> Result<MergeOutcome, StoreError> {
        let merged = match &mut self.db {
            Some(db) if !self.is_new => merge::merge(db, copy).await,
            _ => return merge::skip_ids(copy).await.map(|()| MergeOutcome::NoStore),
        };
        match merged {
            Ok(merged) => Ok(merged),
            // An unreadable store is the very reason for many restores, so it must not prevent one.
            Err(error) => merge::skip_ids(copy).await.map(|()| MergeOutcome::Unreadable(error)),
        }
    }

    /// Replaces the store by `copy` in one step. Keeps the old store under another name, which is returned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file system does not allow it. Then the store is unchanged.
    pub(crate) async fn replace_by(
        mut self,
        copy: tempfile::NamedTempFile,
        suffix: &str,
    ) -> Result<Option<PathBuf>, StoreError> {
        match self.put(copy, suffix).await {
            Ok(kept) => {
                // Only now: the lock on the old file keeps other processes out until the copy has its name.
                self.release().await;
                Ok(kept)
            }
            Err(error) => {
                self.give_up().await;
                Err(unavailable(error))
            }
        }
    }

    async fn put(&mut self, copy: tempfile::NamedTempFile, suffix: &str) -> io::Result<Option<PathBuf>> {
        let store = self.database.path().to_owned();
        #[cfg(unix)]
        copy_ownership(&store, &copy)?;
        // Before the rename: after a power cut, the name must not lead to a file without its content.
        copy.as_file().sync_all()?;
        let kept = if self.is_new { None } else { Some(keep(&store, suffix)?) };
        if self.db.is_none() {
            // Side files of a file that is not a database must not be taken for those of the copy.
            let kept = kept.clone().unwrap_or_else(|| with_suffix(&store, suffix));
            for side in ["-wal", "-shm", "-journal"] {
                keep_side(&with_suffix(&store, side), &with_suffix(&kept, side))?;
            }
        }
        // Windows does not replace a file that is open.
        if cfg!(not(unix)) {
            self.release().await;
        }
        if let Err(error) = copy.persist(&store) {
            // The store keeps its own name, and only that one.
            if let Some(kept) = kept {
                let _ = fs::remove_file(kept);
            }
            return Err(error.error);
        }
        // The rename survives a power cut only once the directory is written too.
        sync_directory_of(&store)?;
        self.is_new = false;
        Ok(kept)
    }

    /// Gives the lock back and leaves everything as it was.
    pub(crate) async fn give_up(mut self) {
        if self.is_new {
            // The file is empty: it was created only to reserve the name.
            let _ = fs::remove_file(self.database.path());
        }
        self.release().await;
    }

    async fn release(&mut self) {
        if let Some(db) = self.db.take() {
            // The connection wrote nothing that could be lost.
            let _ = db.close().await;
        }
    }
}

/// Checkpoints and removes the WAL, which only the last connection to the file can do, then locks the file for the
/// lifetime of the connection. Returns the journal mode: another process that came in between has set another one.
async fn lock_exclusively(db: &mut SqliteConnection) -> Result<String, sqlx::Error> {
    // In WAL mode, BEGIN EXCLUSIVE does not keep readers out. So the file leaves WAL mode first.
    sqlx::raw_sql("PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
        .execute(&mut *db)
        .await?;
    sqlx::query_scalar("PRAGMA journal_mode").fetch_one(db).await
}

/// Gives the copy the owner and the mode of the store that it replaces, or the owner of the directory. An operator may
/// restore as root, and the server runs as another user.
#[cfg(unix)]
fn copy_ownership(store: &Path, copy: &tempfile::NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let present = match store.metadata() {
        Ok(present) => {
            fs::set_permissions(copy.path(), present.permissions())?;
            present
        }
        Err(_) => directory_of(store).metadata()?,
    };
    let own = copy.as_file().metadata()?;
    // Only root may give a file to another user. A restore as the same user needs no such right.
    if (own.uid(), own.gid()) == (present.uid(), present.gid()) {
        return Ok(());
    }
    chown(copy.path(), Some(present.uid()), Some(present.gid()))
}

/// Gives the store a second name, which it keeps when the copy takes the first one.
fn keep(store: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut kept = with_suffix(store, suffix);
    loop {
        // A link and not a rename: the store must have its own name at every moment, also if we are killed here.
        match fs::hard_link(store, &kept) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept = with_suffix(&kept, "-2"),
            Err(error) => return Err(error),
        }
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}

fn keep_side(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
