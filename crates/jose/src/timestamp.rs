//! Moments of the wall clock, as tokens and keys name them.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

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
