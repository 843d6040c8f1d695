//! Reading the texts of settings: each kind of value, and in words what would do.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::ConfigError;
use super::sources::Sources;
use crate::domain::key::lifecycle::{InvalidPolicy, RotationPolicy};
use crate::domain::password::{Hasher, MAX_COST};

/// No duration of ours may be longer: a hundred years.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

pub(super) fn policy(from: &Sources<'_>, max_age: Duration) -> Result<RotationPolicy, ConfigError> {
    let [lifetime, retention, lead, ttl] =
        ["KEY_LIFETIME", "KEY_RETENTION", "KEY_LEAD", "TOKEN_TTL"].map(|name| from.parse(name, duration));
    RotationPolicy::new(lifetime?, retention?, lead?, ttl?, max_age).map_err(|error| {
        let (name, wanted) = match error {
            InvalidPolicy::LeadTooShort { least } => {
                ("KEY_LEAD", format!("2 × JWKS_MAX_AGE = {} or more, or 0, would do", spelled(least)))
            }
            InvalidPolicy::LifetimeTooShort { least } => (
                "KEY_LIFETIME",
                format!(
                    "{} or more would do: 2 × KEY_LEAD + TOKEN_TTL, or TOKEN_TTL + 2s when KEY_LEAD is 0",
                    spelled(least)
                ),
            ),
            InvalidPolicy::NoTokenTtl => ("TOKEN_TTL", "1s or more would do".to_owned()),
        };
        ConfigError::Setting { name, value: from.given(name).unwrap_or_default(), wanted }
    })
}

pub(super) fn hasher(from: &Sources<'_>) -> Result<Hasher, ConfigError> {
    let [most_memory, most_iterations, most_parallelism] = MAX_COST;
    let setting = |name, most| from.parse(name, |text| number_up_to(text, most));
    let memory = setting("ARGON2_MEMORY_KIB", most_memory)?;
    let iterations = setting("ARGON2_ITERATIONS", most_iterations)?;
    let parallelism = setting("ARGON2_PARALLELISM", most_parallelism)?;
    Hasher::new(memory, iterations, parallelism).map_err(|_| {
        let value =
            format!("{memory} with ARGON2_ITERATIONS {iterations} and ARGON2_PARALLELISM {parallelism}");
        let wanted = "1 pass or more, 1 lane or more, and 8 KiB or more a lane would do";
        ConfigError::setting("ARGON2_MEMORY_KIB", value, wanted)
    })
}

/// A time in whole seconds: `90s`, `15m`, `24h`, `7d`; a hundred years at most.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    match duration {
        Ok(duration) if duration.subsec_nanos() == 0 && duration <= LONGEST => Ok(duration),
        _ => Err("a time in whole seconds such as 90s, 15m, 24h or 7d would do".to_owned()),
    }
}

pub(super) fn some_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "a time of at least 1s, such as 12h, 30d or 1y, would do".to_owned())
}

fn spelled(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(super) fn number<T: FromStr + fmt::Display + Bounded>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("a number from 0 to {} would do", T::MAX))
}

fn number_up_to(text: &str, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| format!("a number from 1 to {most} would do"))
}

pub(super) trait Bounded {
    const MAX: Self;
}

impl Bounded for u16 {
    const MAX: Self = Self::MAX;
}

impl Bounded for u32 {
    const MAX: Self = Self::MAX;
}

pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{} would do", names.join(" or "))
    })
}

pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |part: &str| part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            network(part).map_err(|_| format!("{part:?} is no CIDR; 10.0.0.0/8 or 2001:db8::/32 would do"))
        })
        .collect()
}

/// RFC 8414, 2: a URL without query or fragment. `http` is for development and for behind a proxy.
pub(super) fn issuer_url(text: &str) -> Result<String, String> {
    let wanted = || "a URL such as https://login.example.com, without query or fragment, would do".to_owned();
    let uri: axum::http::Uri = text.parse().map_err(|_| wanted())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.host().is_none_or(str::is_empty) || text.contains(['?', '#']) {
        return Err(wanted());
    }
    Ok(text.to_owned())
}

/// What is let through to the logs: levels, of all or of some targets.
///
/// Blanks around the parts are left out: behind one the library reads the wrong letters, and panics in the middle of a wide
/// one. Spans and their fields, of which there are none here, are not taken: the library reads fields as regular expressions,
/// some of which take minutes, and a debug build of it panics at some that come twice.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let filter = text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    if !filter.contains(['[', '{']) && EnvFilter::try_new(&filter).is_ok() {
        Ok(filter)
    } else {
        Err("a level such as info or debug, or one for a target such as jwksd=debug, would do".to_owned())
    }
}

pub(super) fn in_words(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_a_log_filter_change_nothing() {
        assert_eq!(log_filter(" warn, jwksd=debug\n").as_deref(), Ok("warn,jwksd=debug"));
        assert!(log_filter("\nMI\u{feff}=07m").is_err());
    }

    #[test]
    fn a_log_filter_knows_targets_and_no_spans() {
        assert_eq!(log_filter("warn,jwksd::http=trace").as_deref(), Ok("warn,jwksd::http=trace"));
        for spans in ["[sign_in]=debug", "jwksd[{user=alice}]", "info,[span{a=....  *   a=1}]=trace"] {
            assert!(log_filter(spans).is_err(), "{spans}");
        }
    }
}
