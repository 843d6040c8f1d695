//! Time as a parameter: a wall clock for times that others see, a monotonic clock for durations in this process.
//!
//! Everything takes its time from a [`Clock`], so that tests can use a [`ManualClock`].

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use jwksd_jose::timestamp::Timestamp;

/// When this process first saw something, on both clocks.
///
/// The monotonic clock bounds how much time has passed since: the wall clock may have been set forward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockAnchor {
    wall: Timestamp,
    monotonic: Duration,
}

impl ClockAnchor {
    /// An anchor at the current time.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// The time by the monotonic clock, whatever the wall clock says.
    pub(crate) fn unbounded(&self, monotonic: Duration) -> Timestamp {
        self.wall.plus(monotonic.saturating_sub(self.monotonic))
    }

    /// The earlier time of both clocks. If the wall clock was set back, the anchor moves to its new time.
    pub(crate) fn trusted_now(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let trusted = self.unbounded(monotonic);
        // The wall clock went back: from now on, monotonic time counts from its new time.
        if wall < trusted {
            *self = Self { wall, monotonic };
        }
        trusted.min(wall)
    }
}

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. It may be set forward or back at any time.
    fn now(&self) -> Timestamp;

    /// Time since this clock was created. It never goes back and cannot be set.
    fn monotonic(&self) -> Duration;

    /// Takes note of the time of a store, which was asked for and answered at these moments of the monotonic clock. Most clocks have
    /// no use for it.
    fn observe(&self, _store_time: Timestamp, _asked: Duration, _answered: Duration) {}
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn observe(&self, store_time: Timestamp, asked: Duration, answered: Duration) {
        (**self).observe(store_time, asked, answered);
    }
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts a clock whose monotonic time is zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "everything else takes its time from this clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "everything else takes its time from this clock")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 is read as 1970; nothing here can work with earlier times.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_secs(0).plus(since_epoch)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Slower answers say too little about the time.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(250);

/// Smaller differences are those of the network.
const MIN_STEP: Duration = Duration::from_millis(50);

/// The clock of a store that many machines share, so that all of them agree on the time. Between two answers, and while the store is
/// away, the machine's monotonic clock goes on from the last one.
#[derive(Debug)]
pub struct StoreClock<C = SystemClock> {
    machine: C,
    /// The store's time, and the monotonic time of the same moment.
    latest: Mutex<Option<(Timestamp, Duration)>>,
}

impl StoreClock {
    /// A clock that shows the machine's time until the store has answered once.
    #[must_use]
    pub fn start() -> Self {
        Self::on(SystemClock::start())
    }
}

impl<C> StoreClock<C> {
    /// The same on a clock of the caller.
    pub fn on(machine: C) -> Self {
        Self { machine, latest: Mutex::new(None) }
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, Option<(Timestamp, Duration)>> {
        self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<C: Clock> Clock for StoreClock<C> {
    fn now(&self) -> Timestamp {
        match *self.latest() {
            Some((store, then)) => store.plus(self.monotonic().saturating_sub(then)),
            None => self.machine.now(),
        }
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn observe(&self, store_time: Timestamp, asked: Duration, answered: Duration) {
        let round_trip = answered.saturating_sub(asked);
        let mut latest = self.latest();
        if round_trip > MAX_ROUND_TRIP && latest.is_some() {
            return;
        }
        // The store looked at its clock somewhere in between.
        let estimate = store_time.plus(round_trip / 2);
        let shown = latest.map(|(store, then)| store.plus(answered.saturating_sub(then)));
        let step = shown.map(|shown| shown.as_millis().abs_diff(estimate.as_millis()));
        if step.is_none_or(|step| u128::from(step) >= MIN_STEP.as_millis()) {
            *latest = Some((estimate, answered));
        }
    }
}

/// A clock for tests. It stands still until the test moves it.
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock at `now`, with a monotonic time of zero.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { hands: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.move_hands(|(wall, monotonic)| (wall.plus(by), monotonic + by));
    }

    /// Sets the wall clock, as an operator or NTP does. The monotonic clock does not change.
    pub fn set(&self, now: Timestamp) {
        self.move_hands(|(_, monotonic)| (now, monotonic));
    }

    fn move_hands(&self, to: impl FnOnce((Timestamp, Duration)) -> (Timestamp, Duration)) {
        // A failed test poisons the lock, but the times in it are still valid.
        let mut hands = self.hands.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *hands = to(*hands);
    }

    fn hands(&self) -> (Timestamp, Duration) {
        *self.hands.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().0
    }

    fn monotonic(&self) -> Duration {
        self.hands().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_clock_shows_the_time_of_the_store_wherever_the_machine_stands() {
        let clock = StoreClock::start();
        let at = |seconds: i64| Timestamp::from_secs(2_000_000_000 + seconds);
        let millis = Duration::from_millis;
        let shown = |expected: Timestamp| {
            let off = clock.now().as_millis() - expected.as_millis();
            assert!((0..1000).contains(&off), "{off} ms");
        };
        let now = clock.monotonic();
        clock.observe(at(0), now, now);
        shown(at(0));
        clock.observe(at(0).plus(millis(49)), now, now);
        shown(at(0));
        // An answer that took long says little, and one that jumps says that the store was set.
        clock.observe(at(500), now, now + millis(251));
        shown(at(0));
        clock.observe(at(-90), now, now);
        shown(at(-90));
    }
}
