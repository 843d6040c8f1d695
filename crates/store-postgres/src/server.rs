//! The server that a store is on, as `DATABASE_URL` names it.

use std::fmt;
use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use thiserror::Error;
use url::{Host, Url};

/// Parameters that the driver knows. It would ignore all others, such as `target_session_attrs`.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// The address of a database on a server, with the role and its password. Shown without these.
#[derive(Clone)]
pub struct ServerUrl {
    /// Boxed, because it has the size of a page of text.
    options: Box<PgConnectOptions>,
    shown: String,
    has_password: bool,
    is_pooled: bool,
}

impl ServerUrl {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE`.
    ///
    /// The server must prove by TLS that it has the name HOST (`sslmode=verify-full`), unless it is on this machine or the URL says
    /// otherwise.
    ///
    /// # Errors
    /// [`InvalidServerUrl`] says what to change, without the text.
    pub fn parse(text: &str) -> Result<Self, InvalidServerUrl> {
        let url = Url::parse(text).map_err(|error| match error {
            // The parser takes what follows a comma for a part of the port.
            url::ParseError::InvalidPort if text.contains(',') => InvalidServerUrl::SeveralHosts,
            _ => InvalidServerUrl::Malformed,
        })?;
        if url.host_str().is_some_and(|host| host.contains(',') || host.contains("%2C")) {
            return Err(InvalidServerUrl::SeveralHosts);
        }
        let unknown = url.query_pairs().find(|(name, _)| !PARAMETERS.contains(&&**name));
        if let Some((name, _)) = unknown {
            return Err(InvalidServerUrl::Parameter(
                name.chars().filter(char::is_ascii_graphic).take(40).collect(),
            ));
        }
        let options = PgConnectOptions::from_str(text).map_err(|_| InvalidServerUrl::Malformed)?;
        if options.get_host().contains(',') {
            return Err(InvalidServerUrl::SeveralHosts);
        }
        let has_sslmode = url.query_pairs().any(|(name, _)| name == "sslmode");
        let options = match (has_sslmode, is_local(&options)) {
            (true, _) => options,
            (false, true) => options.ssl_mode(PgSslMode::Prefer),
            (false, false) => options.ssl_mode(PgSslMode::VerifyFull),
        };
        let has_password = url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password");
        let is_pooled = url.query_pairs().any(|pair| pair == ("statement-cache-capacity".into(), "0".into()));
        let shown = shown(&options);
        // Poolers refuse parameters of a session that they do not know.
        let options = options.extra_float_digits(None).disable_statement_logging();
        Ok(Self { options: Box::new(options), shown, has_password, is_pooled })
    }

    /// Whether the text is meant for this store.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Whether the server is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(&self.options)
    }

    /// Whether the text has a password in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// Whether the connections are those of a pooler that does not know prepared statements, and gives each transaction another one.
    pub(crate) fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }
}

fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some()
        || match Host::parse(options.get_host()) {
            Ok(Host::Domain(name)) => name == "localhost",
            Ok(Host::Ipv4(address)) => address.is_loopback(),
            Ok(Host::Ipv6(address)) => address.is_loopback(),
            Err(_) => false,
        }
}

fn shown(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("database {database} of PostgreSQL in {}", socket.display()),
        None => format!("database {database} of PostgreSQL on {}:{}", options.get_host(), options.get_port()),
    }
}

/// Without role, password and parameters.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Why a text does not name a database on a server.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidServerUrl {
    /// Not a URL, or one with an invalid value.
    #[error(
        "use postgres://USER:PASSWORD@HOST:PORT/DATABASE, with percent-encoded characters in the password"
    )]
    Malformed,
    /// A parameter that would have no effect.
    #[error("remove its parameter {0}, which is not supported")]
    Parameter(String),
    /// Several servers.
    #[error(
        "use one host: a name or address that always leads to the server that can be written, such as that of a proxy"
    )]
    SeveralHosts,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> PgSslMode {
        ServerUrl::parse(text).unwrap().options.get_ssl_mode()
    }

    #[test]
    fn tls_is_verified_unless_the_server_is_local_or_the_url_says_otherwise() {
        for remote in
            ["postgres://db.example/jwksd", "postgresql://u:p@192.0.2.1:5433/x", "postgres://[2001:db8::1]/x"]
        {
            assert!(matches!(mode(remote), PgSslMode::VerifyFull), "{remote}");
        }
        for local in [
            "postgres://localhost/x",
            "postgres://u@127.0.0.1/x",
            "postgres://[::1]/x",
            "postgres:///x?host=/run/postgresql",
        ] {
            assert!(matches!(mode(local), PgSslMode::Prefer), "{local}");
        }
        assert!(matches!(mode("postgres://db.example/x?sslmode=disable"), PgSslMode::Disable));
    }

    #[test]
    fn it_is_shown_without_role_and_password() {
        let url = ServerUrl::parse("postgres://role:hunter2@db.example:5433/tokens?sslmode=require").unwrap();
        assert!(url.has_password());
        for shown in [url.to_string(), format!("{url:?}")] {
            assert_eq!(shown, "database tokens of PostgreSQL on db.example:5433");
        }
    }

    #[test]
    fn what_the_driver_would_ignore_is_refused() {
        for (text, expected) in [
            ("postgres://a,b/x", InvalidServerUrl::SeveralHosts),
            ("postgres://a:5432,b:5432/x", InvalidServerUrl::SeveralHosts),
            ("postgres:///x?host=a,b", InvalidServerUrl::SeveralHosts),
            (
                "postgres://a/x?target_session_attrs=read-write",
                InvalidServerUrl::Parameter("target_session_attrs".to_owned()),
            ),
            ("postgres://a/x?options=-csearch_path", InvalidServerUrl::Parameter("options".to_owned())),
            ("postgres://a/x?sslmode=maybe", InvalidServerUrl::Malformed),
            ("postgres://u:p#@a:b/x", InvalidServerUrl::Malformed),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap_err(), expected, "{text}");
        }
    }
}
