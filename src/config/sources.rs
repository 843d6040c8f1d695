//! Where the texts of settings come from: flags, environment, `.env`, and files that hold secrets.

use std::collections::HashMap;
use std::ffi::OsString;

use clap::ArgMatches;
use clap::parser::ValueSource;
use zeroize::Zeroizing;

use super::table::{SECRETS, SETTINGS};
use crate::domain::key::seal::MasterSecret;
use crate::http::config::ADMIN_TOKEN;
use crate::issuer::config::MASTER_KEY;
use crate::setting::{ConfigError, Secret, SecretDeclaration, Source};

/// The file of settings in the working directory.
pub(crate) const DOTENV: &str = ".env";

/// All sources, as they were when they were read.
pub(super) struct Sources<'a> {
    /// Of the whole command line, with those of its subcommands inside.
    pub(super) matches: &'a ArgMatches,
    pub(super) dotenv: HashMap<String, Zeroizing<String>>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(matches: &'a ArgMatches) -> Result<Self, ConfigError> {
        Ok(Self { matches, dotenv: read_dotenv()? })
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
        let SecretDeclaration { name, file, .. } = *secret;
        let direct = match environment_secret(name)? {
            Some(text) => Some(text),
            None => self.dotenv.get(name).cloned(),
        };
        match (direct.filter(|text| !text.is_empty()), self.text(file.name)) {
            // Choosing one silently could unlock, or create, a store with the wrong key.
            (Some(_), Some(path)) => {
                let problem = format!("is set, and {} names {path:?} as well: keep one of them", file.name);
                Err(ConfigError::Secret { name, problem })
            }
            (Some(text), None) => Ok(Some(Secret::new(text))),
            (None, Some(path)) => secret_file(&path).map(Some).map_err(|remedy| ConfigError::Setting {
                name: file.name,
                value: path,
                remedy,
            }),
            (None, None) => Ok(None),
        }
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
    read_dotenv()?
        .get(MASTER_KEY.name)
        .filter(|text| !text.is_empty())
        .map(|text| MASTER_KEY.parse(text))
        .transpose()
}

/// Parses the text of a `.env` into the settings that it contains.
///
/// # Errors
/// [`ConfigError`] if a line is malformed, or if a secret contains a `$` that dotenv would substitute.
pub fn parse_dotenv(text: &str) -> Result<HashMap<String, Zeroizing<String>>, ConfigError> {
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    reject_substitution_in_secrets(text)?;
    dotenvy::from_read_iter(text.as_bytes())
        .map(|line| match line {
            Ok((name, value)) => Ok((name, Zeroizing::new(value))),
            // The library's message quotes the line, which may be the master key.
            Err(_) => Err(ConfigError::Dotenv(
                "a line cannot be read: write NAME=value, with 'quotes' around a value that has spaces"
                    .to_owned(),
            )),
        })
        .collect()
}

/// The `.env` of the working directory, not of its parents.
fn read_dotenv() -> Result<HashMap<String, Zeroizing<String>>, ConfigError> {
    match std::fs::read_to_string(DOTENV).map(Zeroizing::new) {
        Ok(text) => parse_dotenv(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HashMap::new()),
        Err(error) => Err(ConfigError::Dotenv(format!(
            "the file cannot be read ({error}): change its owner or its mode"
        ))),
    }
}

/// Rejects a secret with a `$` outside single quotes.
fn reject_substitution_in_secrets(text: &str) -> Result<(), ConfigError> {
    for line in text.lines().map(|line| line.trim_start().trim_start_matches("export ").trim_start()) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let secret = SECRETS.iter().find(|secret| secret.name == name.trim_end());
        // dotenvy replaces $NAME as a shell does, so the master key would differ from the text in the file.
        if let Some(secret) = secret
            && value.contains('$')
            && !value.trim_start().starts_with('\'')
        {
            let problem = format!("has a $ in {DOTENV}: put the value in 'single quotes'");
            return Err(ConfigError::Secret { name: secret.name, problem });
        }
    }
    Ok(())
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

/// The secret in this file, without the end of its last line.
fn secret_file(path: &str) -> Result<Secret, String> {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        // Unlike an empty variable this is an error: the secret was probably not mounted.
        Ok(text) if text.trim().is_empty() => Err("the file is empty: write the secret to it".to_owned()),
        // Editors add the line end. Spaces stay, because a passphrase may end with one.
        Ok(text) => Ok(Secret::new(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))),
        Err(error) => Err(format!("the file cannot be read ({error}): name one that can")),
    }
}
