//! Where the texts of settings come from: flags, environment, `.env`, and files that hold secrets.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs::Metadata;

use clap::ArgMatches;
use clap::parser::ValueSource;
use zeroize::Zeroizing;

use super::dotenv::{self, Dotenv};
use super::secret_file::secret_file;
use super::table::{SECRETS, SETTINGS};
use jwksd_core::issuer::config::MASTER_KEY;
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::setting::{ConfigError, Secret, SecretDeclaration, Source};
use jwksd_core::trim::trim_invisible;
use jwksd_http::config::ADMIN_TOKEN;

/// Minimum length of a secret that no setting may contain. Shorter ones are parts of other words.
const CONTAINED_LENGTH: usize = 16;

/// All sources, as they were when they were read.
pub(super) struct Sources<'a> {
    /// Of the whole command line, with those of its subcommands inside.
    pub(super) matches: &'a ArgMatches,
    dotenv: Dotenv,
    /// Of the `.env` that was read.
    pub(super) dotenv_file: Option<Metadata>,
    /// In the order of [`SECRETS`]. Each is read once, so that all readers see the same.
    secrets: Vec<OnceCell<Result<Option<Secret>, ConfigError>>>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(matches: &'a ArgMatches) -> Result<Self, ConfigError> {
        let (dotenv, dotenv_file) = dotenv::read()?;
        Ok(Self { dotenv_file, ..Self::from_parts(matches, dotenv) })
    }

    pub(super) fn from_parts(matches: &'a ArgMatches, dotenv: Dotenv) -> Self {
        Self {
            matches,
            dotenv,
            dotenv_file: None,
            secrets: SECRETS.iter().map(|_| OnceCell::new()).collect(),
        }
    }

    /// Refuses a setting that contains a secret: most settings are logged or published, also valid ones.
    pub(super) fn reject_secrets_in_settings(&self) -> Result<(), ConfigError> {
        let texts = SETTINGS.iter().filter_map(|setting| Some((setting.name, self.text(setting.name)?)));
        for (name, text) in texts {
            if let Some(problem) = dotenv::lost_line_break(&text) {
                return Err(ConfigError::Secret { name, problem });
            }
            let contains =
                |secret: &str| text == secret || secret.len() >= CONTAINED_LENGTH && text.contains(secret);
            if let Some(secret) = self.known_secrets().find(|(_, secret)| contains(secret)) {
                let problem = format!("contains the value of {}: set it to another value", secret.0);
                return Err(ConfigError::Secret { name, problem });
            }
        }
        Ok(())
    }

    /// Names and values of the secrets that are set and can be read.
    fn known_secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SECRETS.iter().filter_map(|secret| {
            let text = self.stored_secret(secret)?.as_ref().ok()?.as_ref()?.reveal();
            Some((secret.name, trim_invisible(text)))
        })
    }

    /// The secret, read when it is first needed. `None` for one that is not in [`SECRETS`].
    fn stored_secret(&self, secret: &SecretDeclaration) -> Option<&Result<Option<Secret>, ConfigError>> {
        let at = SECRETS.iter().position(|known| known.name == secret.name)?;
        Some(self.secrets.get(at)?.get_or_init(|| self.read_secret(secret)))
    }

    fn read_secret(&self, secret: &SecretDeclaration) -> Result<Option<Secret>, ConfigError> {
        let SecretDeclaration { name, file, .. } = *secret;
        let direct = match environment_secret(name)? {
            Some(text) => Some(text),
            None => self.dotenv.get(name).cloned(),
        };
        match (direct.filter(|text| !text.is_empty()), self.text(file.name)) {
            // Choosing one silently could unlock, or create, a store with the wrong key.
            (Some(_), Some(_)) => {
                let problem = format!("is set, and {} as well: keep one of them", file.name);
                Err(ConfigError::Secret { name, problem })
            }
            (Some(text), None) => Ok(Some(Secret::new(text))),
            (None, Some(path)) => {
                secret_file(&path).map(Some).map_err(|remedy| ConfigError::setting(file.name, path, remedy))
            }
            (None, None) => Ok(None),
        }
    }

    /// Whether the flag of a setting stands somewhere on the command line.
    pub(super) fn is_typed(&self, name: &'static str) -> bool {
        is_typed(self.level(name), name)
    }

    /// The part of the command line that has the flag: before the command, or after it, which wins.
    fn level(&self, name: &'static str) -> &'a ArgMatches {
        let mut typed_at = self.matches;
        let mut level = self.matches;
        while let Some((_, inner)) = level.subcommand() {
            // Only typed flags count: every level also has the environment and the default.
            if is_typed(inner, name) {
                typed_at = inner;
            }
            level = inner;
        }
        typed_at
    }
}

impl Source for Sources<'_> {
    fn text(&self, name: &'static str) -> Option<String> {
        let matches = self.level(name);
        let text = match matches.value_source(name) {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => {
                // Lossy on purpose: the parser rejects U+FFFD with an error that names the setting.
                matches.get_one::<OsString>(name).map(|text| text.to_string_lossy().into_owned())
            }
            // Clap's default ends up here too, so that `.env` overrides it.
            _ => self.dotenv.get(name).map(|text| text.as_str().to_owned()),
        };
        // Empty counts as unset, because `NAME=` is how many deployments remove a value.
        text.filter(|text| !text.is_empty())
    }

    fn secret(&self, secret: &SecretDeclaration) -> Result<Option<Secret>, ConfigError> {
        self.stored_secret(secret).cloned().unwrap_or(Ok(None))
    }

    fn has_secret_in(&self, text: &str) -> bool {
        self.known_secrets().any(|(_, secret)| !secret.is_empty() && text.contains(secret))
    }
}

/// The admin token, for commands that read no other setting.
///
/// # Errors
/// When `.env`, or the file that `ADMIN_TOKEN_FILE` names, cannot be read.
pub(crate) fn admin_token(matches: &ArgMatches) -> Result<Option<Secret>, ConfigError> {
    ADMIN_TOKEN.read(&Sources::new(matches)?)
}

/// The first setting whose flag stands before the command.
pub(crate) fn typed_setting(matches: &ArgMatches) -> Option<&'static str> {
    SETTINGS.iter().map(|setting| setting.name).find(|name| is_typed(matches, name))
}

/// The master key that `.env` holds now. Another process may have written it since the settings were read.
///
/// # Errors
/// When it is invalid.
pub(crate) fn dotenv_master_key() -> Result<Option<MasterSecret>, ConfigError> {
    let (dotenv, _) = dotenv::read()?;
    dotenv.get(MASTER_KEY.name).filter(|text| !text.is_empty()).map(|text| MASTER_KEY.parse(text)).transpose()
}

/// True if the flag of a setting stands here. Not every command has these flags.
fn is_typed(matches: &ArgMatches, name: &str) -> bool {
    matches.try_contains_id(name).is_ok() && matches.value_source(name) == Some(ValueSource::CommandLine)
}

#[expect(clippy::disallowed_methods, reason = "this is the reader of the environment")]
fn environment_secret(name: &'static str) -> Result<Option<Zeroizing<String>>, ConfigError> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // Never decoded lossily: a replaced byte would derive another master key.
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(ConfigError::Secret { name, problem: "is not UTF-8: set it to a text".to_owned() })
        }
    }
}
