//! Replacing a store by a copy. No other process may have the store open, or open it meanwhile.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::error::{failed, is_busy, is_unreadable, unavailable};
use super::file::{self, DatabaseFile};
use super::merge::{self, MergeOutcome};
use crate::directory::{directory_of, sync_directory_of};
use jwksd_core::clock::Timestamp;
use jwksd_core::store::StoreError;

/// A store that no other process has open, or can open, while this lock is held.
#[derive(Debug)]
pub struct ExclusiveLock {
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
    pub async fn take(database: &DatabaseFile) -> Result<Self, StoreError> {
        let database = database.clone();
        // An empty file that we hold keeps other processes from creating a store there.
        let is_new = database.create_private().map_err(unavailable)?;
        let mut db = file::options(database.path())
            // A running server does not let go of the file: waiting would only delay the refusal.
            .busy_timeout(std::time::Duration::ZERO)
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
    /// given out since, keys that were created, used, ended or revoked, accounts that were disabled, deleted or signed out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the copy cannot be written.
    pub async fn merge_into(&mut self, copy: &Path, now: Timestamp) -> Result<MergeOutcome, StoreError> {
        let merged = match &mut self.db {
            Some(db) if !self.is_new => merge::merge(db, copy).await,
            _ => return merge::assume_lost_changes(copy, now).await.map(|()| MergeOutcome::NoStore),
        };
        match merged {
            Ok(merged) => Ok(merged),
            // An unreadable store is the very reason for many restores, so it must not prevent one.
            Err(error) => {
                merge::assume_lost_changes(copy, now).await.map(|()| MergeOutcome::Unreadable(error))
            }
        }
    }

    /// Replaces the store by `copy` in one step. Keeps the old store under another name, which is returned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file system does not allow it. Then the store is unchanged.
    pub async fn replace_by(
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
        let kept = (!self.is_new).then(|| free_name(&store, suffix));
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
        match &kept {
            Some(kept) => {
                // Before it happens: the process may be killed before it can say so.
                tracing::info!("the old store will be kept as {}", kept.display());
                replace_and_keep(&store, copy, kept)?;
            }
            None => drop(copy.persist(&store)?),
        }
        // From here on the name leads to the copy, which must stay if the next step fails.
        self.is_new = false;
        // The rename survives a power cut only once the directory is written too.
        sync_directory_of(&store)?;
        Ok(kept)
    }

    /// Gives the store another name, which is returned, so that no process opens it by mistake.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file system does not allow it. Then the store keeps its name.
    pub async fn put_aside(mut self, suffix: &str) -> Result<PathBuf, StoreError> {
        let store = self.database.path().to_owned();
        let aside = free_name(&store, suffix);
        // Windows does not rename a file that is open.
        if cfg!(not(unix)) {
            self.release().await;
        }
        let renamed = rename_new(&store, &aside).and_then(|()| sync_directory_of(&store));
        self.release().await;
        renamed.map(|()| aside).map_err(unavailable)
    }

    /// The connection that holds the lock; nothing if the file is not a database.
    pub(super) fn connection(&mut self) -> Option<&mut SqliteConnection> {
        self.db.as_mut()
    }

    /// Gives the lock back and leaves everything as it was.
    pub async fn give_up(mut self) {
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
            // File systems without modes refuse every change of one, also to the mode that each file has there.
            if copy.as_file().metadata()?.permissions() != present.permissions() {
                fs::set_permissions(copy.path(), present.permissions())?;
            }
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

/// A name next to the store that no file has.
fn free_name(store: &Path, suffix: &str) -> PathBuf {
    let mut name = with_suffix(store, suffix);
    while name.symlink_metadata().is_ok() {
        name = with_suffix(&name, "-2");
    }
    name
}

/// Puts the copy in place of the store, which is kept under another name.
///
/// With a hard link or an exchange, the store's name leads to one of the two files at every moment. FAT, SMB and some FUSE
/// file systems have neither. There, the store has no name between two renames. At no moment does the old store have only
/// a name that does not tell what it is: this may be killed at any of them.
fn replace_and_keep(store: &Path, copy: tempfile::NamedTempFile, kept: &Path) -> io::Result<()> {
    if fs::hard_link(store, kept).is_ok() {
        return copy.persist(store).map(drop).map_err(|error| {
            // The store keeps its own name, and only that one.
            let _ = fs::remove_file(kept);
            error.error
        });
    }
    if rename_new(copy.path(), kept).is_ok() {
        if exchange(kept, store).is_ok() {
            return Ok(());
        }
        fs::rename(kept, copy.path())?;
    }
    rename_new(store, kept)?;
    copy.persist(store).map(drop).map_err(|error| {
        let _ = fs::rename(kept, store);
        error.error
    })
}

/// Renames a file without replacing another one.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems cannot.
            Err(error) if error != rustix::io::Errno::EXIST => {}
            renamed => return Ok(renamed?),
        }
    }
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Exchanges the names of two files in one step, where system and file system can.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (one, other);
        Err(io::ErrorKind::Unsupported.into())
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
