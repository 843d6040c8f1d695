//! Failures in the log: what keeps requests from being answered is said when it begins and when it is over, not again with
//! every request that it costs. A full disk would not become emptier by it.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::clock::Clock;

/// A failure is over when no request has met it for so long. Longer than clients and probes usually pause.
const QUIET: Duration = Duration::from_mins(2);

/// Failures that are told apart at a time. What there is more of is said as often as it comes.
const MOST: usize = 16;

/// The failures that go on.
pub(super) struct Failures {
    clock: Arc<dyn Clock>,
    ongoing: Mutex<Vec<Failing>>,
}

/// What fails, by all that its causes say.
struct Failing {
    cause: String,
    since: Duration,
    latest: Duration,
    requests: u64,
}

impl Failures {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ongoing: Mutex::default() }
    }

    /// A request was answered with this status for want of something.
    pub(super) fn log(&self, request_id: &str, status: u16, error: &dyn Error) {
        let cause = chain(error);
        if self.is_new(&cause) {
            tracing::error!(request_id, status, "request {request_id} was answered {status}: {cause}");
        } else {
            tracing::debug!(
                request_id,
                status,
                "request {request_id} was answered {status} as well: {cause}"
            );
        }
    }

    /// Says which failures are over; to be called now and then.
    pub(super) fn tidy(&self) {
        for over in self.take_over() {
            let Failing { cause, since, latest, requests } = over;
            let lasted = (latest - since).as_secs();
            tracing::info!(
                requests,
                "{requests} requests failed within {lasted} s, and none in the {} s since: {cause}",
                QUIET.as_secs()
            );
        }
    }

    fn is_new(&self, cause: &str) -> bool {
        let now = self.clock.monotonic();
        let mut ongoing = self.ongoing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ongoing.iter_mut().find(|failing| failing.cause == cause) {
            known.latest = now;
            known.requests += 1;
            return false;
        }
        if ongoing.len() < MOST {
            ongoing.push(Failing { cause: cause.to_owned(), since: now, latest: now, requests: 1 });
        }
        true
    }

    fn take_over(&self) -> Vec<Failing> {
        let now = self.clock.monotonic();
        let mut ongoing = self.ongoing.lock().unwrap_or_else(PoisonError::into_inner);
        ongoing.extract_if(.., |failing| now.saturating_sub(failing.latest) >= QUIET).collect()
    }
}

/// What an error and its sources say, each once: some repeat what the next one says.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let says = error.to_string();
        if !text.ends_with(&says) {
            text.push_str(": ");
            text.push_str(&says);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};

    #[test]
    fn a_failure_is_new_once_until_it_was_over() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let failures = Failures::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let over = || failures.take_over().into_iter().map(|it| (it.cause, it.requests)).collect::<Vec<_>>();
        assert!(failures.is_new("the disk is full"));
        assert!(failures.is_new("the file is locked"));
        for _ in 0..3 {
            clock.advance(QUIET / 2);
            assert!(!failures.is_new("the disk is full"));
        }
        assert_eq!(over(), [("the file is locked".to_owned(), 1)]);
        clock.advance(QUIET);
        assert_eq!(over(), [("the disk is full".to_owned(), 4)]);
        assert!(failures.is_new("the disk is full"));
    }

    #[test]
    fn however_many_failures_there_are_few_are_remembered() {
        let failures = Failures::new(Arc::new(ManualClock::at(Timestamp::from_secs(0))));
        for n in 0..1000 {
            assert!(failures.is_new(&n.to_string()));
        }
        assert_eq!(failures.ongoing.lock().unwrap().len(), MOST);
    }
}
