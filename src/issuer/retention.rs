//! How long `auth_logs` are kept: a plain clock-driven broom, that sweeps a little at a time.

use std::time::Duration;

use super::Context;
use crate::domain::clock::ClockAnchor;
use crate::store::StoreError;

/// Rows of one transaction: it takes a few milliseconds, which is what a sign-in may have to wait for it.
const BATCH: u32 = 200;

/// Sees to it that `auth_logs` hold nothing older than they should.
pub struct Retention {
    context: Context,
    keep: Duration,
    started: ClockAnchor,
}

/// What one sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Nothing too old is left.
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

    /// Removes a batch of what is too old. A wall clock that was set forward while we ran removes nothing before its
    /// time.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn sweep(&mut self) -> Result<Swept, StoreError> {
        let clock = &self.context.clock;
        let now = self.started.trusted_now(clock.now(), clock.monotonic());
        let removed = self.context.store.delete_sign_ins_before(now.minus(self.keep), BATCH).await?;
        Ok(if removed < u64::from(BATCH) { Swept::All } else { Swept::Some })
    }
}
