//! What a supervisor is told: ready, alive, stopping. On Linux that is systemd, if it started us (`sd_notify`).

#[cfg(target_os = "linux")]
pub(super) use self::systemd::{Supervisor, Watchdog};

#[cfg(not(target_os = "linux"))]
pub(super) use self::nobody::{Supervisor, Watchdog};

#[cfg(target_os = "linux")]
mod systemd {
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::time::Duration;

    use sd_notify::NotifyState;

    use crate::domain::clock::{Clock as _, SystemClock};

    /// Messages that may wait for a supervisor who does not listen; further ones are dropped.
    const WAITING: usize = 8;

    /// The one that started us, if anybody.
    #[derive(Clone)]
    pub(in crate::cli) struct Supervisor(SyncSender<NotifyState<'static>>);

    impl Supervisor {
        /// Finds it. What it is told goes through a thread of its own: one that does not listen must hold up nobody.
        pub(in crate::cli) fn find() -> Self {
            let (tell, told) = sync_channel(WAITING);
            std::thread::spawn(move || told.into_iter().for_each(notify));
            Self(tell)
        }

        /// Requests are being answered.
        pub(in crate::cli) fn ready(&self) {
            self.tell(NotifyState::Ready);
        }

        /// No more are accepted.
        pub(in crate::cli) fn stopping(&self) {
            self.tell(NotifyState::Stopping);
        }

        fn tell(&self, state: NotifyState<'static>) {
            // A queue that is full is the supervisor's own doing.
            let _ = self.0.try_send(state);
        }
    }

    /// Without a supervisor, this does nothing.
    fn notify(state: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::debug!(%error, "systemd could not be told");
        }
    }

    /// The signs of life that a supervisor waits for, if it does.
    pub(in crate::cli) struct Watchdog {
        supervisor: Supervisor,
        clock: SystemClock,
        every: Option<Duration>,
        last: Duration,
    }

    impl Watchdog {
        pub(in crate::cli) fn of(supervisor: Supervisor) -> Self {
            // Twice as often as is asked for.
            let every = sd_notify::watchdog_enabled().map(|patience| patience / 2);
            Self { supervisor, clock: SystemClock::start(), every, last: Duration::ZERO }
        }

        /// Gives a sign of life, when one is due.
        pub(in crate::cli) fn alive(&mut self) {
            let now = self.clock.monotonic();
            if self.every.is_some_and(|every| now.saturating_sub(self.last) >= every) {
                self.last = now;
                self.supervisor.tell(NotifyState::Watchdog);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nobody {
    /// There is none.
    #[derive(Clone, Copy)]
    pub(in crate::cli) struct Supervisor;

    impl Supervisor {
        pub(in crate::cli) const fn find() -> Self {
            Self
        }

        pub(in crate::cli) const fn ready(&self) {}

        pub(in crate::cli) const fn stopping(&self) {}
    }

    /// Nobody waits for a sign of life.
    pub(in crate::cli) struct Watchdog;

    impl Watchdog {
        pub(in crate::cli) const fn of(_: Supervisor) -> Self {
            Self
        }

        pub(in crate::cli) const fn alive(&mut self) {}
    }
}
