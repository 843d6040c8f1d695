//! Where the store is: a file, or a server that many processes share. What needs to know which of the two is here.

#![expect(missing_docs, reason = "the help of a setting is its documentation")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{expect_one, secret_file};
use jwksd_core::clock::{Clock, StoreClock, SystemClock};
use jwksd_core::setting::values::{number, positive_duration};
use jwksd_core::setting::{ConfigError, OptionalSetting, Setting, Source};
use jwksd_core::store::{Store, StoreError};
use jwksd_store_postgres::{Inspection, PostgresStore, ServerUrl};
use jwksd_store_sqlite::{Contents, DatabaseFile, Probe, SqliteStore};

pub const DATABASE_URL: Setting<Location> = Setting {
    name: "DATABASE_URL",
    default: "sqlite://totally_not_my_privateKeys.db",
    help: "The store: sqlite://FILE, a path, or postgres://USER:PASSWORD@HOST/DATABASE for many machines. With a password in it, \
           it has no flag",
    parse: Location::parse,
};

pub const DATABASE_CONNECTIONS: Setting<u32> = Setting {
    name: "DATABASE_CONNECTIONS",
    default: "8",
    help: "PostgreSQL: how many connections of each process serve requests; two more serve the key rotation",
    parse: |text| number(text, &(1..=1000)),
};

pub const DATABASE_TIMEOUT: Setting<Duration> = Setting {
    name: "DATABASE_TIMEOUT",
    default: "2s",
    help: "PostgreSQL: how long one act may take",
    parse: positive_duration,
};

pub const DATABASE_URL_FILE: OptionalSetting<Location> = OptionalSetting {
    name: "DATABASE_URL_FILE",
    help: "A file that holds DATABASE_URL",
    parse: |path| Location::parse(secret_file(path)?.reveal()),
};

/// What `DATABASE_URL` names.
#[derive(Clone, Debug)]
pub enum Location {
    /// A SQLite file.
    File(DatabaseFile),
    /// A database of a PostgreSQL server.
    Server(ServerUrl),
}

impl Location {
    /// Reads `sqlite://FILE`, a path, or `postgres://…`. An error says what to write instead, and does not repeat the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if ServerUrl::is_meant(text) {
            return ServerUrl::parse(text).map(Self::Server).map_err(|error| error.to_string());
        }
        DatabaseFile::parse(text).map(Self::File).map_err(|error| error.to_string())
    }
}

/// Where the store is, and how it is reached.
#[derive(Clone, Debug)]
pub enum Database {
    /// In a SQLite file.
    File(DatabaseFile),
    /// In a database of a PostgreSQL server.
    Server(Server),
}

/// A database that many processes share.
#[derive(Clone, Debug)]
pub struct Server {
    url: ServerUrl,
    connections: u32,
    timeout: Duration,
}

impl Server {
    /// Its address.
    pub(crate) fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// How many connections serve the requests of a process.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.url.is_local()
    }

    /// What an operator should know about it.
    pub(crate) async fn inspect(&self) -> Result<Inspection, StoreError> {
        PostgresStore::inspect(&self.url, self.timeout).await
    }
}

impl Database {
    /// Reads the settings of the store.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        expect_one(source, DATABASE_URL.name, DATABASE_URL_FILE.name)?;
        let location = match DATABASE_URL_FILE.read(source)? {
            Some(location) => location,
            None => DATABASE_URL.read(source)?,
        };
        let (connections, timeout) = (DATABASE_CONNECTIONS.read(source)?, DATABASE_TIMEOUT.read(source)?);
        Ok(match location {
            Location::File(file) => Self::File(file),
            Location::Server(url) => Self::Server(Server { url, connections, timeout }),
        })
    }

    /// The file, if the store is in one.
    #[must_use]
    pub fn file(&self) -> Option<&DatabaseFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Server(_) => None,
        }
    }

    /// Whether its URL has a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Server(server) if server.url.has_password())
    }

    /// Looks at the store without changing it.
    pub(crate) async fn probe(&self) -> Result<Probe, StoreError> {
        match self {
            Self::File(file) => file.probe().await,
            Self::Server(server) => {
                let (record, has_accounts) = PostgresStore::probe(&server.url, server.timeout).await?;
                let contents = record.map_or(Contents::Nothing, Contents::Ours);
                Ok(Probe { contents, has_accounts, schema_faults: Vec::new() })
            }
        }
    }

    /// The clock that decides: that of a server for all processes on it.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::File(_) => Arc::new(SystemClock::start()),
            Self::Server(_) => Arc::new(StoreClock::start()),
        }
    }

    /// Opens the store, creates what is missing, and brings its schema up to date.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::File(file) => Arc::new(SqliteStore::open(file).await?),
            Self::Server(Server { url, connections, timeout }) => {
                Arc::new(PostgresStore::open(url, *connections, *timeout).await?)
            }
        })
    }
}

impl Database {
    /// What it is and where, for a log line.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::File(_) => format!("database {self}"),
            Self::Server(_) => self.to_string(),
        }
    }
}

/// The path, or the server without role and password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.path().display().fmt(f),
            Self::Server(server) => server.url.fmt(f),
        }
    }
}
