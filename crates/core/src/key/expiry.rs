//! When a key expires, as a database holds it. Other programs write `keys.exp` in other units and types.

use thiserror::Error;

use crate::clock::Timestamp;

/// The earliest `exp` of another program's key that is believed, in seconds: the year 2000.
///
/// Smaller numbers are lifetimes, days, or a zero that means "never". Our own keys have them if the clock was wrong.
pub const EARLIEST_FOREIGN_EXP: i64 = 946_684_800;

/// The latest `exp` of a key, in seconds: the year 3000. Greater numbers have another unit.
pub const LATEST_EXP: i64 = 32_503_680_000;

/// The latest time that is recognised in another unit, in seconds: the year 2100.
const LATEST_CONVERTED: i64 = 4_102_444_800;

/// Units of a time since 1970, and how many of them are in a second. The numbers of all times from 2000 to 2100 in one
/// unit are invalid or far away in all others, so a conversion cannot be wrong.
const UNITS: [(&str, i64); 3] =
    [("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000)];

/// Why the value of `keys.exp` is not the time at which a key expires.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidExp {
    /// Not a number. The text itself is not quoted, because it may be a secret in the wrong column.
    #[error("its exp is {0} and not a number of seconds since 1970")]
    NotANumber(&'static str),
    /// A number that is not a time of a key in seconds.
    #[error("its exp is {0}, which is not the expiry of a key in seconds since 1970")]
    OutOfRange(i64),
}

impl InvalidExp {
    /// From what SQLite calls the type of the value, and the value as an integer.
    #[must_use]
    pub fn new(storage_class: &str, number: i64) -> Self {
        match storage_class {
            "integer" | "real" => Self::OutOfRange(number),
            "text" => Self::NotANumber("text"),
            "blob" => Self::NotANumber("a BLOB"),
            _ => Self::NotANumber("NULL"),
        }
    }

    /// The time and its unit, if the number certainly is a time in another unit than seconds.
    pub(crate) fn converted(self) -> Option<(Timestamp, &'static str)> {
        let Self::OutOfRange(number) = self else {
            return None;
        };
        UNITS.into_iter().find_map(|(unit, in_a_second)| {
            let seconds = number.div_euclid(in_a_second);
            let is_certain = (EARLIEST_FOREIGN_EXP..=LATEST_CONVERTED).contains(&seconds);
            is_certain.then(|| (Timestamp::from_secs(seconds), unit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_in_a_unit_of_its_own_is_converted() {
        let at = |secs| Some(Timestamp::from_secs(secs));
        for (number, seconds) in [
            (1_795_629_600_123, at(1_795_629_600)),
            (1_795_629_600_123_456, at(1_795_629_600)),
            (1_795_629_600_123_456_789, at(1_795_629_600)),
            (946_684_800_000, at(946_684_800)),
            (4_102_444_800_999, at(4_102_444_800)),
            (4_102_444_801_000, None),
            // As YYYYMMDDhhmmss, in ticks of .NET and of Windows, the greatest number, and negative.
            (20_261_125_180_000, None),
            (639_000_000_000_000_000, None),
            (134_000_000_000_000_000, None),
            (i64::MAX, None),
            (-1_795_629_600_123, None),
            (3600, None),
        ] {
            assert_eq!(InvalidExp::new("integer", number).converted().map(|(at, _)| at), seconds, "{number}");
        }
        assert_eq!(InvalidExp::new("text", 1_795_629_600_123).converted(), None);
    }
}
