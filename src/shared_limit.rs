//! Where requests are counted for the rate limits: in each process, or on a server for all of them together.

#![expect(missing_docs, reason = "the help of a setting is its documentation")]

use std::sync::Arc;

use crate::config::{expect_one, secret_file};
use jwksd_core::rate_limit::{LocalRateLimiter, RateLimiter, RateLimits};
use jwksd_core::setting::{ConfigError, OptionalSetting, Source};
use jwksd_limit_valkey::{LimitUrl, SharedRateLimiter};

pub const RATE_LIMIT_URL: OptionalSetting<LimitUrl> = OptionalSetting {
    name: "RATE_LIMIT_URL",
    help: "A Valkey or Redis server, redis://USER:PASSWORD@HOST:PORT/DATABASE, on which several processes count together for the \
           limits of /auth, /password and /register. With a password in it, it has no flag",
    parse: limit_url,
};

pub const RATE_LIMIT_URL_FILE: OptionalSetting<LimitUrl> = OptionalSetting {
    name: "RATE_LIMIT_URL_FILE",
    help: "A file that holds RATE_LIMIT_URL",
    parse: |path| limit_url(secret_file(path)?.reveal()),
};

fn limit_url(text: &str) -> Result<LimitUrl, String> {
    LimitUrl::parse(text).map_err(|error| error.to_string())
}

/// The server on which requests are counted; nothing if each process counts by itself.
///
/// # Errors
/// [`ConfigError`] if the setting is invalid, or set twice.
pub fn read(source: &dyn Source) -> Result<Option<LimitUrl>, ConfigError> {
    expect_one(source, RATE_LIMIT_URL.name, RATE_LIMIT_URL_FILE.name)?;
    match RATE_LIMIT_URL_FILE.read(source)? {
        Some(url) => Ok(Some(url)),
        None => RATE_LIMIT_URL.read(source),
    }
}

/// The limiter of a process.
pub(crate) async fn limiter(server: Option<&LimitUrl>, limits: RateLimits) -> Arc<dyn RateLimiter> {
    match server {
        Some(server) => Arc::new(SharedRateLimiter::open(server, limits).await),
        None => Arc::new(LocalRateLimiter::new(limits)),
    }
}
