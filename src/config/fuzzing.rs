//! The text of any setting, for `crate::fuzzing`: a value that parses has a text that parses to the same value.

#![expect(clippy::unwrap_used, reason = "a fuzzer's finding is a panic")]

use axum::http::Uri;

use super::sources::parse_dotenv;
use crate::domain::key::lifecycle::RotationPolicy;
use crate::http::config::{CLIENT_IP_HEADER, TRUSTED_PROXIES};
use crate::http::listener::{ISSUER, PORT};
use crate::setting::values::{duration, positive_duration};
use crate::store::config::DATABASE_URL;
use crate::telemetry::{LOG_FORMAT, RUST_LOG};

/// Parses one text as every setting that has a form of its own, and as a whole `.env`.
pub(crate) fn setting(text: &str) {
    if let Ok(read) = duration(text) {
        assert_eq!(read.subsec_nanos(), 0);
        assert_eq!(duration(&humantime::format_duration(read).to_string()), Ok(read));
        assert_eq!(positive_duration(text).is_ok(), !read.is_zero());
    }
    if let Ok(read) = (TRUSTED_PROXIES.parse)(text) {
        let written = read.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        assert_eq!((TRUSTED_PROXIES.parse)(&written), Ok(read));
    }
    if let Ok(read) = (PORT.parse)(text) {
        assert_eq!((PORT.parse)(&read.to_string()), Ok(read));
    }
    if let Ok(read) = (ISSUER.parse)(text) {
        let jwks: Uri = format!("{}/.well-known/jwks.json", read.trim_end_matches('/')).parse().unwrap();
        assert!(jwks.path().ends_with("/.well-known/jwks.json") && jwks.query().is_none());
    }
    let _ = ((DATABASE_URL.parse)(text), (CLIENT_IP_HEADER.parse)(text), (LOG_FORMAT.parse)(text));
    let _ = parse_dotenv(text);
    if let Ok(read) = (RUST_LOG.parse)(text) {
        assert_eq!((RUST_LOG.parse)(&read), Ok(read));
    }
    rotation(text);
}

/// Five durations make a valid policy or an error; no sum of them overflows.
fn rotation(text: &str) {
    let times: Vec<_> = text.split_whitespace().filter_map(|time| duration(time).ok()).collect();
    if let [lifetime, retention, lead, ttl, max_age, ..] = times[..]
        && let Ok(policy) = RotationPolicy::new(lifetime, retention, lead, ttl, max_age)
    {
        assert!(policy.token_ttl() < lifetime);
    }
}
