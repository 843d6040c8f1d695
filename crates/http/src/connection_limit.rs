//! The limit on open connections, and the idle timeout that depends on how much of it is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use jwksd_core::outage::Outage;

/// Idle timeout in ticks of one second. Above the 60 s that proxies keep connections.
///
/// The timeout also applies to clients that send a request or read a response too slowly.
const IDLE_TICKS: u32 = 75;

/// Idle timeout in ticks while more than half of the connection limit is in use, or `accept` fails.
const CROWDED_IDLE_TICKS: u32 = 1;

/// Bounds the number of open connections.
#[derive(Clone)]
pub(super) struct ConnectionLimit {
    max: usize,
    free: Arc<Semaphore>,
    pub(super) state: Arc<AcceptState>,
}

/// How accepting connections goes.
#[derive(Default)]
pub(super) struct AcceptState {
    /// Ongoing while `accept` fails for a reason other than the connection limit (such as EMFILE).
    pub(super) outage: Outage,
    pub(super) has_failed_since_maintenance: AtomicBool,
    /// Whether the server shuts down. Idle connections are then closed immediately.
    pub(super) is_closing: AtomicBool,
}

/// One connection of the limit; dropping it makes room for another.
pub(super) struct Permit {
    limit: ConnectionLimit,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionLimit {
    pub(super) fn new(max: usize) -> Self {
        // The semaphore panics above its own maximum.
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { max, free: Arc::new(Semaphore::new(max)), state: Arc::default() }
    }

    pub(super) async fn acquire(&self) -> Permit {
        // The semaphore is never closed, so there always is a permit.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Permit { limit: self.clone(), _permit: permit }
    }
}

impl Permit {
    /// The number of ticks without activity after which a connection is closed.
    pub(super) fn idle_ticks(&self) -> u32 {
        let ConnectionLimit { max, free, state } = &self.limit;
        if state.is_closing.load(Ordering::Relaxed) {
            return 0;
        }
        let is_crowded = free.available_permits() < max.div_ceil(2) || state.outage.is_ongoing();
        if is_crowded { CROWDED_IDLE_TICKS } else { IDLE_TICKS }
    }
}

impl AcceptState {
    /// Ends the outage after one interval without a failure. One success is not enough: while descriptors are scarce,
    /// successes and failures alternate.
    pub(super) fn maintain(&self) {
        if !self.has_failed_since_maintenance.swap(false, Ordering::Relaxed) {
            self.outage.recovered(|| "connections are accepted again");
        }
    }
}
