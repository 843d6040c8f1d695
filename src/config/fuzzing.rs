//! Texts of settings, for `crate::fuzzing`: read as the settings are read, and the same when they are written out.

#![expect(clippy::unwrap_used, reason = "a fuzzer's finding is a panic")]

use std::str::FromStr as _;

use axum::http::Uri;

use super::sources::dotenv_of;
use super::values::{duration, issuer_url, log_filter, networks, number, some_duration};
use crate::domain::key::lifecycle::RotationPolicy;
use crate::http::ClientIpHeader;
use crate::store::DatabaseFile;
use crate::telemetry::LogFormat;

/// One text, as the value of every setting that has a form of its own, and as a whole `.env`.
pub(crate) fn setting(text: &str) {
    if let Ok(read) = duration(text) {
        assert_eq!(read.subsec_nanos(), 0);
        assert_eq!(duration(&humantime::format_duration(read).to_string()), Ok(read));
        assert_eq!(some_duration(text).is_ok(), !read.is_zero());
    }
    if let Ok(read) = networks(text) {
        let written = read.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        assert_eq!(networks(&written), Ok(read));
    }
    if let Ok(read) = number::<u16>(text) {
        assert_eq!(number(&read.to_string()), Ok(read));
    }
    if let Ok(read) = issuer_url(text) {
        let jwks: Uri = format!("{}/.well-known/jwks.json", read.trim_end_matches('/')).parse().unwrap();
        assert!(jwks.path().ends_with("/.well-known/jwks.json") && jwks.query().is_none());
    }
    let _ = (DatabaseFile::parse(text), ClientIpHeader::from_str(text), LogFormat::from_str(text));
    let _ = dotenv_of(text);
    if let Ok(read) = log_filter(text) {
        assert_eq!(log_filter(&read), Ok(read));
    }
    rotation(text);
}

/// Five times that can be read make a policy that can work, or none; no sum of them is too much.
fn rotation(text: &str) {
    let times: Vec<_> = text.split_whitespace().filter_map(|time| duration(time).ok()).collect();
    if let [lifetime, retention, lead, ttl, max_age, ..] = times[..]
        && let Ok(policy) = RotationPolicy::new(lifetime, retention, lead, ttl, max_age)
    {
        assert!(policy.token_ttl() < lifetime);
    }
}
