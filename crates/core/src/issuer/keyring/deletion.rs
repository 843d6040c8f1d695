//! Deleting keys whose retention is over.
//!
//! It is the least urgent of all changes: if it fails, keys are created and signed with as before, and it is tried again
//! later.

use std::time::Duration;

use super::rotation::Intent;
use super::state::Keyring;
use crate::issuer::error::IssuerError;
use crate::issuer::mutex::lock;
use crate::store::StoreError;

/// How long nothing is deleted after a failure.
const PAUSE: Duration = Duration::from_mins(1);

impl Keyring {
    /// Deletes what the plan says, unless that has just failed.
    pub(super) async fn delete_ended(&self) -> Result<(), IssuerError> {
        let (now, failed_at) = (self.context.clock.monotonic(), *lock(&self.deletion_failed_at));
        if failed_at.is_some_and(|at| now < at + PAUSE) {
            return Ok(());
        }
        let deleted = self.change(&Intent::DeleteEnded).await;
        // A store that is busy or gone fails other changes as well: that is not for this place to say.
        let Err(IssuerError::Store(error @ StoreError::Forbidden(_))) = deleted else {
            *lock(&self.deletion_failed_at) = None;
            return deleted;
        };
        // Once, however often it fails from now on.
        if failed_at.is_none() {
            tracing::warn!(
                "keys whose retention is over cannot be deleted, and are kept: {error}; `jwksd doctor` looks for the cause"
            );
        }
        *lock(&self.deletion_failed_at) = Some(now);
        Ok(())
    }
}
