//! Where the texts of settings come from: flags, environment, `.env`, files of secrets.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use zeroize::Zeroizing;

use super::{ADMIN_TOKEN, ConfigError, DOTENV, SECRETS, SETTINGS, Secret, parse_master_secret};
use crate::domain::key::seal::MasterSecret;

/// Where texts of settings come from.
pub(super) struct Sources<'a> {
    /// Of the whole command line; those of its subcommands are inside.
    matches: &'a ArgMatches,
    dotenv: HashMap<String, Zeroizing<String>>,
}

impl<'a> Sources<'a> {
    /// All sources, as they are now.
    pub(super) fn of(matches: &'a ArgMatches) -> Result<Self, ConfigError> {
        Ok(Self { matches, dotenv: dotenv()? })
    }

    /// The text of a setting. An empty one is as good as none: the default holds.
    pub(super) fn given(&self, name: &'static str) -> Option<String> {
        let matches = self.level(name);
        let typed = matches.get_one::<OsString>(name).map(|text| text.to_string_lossy());
        let text = match matches.value_source(name) {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => typed,
            _ => self.dotenv.get(name).map(|text| text.as_str().into()).or(typed),
        };
        let default = || SETTINGS.iter().find(|setting| setting.name == name)?.default;
        text.filter(|text| !text.is_empty()).or_else(|| default().map(Into::into)).map(Into::into)
    }

    /// Where on the line the flag of a setting stands: before the command, or behind it, which wins.
    fn level(&self, name: &'static str) -> &'a ArgMatches {
        let mut found = self.matches;
        let mut level = self.matches;
        while let Some((_, inner)) = level.subcommand() {
            if is_typed(inner, name) {
                found = inner;
            }
            level = inner;
        }
        found
    }

    pub(super) fn text(&self, name: &'static str) -> Result<String, ConfigError> {
        self.parse(name, |text| Ok(text.to_owned()))
    }

    pub(super) fn parse<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let value = self.given(name).unwrap_or_default();
        if value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(ConfigError::Setting { name, value, wanted: "a value in UTF-8 would do".to_owned() });
        }
        parse(&value).map_err(|wanted| ConfigError::Setting { name, value, wanted })
    }

    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        if self.given(name).is_some() { self.parse(name, parse).map(Some) } else { Ok(None) }
    }

    pub(super) fn master_secret(&self, name: &'static str) -> Result<Option<MasterSecret>, ConfigError> {
        self.secret(name)?.map(|secret| parse_master_secret(name, &secret.0)).transpose()
    }

    /// The bearer token: what a header can carry (RFC 6750, 2.1).
    pub(super) fn admin_token(&self) -> Result<Option<Secret>, ConfigError> {
        let token = self.secret(ADMIN_TOKEN)?;
        match token {
            Some(token) if !token.0.bytes().all(|byte| byte.is_ascii_graphic()) => Err(ConfigError::Secret {
                name: ADMIN_TOKEN,
                wanted:
                    "it has characters that no header carries; `openssl rand -hex 32` makes one that works"
                        .to_owned(),
            }),
            token => Ok(token),
        }
    }

    /// The files that hold secrets.
    pub(super) fn secret_files(&self) -> Vec<PathBuf> {
        let names = SETTINGS.iter().map(|setting| setting.name).filter(|name| name.ends_with("_FILE"));
        names.filter_map(|name| self.given(name)).map(PathBuf::from).collect()
    }

    /// The value of a secret, from the environment, from `.env`, or from the file that `…_FILE` names.
    pub(super) fn secret(&self, name: &'static str) -> Result<Option<Secret>, ConfigError> {
        let file_setting = SETTINGS
            .iter()
            .map(|setting| setting.name)
            .find(|setting| setting.strip_suffix("_FILE").is_some_and(|secret| secret == name));
        let direct = match environment_secret(name)? {
            Some(text) => Some(Zeroizing::new(text)),
            None => self.dotenv.get(name).cloned(),
        };
        let direct = direct.filter(|text| !text.is_empty());
        let file = file_setting.and_then(|setting| self.given(setting));
        let wrong = |wanted| ConfigError::Secret { name, wanted };
        match (direct, file) {
            (Some(_), Some(file)) => {
                Err(wrong(format!("it is set, and {name}_FILE names {file:?} as well; keep one of them")))
            }
            (Some(text), None) => Ok(Some(Secret(text))),
            (None, Some(file)) => match std::fs::read_to_string(&file).map(Zeroizing::new) {
                Ok(text) if text.trim().is_empty() => Err(wrong(format!("the file {file:?} is empty"))),
                Ok(text) => Ok(Some(Secret(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))),
                Err(error) => Err(wrong(format!("the file {file:?} cannot be read: {error}"))),
            },
            (None, None) => Ok(None),
        }
    }
}

/// Whether the flag of a setting stands here. Not every command has them.
pub(super) fn is_typed(matches: &ArgMatches, name: &str) -> bool {
    matches.try_contains_id(name).is_ok() && matches.value_source(name) == Some(ValueSource::CommandLine)
}

#[expect(clippy::disallowed_methods, reason = "this is the reader of the environment")]
fn environment_secret(name: &'static str) -> Result<Option<String>, ConfigError> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(ConfigError::Secret { name, wanted: "it is not UTF-8".to_owned() })
        }
    }
}

/// The `.env` of the working directory, not of its parents.
pub(super) fn dotenv() -> Result<HashMap<String, Zeroizing<String>>, ConfigError> {
    let text = match std::fs::read_to_string(DOTENV).map(Zeroizing::new) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(ConfigError::Dotenv(error.to_string())),
    };
    dotenv_of(&text)
}

/// What the text of a `.env` sets.
pub(super) fn dotenv_of(text: &str) -> Result<HashMap<String, Zeroizing<String>>, ConfigError> {
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_substitution_in_secrets(text)?;
    dotenvy::from_read_iter(text.as_bytes())
        .map(|line| match line {
            Ok((name, value)) => Ok((name, Zeroizing::new(value))),
            // The library's message quotes the line, which may be the master key.
            Err(_) => Err(ConfigError::Dotenv(
                "a line cannot be read: NAME=value would do, with 'quotes' around a value that has spaces"
                    .to_owned(),
            )),
        })
        .collect()
}

/// `$NAME` in a value is replaced, as in a shell: a master key with a `$` would be another one than it looks.
fn refuse_substitution_in_secrets(text: &str) -> Result<(), ConfigError> {
    for line in text.lines().map(|line| line.trim_start().trim_start_matches("export ").trim_start()) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let secret = SECRETS.iter().find(|(secret, _)| *secret == name.trim_end());
        if let Some((name, _)) = secret
            && value.contains('$')
            && !value.trim_start().starts_with('\'')
        {
            let wanted = format!("in {DOTENV}, a value with a $ must stand in 'single quotes'");
            return Err(ConfigError::Secret { name, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Config, args};
    use super::*;

    #[test]
    fn debug_of_all_settings_shows_no_secret() {
        let matches = clap::Command::new("jwksd").args(args()).get_matches_from(["jwksd"]);
        let text = "NOT_MY_KEY='hunter2 hunter2 hunter2'\nNEW_NOT_MY_KEY='hunter2 hunter2 hunter3'\nADMIN_TOKEN=hunter2\n";
        let config =
            Config::resolve(&Sources { matches: &matches, dotenv: dotenv_of(text).unwrap() }).unwrap();
        let shown = format!("{config:?}");
        for part in [
            "master_secret: Some(MasterSecret), new_master_secret: Some(MasterSecret)",
            "admin_token: Some(Secret)",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
