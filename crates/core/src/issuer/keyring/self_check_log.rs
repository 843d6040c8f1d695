//! The result of the last self-check, and how many have failed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::issuer::mutex::lock;
use crate::key::self_check::SelfCheckError;

#[derive(Debug, Default)]
pub(super) struct SelfCheckLog {
    failure: Mutex<Option<SelfCheckError>>,
    failures: AtomicU64,
}

impl SelfCheckLog {
    /// Remembers a result, and logs where failures begin and end.
    pub(super) fn record(&self, result: &Result<(), SelfCheckError>) {
        let failure = result.as_ref().err();
        let mut known = lock(&self.failure);
        if let Some(error) = failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
            // Each tick tries again, four times a second. Only a new reason is worth a line.
            if known.as_ref() != failure {
                tracing::error!(
                    "the new key set is not published, because a token of one of its keys does not verify through it: \
                     {error}; what was published before stays, without keys that have ended"
                );
            }
        } else if known.is_some() {
            tracing::info!("tokens verify through the new key set again");
        }
        *known = failure.cloned();
    }

    /// Why the last self-check failed; nothing if it passed.
    pub(super) fn failure(&self) -> Option<SelfCheckError> {
        lock(&self.failure).clone()
    }

    /// How many have failed since the start.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
