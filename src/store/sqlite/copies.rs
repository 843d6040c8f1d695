//! Copies of a store.

use std::fs;
use std::io;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::connections::BUSY_TIMEOUT;
use super::files::DatabaseFile;
use super::{inspection, migrate, unavailable};

impl DatabaseFile {
    /// Copies the store, as it is at one moment, into an empty file. Nobody who works on it is held up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], for a store that cannot be read to its end, too.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let mut db = self.connect().await?;
        let copied = copy(&mut db, file).await;
        db.close().await.map_err(unavailable)?;
        copied
    }

    /// How many bytes a copy may come to.
    ///
    /// # Errors
    /// As [`DatabaseFile::copy_to`].
    pub async fn bytes(&self) -> Result<u64, StoreError> {
        let mut db = self.connect().await?;
        let bytes = inspection::bytes(&mut db).await;
        db.close().await.map_err(unavailable)?;
        bytes
    }

    /// Brings the schema of a copy up to date.
    ///
    /// # Errors
    /// As [`SqliteStore::open`](super::SqliteStore::open).
    pub async fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let mut db = self.connect().await?;
        let done = migrate(&mut db).await;
        db.close().await.map_err(unavailable)?;
        done
    }

    /// The same store, by the name of the file that a link leads to.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let is_link = self.path().is_symlink();
        let target = is_link.then(|| fs::canonicalize(self.path()).ok()).flatten();
        Self::of(target.unwrap_or_else(|| self.path().to_owned()))
    }

    async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let options = SqliteConnectOptions::new().filename(self.path()).busy_timeout(BUSY_TIMEOUT);
        options.disable_statement_logging().connect().await.map_err(unavailable)
    }
}

async fn copy(db: &mut SqliteConnection, file: &Path) -> Result<(), StoreError> {
    let name = file.to_str().ok_or_else(|| StoreError::Corrupt("its path is not UTF-8".to_owned()))?;
    sqlx::query("VACUUM INTO ?")
        .bind(name)
        .execute(db)
        .await
        .map(drop)
        .map_err(|error| if is_unreadable(&error) { damaged(&error) } else { unavailable(error) })
}

/// Makes the new name of a file last; where directories cannot be synced, the file system sees to it.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        fs::File::open(directory_of(file))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// The sentence of SQLite alone.
pub(super) fn damaged(error: &sqlx::Error) -> StoreError {
    let message = error.as_database_error().map(sqlx::error::DatabaseError::message);
    StoreError::Corrupt(format!("it is damaged: {}", message.unwrap_or("it cannot be read")))
}

/// Whether it is no database (`SQLITE_NOTADB`) or not all of one (`SQLITE_CORRUPT`).
pub(super) fn is_unreadable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| matches!(code & 0xFF, 11 | 26))
}

/// The directory that a file is in.
#[must_use]
pub fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}
