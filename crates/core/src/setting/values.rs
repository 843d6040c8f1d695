//! Parsers of the kinds of text that settings of several layers share. Their errors say what to set instead.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Longest duration, a hundred years. Longer ones would overflow sums of times.
pub const MAX_DURATION: Duration = Duration::from_hours(100 * 365 * 24);

/// Whole seconds, at most a hundred years: `90s`, `15m`, `24h`, `7d`, or `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    match duration {
        // Our tokens and `Cache-Control` count whole seconds, so a fraction would be lost without notice.
        Ok(duration) if duration.subsec_nanos() == 0 && duration <= MAX_DURATION => Ok(duration),
        _ => Err("use whole seconds, such as 90s, 15m, 24h or 7d".to_owned()),
    }
}

/// As [`duration`], but not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "use 1s or more, such as 12h, 30d or 1y".to_owned())
}

/// A number in this range, both ends included.
pub fn number<T: FromStr + Display + PartialOrd>(text: &str, range: &RangeInclusive<T>) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("use a number from {} to {}", range.start(), range.end()))
}

/// One of these words.
pub fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => format!("use {} or {last}", others.join(", ")),
            _ => format!("use {}", names.concat()),
        }
    })
}

/// Any text.
///
/// # Errors
/// None: a parser of a setting returns a `Result`.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Parses values with commas between them. Blanks around them, and empty ones, do not count.
///
/// # Errors
/// `remedy`, and the number of the first invalid value. Not the value itself: it may contain a secret.
pub fn list<T>(text: &str, remedy: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .zip(1..)
        .map(|(part, number)| {
            parse(part).ok_or_else(|| format!("{remedy}, also for number {number} of them"))
        })
        .collect()
}
