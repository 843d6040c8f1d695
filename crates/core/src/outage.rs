//! Outages: a lasting failure is logged when it begins and when it ends, not each time it shows.
//!
//! A full disk fails every request. One line per request would bury the others, and fill the disk further.

use std::error::Error;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// An outage ends when its cause has not shown for this long. Longer than clients and probes usually pause.
pub const QUIET: Duration = Duration::from_mins(2);

/// Maximum number of causes tracked at once. Failures with further causes are logged each time.
const MAX_CAUSES: usize = 16;

/// One thing that either works or fails, such as a loop that retries.
///
/// A loop reports each attempt, and only changes reach the log:
/// ```ignore
/// match attempt().await {
///     Ok(()) => outage.recovered(|| "the key rotation works again"),
///     Err(error) => outage.failed(|| format!("the key rotation failed and is retried: {error}")),
/// }
/// ```
#[derive(Debug, Default)]
pub struct Outage {
    is_ongoing: AtomicBool,
}

impl Outage {
    /// Returns true if the outage begins now, false if it had begun before.
    pub fn begin(&self) -> bool {
        // A swap, so that of several threads exactly one logs.
        !self.is_ongoing.swap(true, Ordering::Relaxed)
    }

    /// Returns true if an outage ends now, false if there was no outage.
    pub fn end(&self) -> bool {
        self.is_ongoing.swap(false, Ordering::Relaxed)
    }

    /// Returns true between [`begin`](Self::begin) and [`end`](Self::end).
    #[must_use]
    pub fn is_ongoing(&self) -> bool {
        self.is_ongoing.load(Ordering::Relaxed)
    }

    /// Reports a failure; logs the message as an error if the outage begins with it.
    pub fn failed<M: Display>(&self, message: impl FnOnce() -> M) {
        if self.begin() {
            tracing::error!("{}", message());
        }
    }

    /// Reports a success; logs the message if an outage ends with it.
    pub fn recovered<M: Display>(&self, message: impl FnOnce() -> M) {
        if self.end() {
            tracing::info!("{}", message());
        }
    }
}

/// Outages told apart by cause. Successes do not end them, because a success says nothing about another cause: quiet does.
pub struct Outages {
    clock: Arc<dyn Clock>,
    ongoing: Mutex<Vec<Ongoing>>,
}

struct Ongoing {
    cause: String,
    since: Duration,
    latest: Duration,
    failures: u64,
}

/// An outage that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// What was given to [`Outages::begin`].
    pub cause: String,
    /// Time from the first failure to the last.
    pub lasted: Duration,
    /// How many failures it had.
    pub failures: u64,
}

impl Outages {
    /// No outage so far.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ongoing: Mutex::default() }
    }

    /// Counts a failure. Returns true if the outage of this cause begins with it.
    pub fn begin(&self, cause: &str) -> bool {
        let now = self.clock.monotonic();
        let mut ongoing = self.ongoing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ongoing.iter_mut().find(|outage| outage.cause == cause) {
            known.latest = now;
            known.failures += 1;
            return false;
        }
        // Bounded, because a cause can contain text that a client chose.
        if ongoing.len() < MAX_CAUSES {
            ongoing.push(Ongoing { cause: cause.to_owned(), since: now, latest: now, failures: 1 });
        }
        true
    }

    /// Ends the outages whose cause has been quiet for [`QUIET`], and returns them.
    pub fn end_quiet(&self) -> Vec<Ended> {
        let now = self.clock.monotonic();
        let mut ongoing = self.ongoing.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = ongoing.extract_if(.., |outage| now.saturating_sub(outage.latest) >= QUIET);
        quiet
            .map(|Ongoing { cause, since, latest, failures }| Ended {
                cause,
                lasted: latest.saturating_sub(since),
                failures,
            })
            .collect()
    }
}

/// The message of an error and of its sources. A message that repeats the next one is not doubled.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        // Some errors include their source in their own message.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    #[test]
    fn an_outage_begins_once_and_ends_once() {
        let outage = Outage::default();
        assert!(!outage.end());
        assert!(outage.begin());
        assert!(!outage.begin());
        assert!(outage.is_ongoing());
        assert!(outage.end());
        assert!(!outage.end());
        assert!(outage.begin());
    }

    #[test]
    fn an_outage_by_cause_begins_once_and_ends_after_the_quiet_time() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let outages = Outages::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let ended = |cause: &str, lasted, failures| Ended { cause: cause.to_owned(), lasted, failures };
        assert!(outages.begin("the disk is full"));
        assert!(outages.begin("the file is locked"));
        for _ in 0..3 {
            clock.advance(QUIET / 2);
            assert!(!outages.begin("the disk is full"));
        }
        assert_eq!(outages.end_quiet(), [ended("the file is locked", Duration::ZERO, 1)]);
        clock.advance(QUIET);
        assert_eq!(outages.end_quiet(), [ended("the disk is full", QUIET / 2 * 3, 4)]);
        assert!(outages.begin("the disk is full"));
    }

    #[test]
    fn the_number_of_tracked_causes_is_bounded() {
        let outages = Outages::new(Arc::new(ManualClock::at(Timestamp::from_secs(0))));
        for n in 0..1000 {
            assert!(outages.begin(&n.to_string()));
        }
        assert_eq!(outages.ongoing.lock().unwrap().len(), MAX_CAUSES);
    }
}
