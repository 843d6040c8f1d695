//! The types of the constants: a setting's name, default, help and parser, declared once.

use super::declaration::{Declaration, SecretDeclaration};
use super::error::ConfigError;
use super::source::Source;

/// A parser of a setting's text. Its error says what to set instead, and does not repeat the text.
type Parser<T> = fn(&str) -> Result<T, String>;

/// A setting with a default.
pub struct Setting<T> {
    /// The name of its environment variable.
    pub name: &'static str,
    /// The text that is parsed when the setting is unset.
    pub default: &'static str,
    /// What --help says of it.
    pub help: &'static str,
    /// Reads its text.
    pub parse: Parser<T>,
}

impl<T> Setting<T> {
    /// The declaration without its type, for the table of all settings.
    #[must_use]
    pub const fn declaration(&self) -> Declaration {
        Declaration { name: self.name, default: Some(self.default), help: self.help }
    }

    /// Its value.
    ///
    /// # Errors
    /// [`ConfigError`] if its text is invalid.
    pub fn read(&self, source: &dyn Source) -> Result<T, ConfigError> {
        parse(self.name, self.text(source), self.parse, source)
    }

    /// The error of a value that is valid by itself, but not together with other settings.
    pub fn invalid(&self, source: &dyn Source, remedy: String) -> ConfigError {
        refusal(self.name, self.text(source), remedy, source)
    }

    fn text(&self, source: &dyn Source) -> String {
        source.text(self.name).unwrap_or_else(|| self.default.to_owned())
    }
}

/// A setting without a default.
pub struct OptionalSetting<T> {
    /// The name of its environment variable.
    pub name: &'static str,
    /// What --help says of it.
    pub help: &'static str,
    /// Reads its text.
    pub parse: Parser<T>,
}

impl<T> OptionalSetting<T> {
    /// The declaration without its type, for the table of all settings.
    #[must_use]
    pub const fn declaration(&self) -> Declaration {
        Declaration { name: self.name, default: None, help: self.help }
    }

    /// Its value.
    ///
    /// # Errors
    /// [`ConfigError`] if its text is invalid.
    pub fn read(&self, source: &dyn Source) -> Result<Option<T>, ConfigError> {
        source.text(self.name).map(|text| parse(self.name, text, self.parse, source)).transpose()
    }
}

/// A secret: it has no flag, and can also come from a file.
pub struct SecretSetting<T> {
    /// The name of its environment variable.
    pub name: &'static str,
    /// What --help says of it.
    pub help: &'static str,
    /// The setting that names the file.
    pub file: OptionalSetting<String>,
    /// Reads its text. The error follows the name: "is not a master key: use …".
    pub parse: Parser<T>,
}

impl<T> SecretSetting<T> {
    /// The declaration without its type, for the table of all secrets.
    #[must_use]
    pub const fn declaration(&self) -> SecretDeclaration {
        SecretDeclaration { name: self.name, help: self.help, file: self.file.declaration() }
    }

    /// Its value.
    ///
    /// # Errors
    /// [`ConfigError`] if its text is invalid.
    pub fn read(&self, source: &dyn Source) -> Result<Option<T>, ConfigError> {
        source.secret(&self.declaration())?.map(|secret| self.parse(secret.reveal())).transpose()
    }

    /// The secret that a text stands for.
    ///
    /// # Errors
    /// [`ConfigError`] without the text.
    pub fn parse(&self, text: &str) -> Result<T, ConfigError> {
        (self.parse)(text).map_err(|problem| ConfigError::Secret { name: self.name, problem })
    }
}

fn parse<T>(
    name: &'static str,
    value: String,
    parse: Parser<T>,
    source: &dyn Source,
) -> Result<T, ConfigError> {
    // Sources decode lossily, so that this error can name the setting.
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err(refusal(name, value, "use a value in UTF-8".to_owned(), source));
    }
    parse(&value).map_err(|remedy| refusal(name, value, remedy, source))
}

fn refusal(name: &'static str, value: String, remedy: String, source: &dyn Source) -> ConfigError {
    if source.has_secret_in(&value) {
        ConfigError::hidden(name, remedy)
    } else {
        ConfigError::setting(name, value, remedy)
    }
}
