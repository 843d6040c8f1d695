//! Whether the file can be written now.

use std::time::Duration;

use super::error::{failed, not_writable};
use super::pool::{Durability, Writer};
use jwksd_core::store::{NotWritable, StoreError};

/// Time limit of the probe. Shorter than sign-ins wait for the lock: who probes seldom waits longer than some seconds.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Writes one page, with the content that it had before, and commits that.
pub(super) async fn probe(writer: &Writer) -> Result<(), NotWritable> {
    match tokio::time::timeout(TIME_LIMIT, write_twice(writer)).await {
        Ok(written) => written.map_err(not_writable),
        Err(_) => Err(NotWritable::Locked(None)),
    }
}

/// Tries again after a failure other than a lock: a file that has become read-only fails to be written once, and only the
/// next connection sees why.
async fn write_twice(writer: &Writer) -> Result<(), StoreError> {
    match write(writer).await {
        Err(StoreError::Unavailable(_)) => write(writer).await,
        written => written,
    }
}

async fn write(writer: &Writer) -> Result<(), StoreError> {
    // As for a sign-in, so that the probe fails when they do, and costs as little.
    let mut tx = writer.begin(Durability::Normal).await?;
    // Two statements, because SQLite does not write a row that stays the same.
    for sql in ["UPDATE key_changes SET number = number + 1", "UPDATE key_changes SET number = number - 1"] {
        sqlx::query(sql).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}
