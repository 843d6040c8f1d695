//! Time as a parameter: a wall clock for times that others see, a monotonic clock for durations in this process.
//!
//! Everything takes its time from a [`Clock`], so that tests can use a [`ManualClock`].

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, the last that RFC 3339 can express.
const LAST_RFC_3339: u64 = 253_402_300_799;

/// A time on the wall clock, in milliseconds since the Unix epoch.
///
/// Tokens and the `keys` table use whole seconds (`NumericDate`, RFC 7519 §2). The lifecycle of keys needs milliseconds,
/// so that short lifetimes lose nothing to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the epoch. Saturates at the limits of the type.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// A later time. Saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        // Settings may be as long as centuries; that must not panic.
        Self(self.0.saturating_add(millis(by)))
    }

    /// An earlier time. Saturates.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// The duration since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, in whole seconds. Times outside the years 1970 to 9999 are displayed as the limits.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime returns an error above the year 9999, and `to_string` would panic on it.
        let shown = u64::try_from(self.as_secs()).unwrap_or(0).min(LAST_RFC_3339);
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(shown)).fmt(f)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

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
        Timestamp(0).plus(since_epoch)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
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
    fn a_timestamp_out_of_range_is_displayed_as_the_limit() {
        assert_eq!(Timestamp::from_secs(1_800_000_000).to_string(), "2027-01-15T08:00:00Z");
        assert_eq!(Timestamp::from_secs(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_secs(-1).to_string(), "1970-01-01T00:00:00Z");
    }
}
