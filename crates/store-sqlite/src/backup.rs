//! Copies of a store.

use std::path::Path;

use sqlx::Connection as _;

use super::error::failed;
use super::file::DatabaseFile;
use super::schema::migrate;
use jwksd_core::store::StoreError;

impl DatabaseFile {
    /// Copies the store, as it is at one moment, into an empty file. Other processes go on working meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a store that cannot be read to its end.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let name = file.to_str().ok_or_else(|| StoreError::Corrupt("its path is not UTF-8".to_owned()))?;
        let mut db = self.connect().await?;
        // One read transaction. Copies only live rows: free pages, with what they may still contain, stay behind.
        let copied = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut db).await.map_err(failed);
        db.close().await.map_err(failed)?;
        copied.map(drop)
    }

    /// The size of the store in bytes. A copy is at most as large.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be read.
    pub async fn size(&self) -> Result<u64, StoreError> {
        let mut db = self.connect().await?;
        let size = super::check::size(&mut db).await;
        db.close().await.map_err(failed)?;
        size
    }

    /// Brings the schema of a copy up to date.
    ///
    /// # Errors
    /// As [`SqliteStore::open`](super::SqliteStore::open).
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut db = self.connect().await?;
        let migrated = migrate(&mut db).await;
        db.close().await.map_err(failed)?;
        migrated
    }
}
