//! One log line per refused sign-in, for operators and fail2ban, within limits: guessing must not fill the disk.
//!
//! A client that floods the log must not hide the others: its lines leave room for those of clients that have none yet.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jwksd_core::client::ClientKey;
use jwksd_core::clock::Clock;
use jwksd_core::issuer::{RefusalReason, RefusedSignIn};

/// Maximum number of lines about guesses in one [`WINDOW`]. Enough to see each of many addresses within a minute.
const MAX_GUESSES: usize = 20;

/// Maximum number of lines about requests without credentials. They guess nothing, so they have a limit of their own.
const MAX_WITHOUT_CREDENTIALS: usize = 4;

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
    guesses: Mutex<Window>,
    without_credentials: Mutex<Window>,
}

/// Lines since a time.
struct Window {
    max: usize,
    since: Duration,
    /// The client of each line.
    clients: Vec<ClientKey>,
    left_out: u64,
}

impl RefusalLog {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let window = |max| Mutex::new(Window::new(max));
        Self { clock, guesses: window(MAX_GUESSES), without_credentials: window(MAX_WITHOUT_CREDENTIALS) }
    }

    /// Logs a refusal, or counts it if there were too many. `packaging/fail2ban` reads these lines.
    pub(super) fn log(&self, request_id: &str, refusal: &Refusal) {
        let Refusal { client, sign_in: RefusedSignIn { account, reason } } = refusal;
        let window = if *reason == RefusalReason::MissingCredentials {
            &self.without_credentials
        } else {
            &self.guesses
        };
        if self.in_window(window, |window| window.admit((*client).into())) {
            // Names of stores that were taken over can have any character; the field escapes them.
            let account = account.as_deref();
            tracing::info!(request_id, account, "refused a sign-in from {client}: {reason}");
        }
    }

    /// Logs how many were left out, if they would otherwise wait for the next refusal. Call it periodically.
    pub(super) fn maintain(&self) {
        for window in [&self.guesses, &self.without_credentials] {
            self.in_window(window, |_| ());
        }
    }

    /// Logs how many lines were left out of a window that is over, and calls `act` with the present one.
    fn in_window<T>(&self, window: &Mutex<Window>, act: impl FnOnce(&mut Window) -> T) -> T {
        let now = self.clock.monotonic();
        let (left_out, done) = {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            (window.renew(now), act(&mut window))
        };
        if left_out > 0 {
            tracing::info!(left_out, "refused {left_out} more sign-ins, which are not logged one by one");
        }
        done
    }
}

impl Window {
    fn new(max: usize) -> Self {
        Self { max, since: Duration::ZERO, clients: Vec::with_capacity(max), left_out: 0 }
    }

    /// Begins a new window if this one is over. Returns how many lines were left out of it.
    fn renew(&mut self, now: Duration) -> u64 {
        if now.saturating_sub(self.since) < WINDOW {
            return 0;
        }
        self.since = now;
        self.clients.clear();
        std::mem::take(&mut self.left_out)
    }

    /// Takes a line for this client. Half of the lines are only for clients that have none in this window.
    fn admit(&mut self, client: ClientKey) -> bool {
        let max = if self.clients.contains(&client) { self.max / 2 } else { self.max };
        if self.clients.len() < max {
            self.clients.push(client);
            return true;
        }
        self.left_out += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, n]).into()
    }

    #[test]
    fn one_client_takes_half_of_the_lines_of_a_second_and_leaves_the_others_to_further_clients() {
        let mut window = Window::new(20);
        let mut admitted = |n: u8, times: usize| (0..times).filter(|_| window.admit(client(n))).count();
        assert_eq!(admitted(0, 300), 10);
        let others: Vec<_> = (1..=12).map(|n| admitted(n, 2)).collect();
        assert_eq!(others, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(window.renew(WINDOW / 2), 0);
        assert!(!window.admit(client(99)));
        assert_eq!(window.renew(WINDOW), 290 + 10 + 4 + 1);
        assert!(window.admit(client(0)));
        assert_eq!(window.renew(2 * WINDOW), 0);
    }
}
