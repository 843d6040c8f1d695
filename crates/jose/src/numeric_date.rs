//! Reads and displays `NumericDate` (RFC 7519 §2).

use std::time::Duration;

use serde_json::Value;

use crate::timestamp::Timestamp;

/// Numbers from here on are milliseconds: the year 5138 in seconds, the year 1973 in milliseconds.
pub const MILLISECONDS: f64 = 1e11;

/// Reads a number of seconds, which may have a fraction. `None` for other types and numbers out of range.
#[must_use]
pub fn numeric_date(value: &Value) -> Option<Timestamp> {
    let Value::Number(number) = value else {
        return None;
    };
    // Integers are read exactly, because an f64 loses whole seconds above 2⁵³.
    if let Some(seconds) = number.as_i64() {
        return Some(Timestamp::from_secs(seconds));
    }
    let seconds = number.as_f64()?;
    // The variant without `try_` panics on numbers that are out of range.
    let span = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    let epoch = Timestamp::from_secs(0);
    Some(if seconds < 0.0 { epoch.minus(span) } else { epoch.plus(span) })
}

/// The claims that contain a time (RFC 7519 §4.1; OpenID Connect Core §2 and §5.1).
const TIMES: [&str; 5] = ["exp", "nbf", "iat", "auth_time", "updated_at"];

/// Displays a claim that contains a time; `None` for other claims.
#[must_use]
pub fn describe(name: &str, value: &Value, now: Timestamp) -> Option<String> {
    let time = numeric_date(value).filter(|_| TIMES.contains(&name))?;
    Some(format!("{time}, {}", relative(time, now)))
}

/// `5m 3s ago` or `in 14m 59s`.
pub(crate) fn relative(time: Timestamp, now: Timestamp) -> String {
    let (before, after) = (now.since(time), time.since(now));
    let span = in_words(before.max(after));
    if before > Duration::ZERO { format!("{span} ago") } else { format!("in {span}") }
}

/// A span in its two largest units.
pub(crate) fn in_words(span: Duration) -> String {
    let words = humantime::format_duration(Duration::from_secs(span.as_secs())).to_string();
    words.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_numeric_date_may_have_a_fraction_and_be_negative() {
        for (value, millis) in [
            (json!(1_300_819_380), Some(1_300_819_380_000)),
            (json!(1.5), Some(1_500)),
            (json!(-1.5), Some(-1_500)),
            (json!(1e30), None),
            (json!(u64::MAX), None),
            (json!(1e19), Some(i64::MAX)),
            (json!(i64::MAX), Some(i64::MAX)),
            (json!("1300819380"), None),
            (json!(null), None),
        ] {
            assert_eq!(numeric_date(&value).map(Timestamp::as_millis), millis, "{value}");
        }
    }

    #[test]
    fn a_time_is_displayed_relative_to_now() {
        let now = Timestamp::from_secs(100_000);
        for (secs, words) in
            [(100_061, "in 1m 1s"), (99_999, "1s ago"), (13_539, "1day 1m ago"), (100_000, "in 0s")]
        {
            assert_eq!(relative(Timestamp::from_secs(secs), now), words);
        }
    }
}
