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
        let failed = match deleted {
            Err(IssuerError::Store(error)) if is_refusal(&error) => Some(error),
            other => {
                *lock(&self.deletion_failed_at) = None;
                return other;
            }
        };
        // Once, however often it fails from now on.
        if let Some(error) = failed.filter(|_| failed_at.is_none()) {
            tracing::warn!(
                "keys whose retention is over cannot be deleted, and are kept: {}; `jwksd doctor` looks for the cause",
                cause(&error)
            );
        }
        *lock(&self.deletion_failed_at) = Some(now);
        Ok(())
    }
}

/// Whether the store answers, but does not delete. A store that is busy or gone fails other changes as well.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Foreign(_) | StoreError::Corrupt(_))
}

/// The error and its causes.
fn cause(error: &StoreError) -> String {
    let mut causes = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        causes.push(error.to_string());
        source = error.source();
    }
    causes.join(": ")
}
