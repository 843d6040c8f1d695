//! Time as a parameter: a wall clock for what the world sees, a steady one for what only this process measures.
//!
//! `ManualClock` is the tests' clock; nothing in the program sleeps or reads the time by itself.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999.
const LAST_SHOWN: u64 = 253_402_300_799;

/// A moment of the wall clock: milliseconds since the Unix epoch.
///
/// Tokens and the `keys` table count whole seconds (RFC 7519, 2 `NumericDate`); the lifecycle of a key is finer, so
/// that lives of a few seconds lose nothing to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment this many seconds after the epoch; far ends are clamped.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: the second that is running.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment moved into the future.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// This moment moved into the past.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// How long after `earlier` this moment lies; zero if it lies before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, in whole seconds; what lies outside of the years 1970 to 9999 is shown as their ends.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = u64::try_from(self.as_secs()).unwrap_or(0).min(LAST_SHOWN);
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(shown)).fmt(f)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When a process first saw something, by both of its clocks.
///
/// From then on it can say how much time has certainly passed: what the wall clock claims beyond the steady one may be
/// the doing of whoever set it.
#[derive(Clone, Copy, Debug)]
pub struct ClockAnchor {
    wall: Timestamp,
    monotonic: Duration,
}

impl ClockAnchor {
    /// A anchor at this moment.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// The time that both clocks vouch for. A wall clock that went back counts from where it went.
    pub fn trusted_now(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let trusted = self.wall.plus(monotonic.saturating_sub(self.monotonic));
        if wall < trusted {
            *self = Self { wall, monotonic };
        }
        trusted.min(wall)
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. It may be set forward or back while the program runs.
    fn now(&self) -> Timestamp;

    /// Time since this clock was made, by a counter that nobody can set.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose `monotonic` starts at zero now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else takes its time from"
    )]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else takes its time from"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(0).plus(since_epoch)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that shows `now`, with no time monotonic.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { hands: Mutex::new((now, Duration::ZERO)) }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        self.move_hands(|(wall, steady)| (wall.plus(by), steady + by));
    }

    /// Sets the wall clock, as an operator or NTP would; the steady clock does not notice.
    pub fn set(&self, now: Timestamp) {
        self.move_hands(|(_, steady)| (now, steady));
    }

    fn move_hands(&self, to: impl FnOnce((Timestamp, Duration)) -> (Timestamp, Duration)) {
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
    fn a_timestamp_is_shown_however_far_away_it_lies() {
        assert_eq!(Timestamp::from_secs(1_800_000_000).to_string(), "2027-01-15T08:00:00Z");
        assert_eq!(Timestamp::from_secs(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_secs(-1).to_string(), "1970-01-01T00:00:00Z");
    }
}
