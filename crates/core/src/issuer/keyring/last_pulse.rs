//! When a store that other machines change too has answered last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::store::Pulse;

/// In milliseconds of the monotonic clock; [`FILE`] until a pulse of a server was seen. Read by every request for the JWKS.
pub(super) struct LastPulse(AtomicU64);

/// In milliseconds: pulses are due four times a second.
const RECENT: u64 = 900;

/// Only this machine changes the store.
const FILE: u64 = u64::MAX;

impl Default for LastPulse {
    fn default() -> Self {
        Self(AtomicU64::new(FILE))
    }
}

impl LastPulse {
    pub(super) fn record(&self, pulse: &Pulse, now: Duration) {
        self.0.store(if pulse.now.is_some() { millis(now) } else { FILE }, Ordering::Relaxed);
    }

    /// Whether a server has answered just now, within some pulses.
    pub(super) fn is_recent(&self, now: Duration) -> bool {
        let at = self.0.load(Ordering::Relaxed);
        at != FILE && millis(now).saturating_sub(at) <= RECENT
    }

    /// Time since then; zero for a file.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            FILE => Duration::ZERO,
            at => Duration::from_millis(millis(now).saturating_sub(at)),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(FILE - 1)
}
