//! Whether the store has accounts, as open mode asks with every token: the table is read only after the file was written.
//!
//! In WAL mode each commit, of every process, writes to the WAL. Looking at its size and time costs a microsecond, and a
//! query as much as a fifth of a signature.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::file::{DatabaseFile, identity};
use jwksd_core::store::StoreError;

/// How long the WAL must have been the same. Two writes at nearly the same time may leave one and the same time of
/// modification, which FAT counts in steps of two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The last answer, and the WAL that it was read from.
#[derive(Debug)]
pub(super) struct AccountWatch {
    wal: PathBuf,
    latest: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Look {
    wal: WalState,
    since: Instant,
    is_settled: bool,
    answer: bool,
}

/// What changes when the WAL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WalState {
    identity: (u64, u64),
    len: u64,
    modified: SystemTime,
}

impl AccountWatch {
    pub(crate) fn new(database: &DatabaseFile) -> Self {
        Self { wal: database.wal(), latest: Mutex::default() }
    }

    /// The last answer if nothing was written since, or else that of `query`.
    pub(super) async fn ask(
        &self,
        query: impl AsyncFnOnce() -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        // Before the query: a write between the two is then seen by the next call.
        let wal = self.state();
        if let Some(look) = self.lock().as_ref()
            && look.is_settled
            && Some(look.wal) == wal
        {
            return Ok(look.answer);
        }
        let begun = Instant::now();
        let answer = query().await?;
        if let Some(wal) = wal {
            let mut latest = self.lock();
            let before = latest.as_ref().filter(|look| look.wal == wal);
            let since = before.map_or(begun, |look| look.since);
            let is_settled = begun.duration_since(since) >= SETTLED_AFTER;
            *latest = Some(Look { wal, since, is_settled, answer });
        }
        Ok(answer)
    }

    /// Nothing where files have no identity. Every call then asks the store.
    fn state(&self) -> Option<WalState> {
        let (identity, file) = (identity(&self.wal)?, self.wal.metadata().ok()?);
        Some(WalState { identity, len: file.len(), modified: file.modified().ok()? })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Look>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
