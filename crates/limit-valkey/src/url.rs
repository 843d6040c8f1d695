//! The server of the limits, as `RATE_LIMIT_URL` names it.

use std::fmt;

use redis::Client;
use thiserror::Error;
use url::Url;

/// The address of a Valkey or Redis server, with its password. Shown without it.
#[derive(Clone)]
pub struct LimitUrl {
    client: Client,
    shown: String,
    has_password: bool,
}

impl LimitUrl {
    /// Reads `redis://USER:PASSWORD@HOST:PORT/DATABASE`; `rediss` for TLS; `valkey` and `valkeys` mean the same.
    ///
    /// # Errors
    /// [`InvalidLimitUrl`] says what to change, without the text.
    pub fn parse(text: &str) -> Result<Self, InvalidLimitUrl> {
        let scheme = text.split("://").next().unwrap_or_default().to_ascii_lowercase();
        if ["sentinel", "cluster"].iter().any(|kind| scheme.contains(kind)) {
            return Err(InvalidLimitUrl::SeveralServers);
        }
        if !["redis", "rediss", "valkey", "valkeys"].contains(&scheme.as_str()) {
            return Err(InvalidLimitUrl::Malformed);
        }
        let url = Url::parse(text).map_err(|error| match error {
            // The parser takes what follows a comma for a part of the port.
            url::ParseError::InvalidPort if text.contains(',') => InvalidLimitUrl::SeveralServers,
            _ => InvalidLimitUrl::Malformed,
        })?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidLimitUrl::Malformed)?;
        if host.contains(',') || host.contains("%2C") {
            return Err(InvalidLimitUrl::SeveralServers);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidLimitUrl::Parameters);
        }
        let client = Client::open(text).map_err(|_| InvalidLimitUrl::Malformed)?;
        let shown = format!("{scheme}://{host}:{}{}", url.port().unwrap_or(DEFAULT_PORT), url.path());
        Ok(Self { client, shown, has_password: url.password().is_some() })
    }

    /// Whether the text has a password in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

const DEFAULT_PORT: u16 = 6379;

/// Without user and password.
impl fmt::Display for LimitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for LimitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Why a text does not name a server.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidLimitUrl {
    /// Not a URL of a server.
    #[error(
        "use redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, with percent-encoded characters in the password"
    )]
    Malformed,
    /// Parameters that would have no effect.
    #[error("remove what follows the ? or the #: no parameter is supported")]
    Parameters,
    /// Sentinel, Cluster, or a list of servers.
    #[error(
        "use the URL of one server, or of a proxy that always leads to the primary: Sentinel and Cluster are not supported"
    )]
    SeveralServers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url = LimitUrl::parse("rediss://jwksd:hunter2@limits.example/3").unwrap();
        assert_eq!(format!("{url} {url:?}"), "rediss://limits.example:6379/3 rediss://limits.example:6379/3");
        assert!(url.has_password());
        let url = LimitUrl::parse("valkey://127.0.0.1:7000").unwrap();
        assert_eq!((url.to_string().as_str(), url.has_password()), ("valkey://127.0.0.1:7000", false));
    }

    #[test]
    fn what_names_no_single_server_is_refused_in_words() {
        let error = |text| LimitUrl::parse(text).unwrap_err();
        for text in [
            "redis+sentinel://a:26379/mymaster",
            "redis-sentinel://a",
            "redis+cluster://a",
            "rediss-cluster://a",
            "redis://a,b",
            "redis://a:1,b:2/0",
        ] {
            assert_eq!(error(text), InvalidLimitUrl::SeveralServers, "{text}");
        }
        for text in
            ["", "localhost:6379", "http://a", "redis://", "redis:///0", "redis://a/x", "unix:///run/x"]
        {
            assert_eq!(error(text), InvalidLimitUrl::Malformed, "{text}");
        }
        for text in ["redis://a?protocol=resp3", "rediss://a#insecure"] {
            assert_eq!(error(text), InvalidLimitUrl::Parameters, "{text}");
        }
    }
}
