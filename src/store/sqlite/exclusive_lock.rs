//! Putting a copy in the place of a store: nobody may have that open, nor open it meanwhile.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::copies::{directory_of, is_unreadable, sync_directory_of};
use super::files::DatabaseFile;
use super::merge::{self, MergeOutcome};
use super::{is_busy, unavailable};

/// A store that nobody else has open, nor can open, as long as this is held.
#[derive(Debug)]
pub struct ExclusiveLock {
    location: DatabaseFile,
    /// Nothing if there is no such file, or none that SQLite could lock.
    db: Option<SqliteConnection>,
    /// Whether there was nothing before: the file is ours, and empty.
    is_new: bool,
}

impl ExclusiveLock {
    /// Takes hold of a store, or of its place if it is not there. A file that is there but is no database is held by
    /// nobody, and taken as it is.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open.
    pub async fn take(location: &DatabaseFile) -> Result<Self, StoreError> {
        let location = location.clone();
        // An empty file, for as long as we hold it: nobody founds a store there meanwhile.
        let is_new = location.make_private().map_err(unavailable)?;
        let mut db = SqliteConnectOptions::new()
            .filename(location.path())
            .busy_timeout(std::time::Duration::ZERO)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(unavailable)?;
        match lock_exclusively(&mut db).await {
            Ok(journal) if journal == "delete" => Ok(Self { location, db: Some(db), is_new }),
            Ok(_) => Err(StoreError::InUse),
            Err(error) if is_busy(&error) => Err(StoreError::InUse),
            Err(error) if is_unreadable(&error) => Ok(Self { location, db: None, is_new }),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Brings a copy, whose schema is up to date, to what must not be undone: numbers and names that this store has given
    /// out since, keys that were made, have signed, ended or were revoked since, accounts that were disabled or deleted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the copy cannot be written.
    pub async fn merge_into(&mut self, copy: &Path) -> Result<MergeOutcome, StoreError> {
        let carried = match &mut self.db {
            Some(db) if !self.is_new => merge::merge(db, copy).await,
            _ => return merge::skip_ids(copy).await.map(|()| MergeOutcome::NoStore),
        };
        match carried {
            Ok(carried) => Ok(carried),
            Err(error) => merge::skip_ids(copy).await.map(|()| MergeOutcome::Unreadable(error)),
        }
    }

    /// Puts `copy` in the place of the store, in one step, and keeps the store as it was under another name, which is
    /// returned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file system does not allow it; the store is as it was.
    pub async fn replace_by(
        mut self,
        copy: tempfile::NamedTempFile,
        suffix: &str,
    ) -> Result<Option<PathBuf>, StoreError> {
        match self.put(copy, suffix).await {
            Ok(kept) => {
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
        let store = self.location.path().to_owned();
        #[cfg(unix)]
        belong_to_owner_of(&store, &copy)?;
        copy.as_file().sync_all()?;
        let kept = if self.is_new { None } else { Some(keep(&store, suffix)?) };
        if self.db.is_none() {
            // What lies beside a file that is no database must not be taken for the copy's.
            let kept = kept.clone().unwrap_or_else(|| beside(&store, suffix));
            for side in ["-wal", "-shm", "-journal"] {
                keep_side(&beside(&store, side), &beside(&kept, side))?;
            }
        }
        // Windows replaces no file that is open.
        if cfg!(not(unix)) {
            self.release().await;
        }
        if let Err(error) = copy.persist(&store) {
            // The store goes on under its own name, and under that alone.
            if let Some(kept) = kept {
                let _ = fs::remove_file(kept);
            }
            return Err(error.error);
        }
        sync_directory_of(&store)?;
        self.is_new = false;
        Ok(kept)
    }

    /// Leaves everything as it was.
    pub async fn give_up(mut self) {
        if self.is_new {
            // It is empty, and an empty file is no store to anybody either.
            let _ = fs::remove_file(self.location.path());
        }
        self.release().await;
    }

    async fn release(&mut self) {
        if let Some(db) = self.db.take() {
            // It has written nothing that could be lost.
            let _ = db.close().await;
        }
    }
}

/// Has the WAL written back and removed, which only the last who has the file open can do, then locks out everybody for
/// as long as the connection lives. Returns what journal there is: whoever came in between has set another.
async fn lock_exclusively(db: &mut SqliteConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
        .execute(&mut *db)
        .await?;
    sqlx::query_scalar("PRAGMA journal_mode").fetch_one(db).await
}

/// Gives the copy the owner and the mode of the store that it replaces, or the owner of the directory: whoever restores may
/// be root, and the server is not.
#[cfg(unix)]
fn belong_to_owner_of(store: &Path, copy: &tempfile::NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let present = match store.metadata() {
        Ok(present) => {
            fs::set_permissions(copy.path(), present.permissions())?;
            present
        }
        Err(_) => directory_of(store).metadata()?,
    };
    let own = copy.as_file().metadata()?;
    if (own.uid(), own.gid()) == (present.uid(), present.gid()) {
        return Ok(());
    }
    chown(copy.path(), Some(present.uid()), Some(present.gid()))
}

/// Gives the store a second name, which it keeps when the copy takes the first.
fn keep(store: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut kept = beside(store, suffix);
    loop {
        match fs::hard_link(store, &kept) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept = beside(&kept, "-2"),
            Err(error) => return Err(error),
        }
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
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
