//! What a supervisor is told: ready, alive, stopping. On Linux that is systemd, if it started us (`sd_notify`).

#[cfg(target_os = "linux")]
pub(super) use self::systemd::{Supervisor, ready, stopping};

#[cfg(not(target_os = "linux"))]
pub(super) use self::nobody::{Supervisor, ready, stopping};

#[cfg(target_os = "linux")]
mod systemd {
    use std::time::Duration;

    use sd_notify::NotifyState;

    use crate::domain::clock::{Clock as _, SystemClock};

    /// Who expects a sign of life, if anybody.
    pub(in crate::cli) struct Supervisor {
        clock: SystemClock,
        every: Option<Duration>,
        last: Duration,
    }

    impl Supervisor {
        /// The one that started us.
        pub(in crate::cli) fn find() -> Self {
            // Twice as often as is asked for.
            let every = sd_notify::watchdog_enabled().map(|patience| patience / 2);
            Self { clock: SystemClock::start(), every, last: Duration::ZERO }
        }

        /// Gives a sign of life, when one is due.
        pub(in crate::cli) fn alive(&mut self) {
            let now = self.clock.elapsed();
            if self.every.is_some_and(|every| now.saturating_sub(self.last) >= every) {
                self.last = now;
                notify(NotifyState::Watchdog);
            }
        }
    }

    /// Requests are being answered.
    pub(in crate::cli) fn ready() {
        notify(NotifyState::Ready);
    }

    /// No more are accepted.
    pub(in crate::cli) fn stopping() {
        notify(NotifyState::Stopping);
    }

    /// Without a supervisor, this does nothing.
    fn notify(state: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::debug!(%error, "systemd could not be told");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nobody {
    /// There is none.
    pub(in crate::cli) struct Supervisor;

    impl Supervisor {
        pub(in crate::cli) const fn find() -> Self {
            Self
        }

        pub(in crate::cli) const fn alive(&mut self) {}
    }

    pub(in crate::cli) const fn ready() {}

    pub(in crate::cli) const fn stopping() {}
}
