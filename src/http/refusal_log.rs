//! One log line per refused sign-in, for operators and fail2ban, within a limit: guessing must not fill the disk.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::clock::Clock;
use crate::issuer::RefusedSignIn;

/// Maximum number of lines in one [`WINDOW`]. Enough to see each of many addresses within a minute.
const MAX_LINES: u32 = 20;

/// Time in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// A refused sign-in and the client that tried it. An extension of the response carries it to the log.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) client: IpAddr,
    pub(super) sign_in: RefusedSignIn,
}

/// Logs refused sign-ins.
pub(super) struct RefusalLog {
    clock: Arc<dyn Clock>,
    window: Mutex<Window>,
}

/// Lines since a time.
#[derive(Default)]
struct Window {
    since: Duration,
    lines: u32,
    left_out: u64,
}

impl RefusalLog {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, window: Mutex::default() }
    }

    /// Logs a refusal, or counts it if there were too many. `packaging/fail2ban` reads these lines.
    pub(super) fn log(&self, request_id: &str, refusal: &Refusal) {
        let Some(left_out) = self.admit(1) else {
            return;
        };
        log_left_out(left_out);
        let Refusal { client, sign_in: RefusedSignIn { account, reason } } = refusal;
        // Names of stores that were taken over can have any character; the field escapes them.
        let account = account.as_deref();
        tracing::info!(request_id, account, "refused a sign-in from {client}: {reason}");
    }

    /// Logs how many were left out, if they would otherwise wait for the next refusal. Call it periodically.
    pub(super) fn maintain(&self) {
        if let Some(left_out) = self.admit(0) {
            log_left_out(left_out);
        }
    }

    /// Takes lines from the window. Returns how many were left out in the one before, or nothing if this one is full.
    fn admit(&self, lines: u32) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        if now.saturating_sub(window.since) >= WINDOW {
            left_out = window.left_out;
            *window = Window { since: now, ..Window::default() };
        }
        if window.lines + lines > MAX_LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += lines;
        Some(left_out)
    }
}

fn log_left_out(left_out: u64) {
    if left_out > 0 {
        tracing::info!(left_out, "refused {left_out} more sign-ins, which are not logged one by one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};

    #[test]
    fn twenty_lines_a_second_are_logged_and_the_others_are_counted() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let log = RefusalLog::new(Arc::clone(&clock) as Arc<dyn Clock>);
        for _ in 0..20 {
            assert_eq!(log.admit(1), Some(0));
        }
        for _ in 0..300 {
            assert_eq!(log.admit(1), None);
        }
        clock.advance(WINDOW);
        assert_eq!(log.admit(0), Some(300));
        assert_eq!(log.admit(1), Some(0));
    }
}
