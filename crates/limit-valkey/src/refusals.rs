//! Refusals that are certain to hold for a while: a client over the limit costs no more round trips.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use jwksd_core::client::ClientKey;
use jwksd_core::rate_limit::Bucket;

/// Maximum number of refusals in memory. Others are asked for again.
const MAX_REFUSALS: usize = 1 << 16;

/// Until when clients are refused.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<(Bucket, ClientKey), Instant>>);

impl Refusals {
    /// Time for which the client is certain to be refused.
    pub(crate) fn remaining(&self, bucket: Bucket, client: ClientKey) -> Option<Duration> {
        let mut refusals = self.lock();
        let until = refusals.get(&(bucket, client))?;
        let remaining = until.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            refusals.remove(&(bucket, client));
            return None;
        }
        Some(remaining)
    }

    pub(crate) fn insert(&self, bucket: Bucket, client: ClientKey, until: Instant) {
        let mut refusals = self.lock();
        if refusals.len() >= MAX_REFUSALS {
            drop_over(&mut refusals);
        }
        if refusals.len() < MAX_REFUSALS {
            refusals.insert((bucket, client), until);
        }
    }

    /// Frees the memory of those that are over.
    pub(crate) fn evict(&self) {
        let mut refusals = self.lock();
        drop_over(&mut refusals);
        let room = refusals.len() * 2;
        refusals.shrink_to(room);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Bucket, ClientKey), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_over(refusals: &mut HashMap<(Bucket, ClientKey), Instant>) {
    let now = Instant::now();
    refusals.retain(|_, until| *until > now);
}
