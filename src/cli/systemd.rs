//! Reports to systemd that the service is ready, alive and stopping (`sd_notify`). Does nothing elsewhere.

#[cfg(target_os = "linux")]
pub(super) use self::notify::{Supervisor, Watchdog};

#[cfg(not(target_os = "linux"))]
pub(super) use self::noop::{Supervisor, Watchdog};

#[cfg(target_os = "linux")]
mod notify {
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::time::Duration;

    use sd_notify::NotifyState;

    use jwksd_core::clock::{Clock as _, SystemClock};

    /// Maximum number of messages that wait to be sent. Further ones are dropped.
    const MAX_QUEUED: usize = 8;

    /// The connection to the systemd that started this process, if one did.
    #[derive(Clone)]
    pub(in crate::cli) struct Supervisor(SyncSender<NotifyState<'static>>);

    impl Supervisor {
        pub(in crate::cli) fn connect() -> Self {
            let (sender, receiver) = sync_channel(MAX_QUEUED);
            // A thread of its own: an unread socket must not block the server.
            std::thread::spawn(move || receiver.into_iter().for_each(send));
            Self(sender)
        }

        /// Requests are answered.
        pub(in crate::cli) fn ready(&self) {
            self.notify(NotifyState::Ready);
        }

        /// No new connections are accepted.
        pub(in crate::cli) fn stopping(&self) {
            self.notify(NotifyState::Stopping);
        }

        fn notify(&self, state: NotifyState<'static>) {
            // The queue is full only if systemd does not read.
            let _ = self.0.try_send(state);
        }
    }

    /// Does nothing if systemd did not start this process.
    fn send(state: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::debug!(%error, "cannot notify systemd");
        }
    }

    /// Sends watchdog signals, if systemd waits for them.
    pub(in crate::cli) struct Watchdog {
        supervisor: Supervisor,
        clock: SystemClock,
        interval: Option<Duration>,
        last: Duration,
    }

    impl Watchdog {
        pub(in crate::cli) fn new(supervisor: Supervisor) -> Self {
            // Half of systemd's timeout, as its manual recommends.
            let interval = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
            Self { supervisor, clock: SystemClock::start(), interval, last: Duration::ZERO }
        }

        /// Sends a signal if one is due.
        pub(in crate::cli) fn alive(&mut self) {
            let now = self.clock.monotonic();
            if self.interval.is_some_and(|interval| now.saturating_sub(self.last) >= interval) {
                self.last = now;
                self.supervisor.notify(NotifyState::Watchdog);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod noop {
    /// Stands for the connection to systemd.
    #[derive(Clone, Copy)]
    pub(in crate::cli) struct Supervisor;

    impl Supervisor {
        pub(in crate::cli) const fn connect() -> Self {
            Self
        }

        pub(in crate::cli) const fn ready(&self) {}

        pub(in crate::cli) const fn stopping(&self) {}
    }

    /// Sends nothing.
    pub(in crate::cli) struct Watchdog;

    impl Watchdog {
        pub(in crate::cli) const fn new(_: Supervisor) -> Self {
            Self
        }

        pub(in crate::cli) const fn alive(&mut self) {}
    }
}
