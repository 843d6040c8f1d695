//! The settings of all layers, read from one source.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

use super::sources::Sources;
use super::table::SECRETS;
use crate::database::{DATABASE_URL, DATABASE_URL_FILE, Database};
use crate::shared_limit::{self, RATE_LIMIT_URL, RATE_LIMIT_URL_FILE};
use crate::telemetry::LogConfig;
use jwksd_core::issuer::config::LOG_RETENTION;
use jwksd_core::issuer::{KeyConfig, PasswordConfig, TokenConfig};
use jwksd_core::rate_limit::RateLimits;
use jwksd_core::setting::{ConfigError, Source};
use jwksd_http::config::OPEN_AUTH_ANYWAY;
use jwksd_http::{HttpConfig, ListenConfig};
use jwksd_limit_valkey::LimitUrl;

/// All settings, parsed.
#[derive(Debug)]
pub struct Config {
    /// Where the server listens.
    pub listen: ListenConfig,
    /// Where the store is.
    pub database: Database,
    /// Signing keys and the master key.
    pub keys: KeyConfig,
    /// Tokens.
    pub tokens: TokenConfig,
    /// Password hashing.
    pub passwords: PasswordConfig,
    /// The HTTP layer.
    pub http: HttpConfig,
    /// Rate limits.
    pub limits: RateLimits,
    /// Where they are counted for several processes together.
    pub limit_server: Option<LimitUrl>,
    /// Lets open mode start where it otherwise refuses.
    pub open_auth_anyway: bool,
    /// How long `auth_logs` are kept; `None` for without limit.
    pub log_retention: Option<Duration>,
    /// Logs.
    pub log: LogConfig,
    /// The files that hold secrets.
    pub secret_files: Vec<PathBuf>,
    /// Of the `.env` that was read, if there was one.
    pub dotenv_file: Option<Metadata>,
}

impl Config {
    /// Reads all settings from the command line, the environment and `.env`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn load(matches: &ArgMatches) -> Result<Self, ConfigError> {
        let sources = Sources::new(matches)?;
        sources.reject_secrets_in_settings()?;
        let config = Self { dotenv_file: sources.dotenv_file.clone(), ..Self::read(&sources)? };
        let limits_have_password = config.limit_server.as_ref().is_some_and(LimitUrl::has_password);
        for (name, has_password) in
            [(DATABASE_URL.name, config.database.has_password()), (RATE_LIMIT_URL.name, limits_have_password)]
        {
            if has_password && sources.is_typed(name) {
                let problem = format!(
                    "has a password, and every user of the machine can see a command line: set it in the environment, in .env, \
                     or in the file that {name}_FILE names"
                );
                return Err(ConfigError::Secret { name, problem });
            }
        }
        Ok(config)
    }

    /// Reads all settings from one source.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        // The names are kept, because `doctor` checks which users can read these files.
        let names = SECRETS
            .iter()
            .map(|secret| secret.file.name)
            .chain([DATABASE_URL_FILE.name, RATE_LIMIT_URL_FILE.name]);
        let secret_files = names.filter_map(|name| source.text(name));
        Ok(Self {
            listen: ListenConfig::read(source)?,
            database: Database::read(source)?,
            keys: KeyConfig::read(source)?,
            tokens: TokenConfig::read(source)?,
            passwords: PasswordConfig::read(source)?,
            http: HttpConfig::read(source)?,
            limits: RateLimits::read(source)?,
            limit_server: shared_limit::read(source)?,
            open_auth_anyway: OPEN_AUTH_ANYWAY.read(source)?,
            log_retention: LOG_RETENTION.read(source)?,
            log: LogConfig::read(source)?,
            secret_files: secret_files.map(PathBuf::from).collect(),
            dotenv_file: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::dotenv::parse_dotenv;
    use super::*;

    #[test]
    fn debug_output_shows_no_secret() {
        let matches = clap::Command::new("jwksd").args(super::super::args()).get_matches_from(["jwksd"]);
        let text = "NOT_MY_KEY='hunter2 hunter2 hunter2'\nNEW_NOT_MY_KEY='hunter2 hunter2 hunter3'\nADMIN_TOKEN=hunter2\n";
        let sources = Sources::from_parts(&matches, parse_dotenv(text.as_bytes()).unwrap());
        let shown = format!("{:?}", Config::read(&sources).unwrap());
        for part in [
            "master_key: Some(MasterSecret), new_master_key: Some(MasterSecret)",
            "admin_token: Some(SecretToken)",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
