//! The settings: the only reader of flags, environment and `.env`, and the only place that knows their defaults.
//!
//! A flag wins over the environment, the environment over the `.env` of the working directory, that over the default.
//! Secrets have no flag. What cannot work is refused in one line that names the setting, its value and the way out.
//! `table` lists them, `sources` finds their texts, `values` reads these.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod sources;
mod table;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use clap::ArgMatches;
use thiserror::Error;
use zeroize::Zeroizing;

use self::sources::Sources;
use self::values::{
    hasher, in_words, issuer_url, log_filter, networks, number, one_of, policy, some_duration,
};
use crate::domain::key::lifecycle::RotationPolicy;
use crate::domain::key::seal::MasterSecret;
use crate::domain::password::Hasher;
use crate::http::{AuthMode, ClientIpHeader, ClientIpPolicy, Registration};
use crate::store::DatabaseFile;
use crate::telemetry::LogFormat;

pub(crate) use self::values::duration;

pub use self::table::{SECRETS, SETTINGS, Setting, args, secrets_help};

/// The file of settings in the working directory.
pub const DOTENV: &str = ".env";

/// The name of the master key's setting.
pub const MASTER_KEY: &str = "NOT_MY_KEY";

/// The name of the setting that `rekey` takes the new master key from.
pub const NEW_MASTER_KEY: &str = "NEW_NOT_MY_KEY";

/// The name of the setting that holds the bearer token of the admin surface.
pub const ADMIN_TOKEN: &str = "ADMIN_TOKEN";

/// All settings, typed.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub host: String,
    /// Where to listen; 0 for any free port.
    pub port: u16,
    /// Where the store is.
    pub location: DatabaseFile,
    /// The master key, if one is set.
    pub master_secret: Option<MasterSecret>,
    /// The master key that `rekey` moves the store to, if one is set.
    pub new_master_secret: Option<MasterSecret>,
    /// `iss`; derived from the address when unset.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// How keys and tokens live.
    pub policy: RotationPolicy,
    /// How long verifiers may cache.
    pub jwks_max_age: Duration,
    /// Whether /auth asks for credentials.
    pub auth_mode: AuthMode,
    /// Whether open mode starts where it otherwise refuses.
    pub open_auth_anyway: bool,
    /// /auth requests per second and client.
    pub auth_rate_limit: u32,
    /// Whether /register makes accounts.
    pub registration: Registration,
    /// /register requests per second and client.
    pub register_rate_limit: u32,
    /// Which address of a request counts.
    pub client_ip: ClientIpPolicy,
    /// What new password hashes cost.
    pub hasher: Hasher,
    /// Whether an engine that proves itself may do the work.
    pub argon2_engine: BackendChoice,
    /// How long a verified password is known again without a hash; zero for never.
    pub credential_cache_ttl: Duration,
    /// The bearer token of the admin surface.
    pub admin_token: Option<Secret>,
    /// The files that hold secrets, as `…_FILE` names them.
    pub secret_files: Vec<PathBuf>,
    /// How long `auth_logs` are kept; for ever if nothing is said.
    pub log_retention: Option<Duration>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: String,
}

/// Which implementation of Argon2 may do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendChoice {
    /// The faster one, if it proves itself.
    Auto,
    /// The reference alone.
    Reference,
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that cannot work.
    pub fn load(matches: &ArgMatches) -> Result<Self, ConfigError> {
        Self::resolve(&Sources::of(matches)?)
    }

    fn resolve(from: &Sources<'_>) -> Result<Self, ConfigError> {
        let jwks_max_age = from.parse("JWKS_MAX_AGE", duration)?;
        Ok(Self {
            host: from.text("HOST")?,
            port: from.parse("PORT", number)?,
            location: from.parse("DATABASE_URL", |text| DatabaseFile::parse(text).map_err(in_words))?,
            master_secret: from.master_secret(MASTER_KEY)?,
            new_master_secret: from.master_secret(NEW_MASTER_KEY)?,
            issuer: from.optional("ISSUER", issuer_url)?,
            audience: from.optional("AUDIENCE", |text| Ok(text.to_owned()))?,
            policy: policy(from, jwks_max_age)?,
            jwks_max_age,
            auth_mode: from.parse("AUTH_MODE", |text| {
                one_of(text, &[("password", AuthMode::Password), ("open", AuthMode::Open)])
            })?,
            open_auth_anyway: from
                .parse("OPEN_AUTH_ANYWAY", |text| one_of(text, &[("true", true), ("false", false)]))?,
            auth_rate_limit: from.parse("AUTH_RATE_LIMIT", number)?,
            registration: from.parse("REGISTRATION", |text| {
                one_of(text, &[("open", Registration::Open), ("closed", Registration::Closed)])
            })?,
            register_rate_limit: from.parse("REGISTER_RATE_LIMIT", number)?,
            client_ip: ClientIpPolicy {
                trusted: from.optional("TRUSTED_PROXIES", networks)?.unwrap_or_default(),
                header: from
                    .parse("CLIENT_IP_HEADER", |text| ClientIpHeader::from_str(text).map_err(in_words))?,
            },
            hasher: hasher(from)?,
            credential_cache_ttl: from.parse("CREDENTIAL_CACHE_TTL", duration)?,
            argon2_engine: from.parse("ARGON2_ENGINE", |text| {
                one_of(text, &[("auto", BackendChoice::Auto), ("reference", BackendChoice::Reference)])
            })?,
            admin_token: from.admin_token()?,
            secret_files: from.secret_files(),
            log_retention: from.optional("LOG_RETENTION", some_duration)?,
            log_format: from.parse("LOG_FORMAT", |text| LogFormat::from_str(text).map_err(in_words))?,
            log_filter: from.parse("RUST_LOG", log_filter)?,
        })
    }
}

/// The bearer token of the admin surface alone, for commands that need no other setting.
///
/// # Errors
/// When `.env`, or the file that `ADMIN_TOKEN_FILE` names, cannot be read.
pub fn admin_token(matches: &ArgMatches) -> Result<Option<Secret>, ConfigError> {
    Sources::of(matches)?.admin_token()
}

/// The flag of a setting that stands before the command, if there is one.
#[must_use]
pub fn typed_setting(matches: &ArgMatches) -> Option<&'static str> {
    SETTINGS.iter().map(|setting| setting.name).find(|name| sources::is_typed(matches, name))
}

/// The master key that `.env` holds by now; another process may have written it since the settings were read.
///
/// # Errors
/// When there is one that cannot work.
pub fn master_secret_of_dotenv() -> Result<Option<MasterSecret>, ConfigError> {
    sources::dotenv()?
        .get(MASTER_KEY)
        .filter(|text| !text.is_empty())
        .map(|text| parse_master_secret(MASTER_KEY, text))
        .transpose()
}

/// Reads a master key that came in under this name.
///
/// # Errors
/// When it cannot be one.
pub fn parse_master_secret(name: &'static str, text: &str) -> Result<MasterSecret, ConfigError> {
    MasterSecret::parse(text)
        .map_err(|error| ConfigError::Secret { name, wanted: format!("it cannot be a master key: {error}") })
}

/// A secret setting. It has no `Display`, and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A setting that cannot work.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The `.env` file cannot be read.
    #[error(".env: {0}")]
    Dotenv(String),
    /// A secret cannot work; its value is not shown.
    #[error("{name}: {wanted}")]
    Secret {
        /// Which secret.
        name: &'static str,
        /// The way out.
        wanted: String,
    },
    /// Any other setting cannot work.
    #[error("{name} is {value:?}: {wanted}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// The way out.
        wanted: String,
    },
}

impl ConfigError {
    /// The error of a setting, its value and what would do.
    pub(crate) fn setting(name: &'static str, value: impl fmt::Display, wanted: impl fmt::Display) -> Self {
        Self::Setting { name, value: value.to_string(), wanted: wanted.to_string() }
    }
}
