//! What happens on a connection.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Activity of one connection.
///
/// One timer per connection reads it. A timer per request, as hyper has it, would cost a twentieth of a JWKS response.
#[derive(Default)]
pub(super) struct Activity {
    /// Incremented when a request starts and when it ends; odd means one is in progress.
    count: AtomicU64,
    eviction: Notify,
}

impl Activity {
    /// Notes that a request starts or ends.
    pub(super) fn note(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes whenever a request starts or ends.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether no request is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.count().is_multiple_of(2)
    }

    /// Asks for the connection to be closed, if it is still idle then.
    pub(super) fn evict(&self) {
        self.eviction.notify_one();
    }

    /// Completes when the connection should be closed because it was evicted.
    pub(super) async fn evicted(&self) {
        loop {
            self.eviction.notified().await;
            // A request that has arrived meanwhile is answered.
            if self.is_idle() {
                return;
            }
        }
    }
}
