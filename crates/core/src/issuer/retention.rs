//! How long `auth_logs` are kept.

use std::time::Duration;

use super::context::Context;
use crate::clock::ClockAnchor;
use crate::store::StoreError;

/// Maximum number of rows in one transaction. It takes a few milliseconds, for which a sign-in may have to wait.
const BATCH: u32 = 200;

/// Deletes rows of `auth_logs` that are older than they should be kept.
pub struct Retention {
    context: Context,
    keep: Duration,
    started: ClockAnchor,
}

/// The result of one sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// No old rows are left.
    All,
    /// There may be more.
    Some,
}

impl Retention {
    /// Keeps rows for this long.
    #[must_use]
    pub fn new(context: Context, keep: Duration) -> Self {
        let started = ClockAnchor::now(context.clock.as_ref());
        Self { context, keep, started }
    }

    /// Deletes one batch of old rows.
    ///
    /// Trusts the wall clock only as far as the monotonic clock confirms it: a clock that was set forward while we run
    /// must not delete rows too early.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    pub async fn sweep(&mut self) -> Result<Swept, StoreError> {
        let clock = &self.context.clock;
        let now = self.started.trusted_now(clock.now(), clock.monotonic());
        let deleted = self.context.store.delete_sign_ins_before(now.minus(self.keep), BATCH).await?;
        Ok(if deleted < u64::from(BATCH) { Swept::All } else { Swept::Some })
    }
}
