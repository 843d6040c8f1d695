//! The types of the constants: a setting's name, default, help and parser, declared once.

use super::declaration::{Declaration, SecretDeclaration};
use super::error::ConfigError;
use super::source::Source;

/// A parser of a setting's text. Its error says what to set instead, and does not repeat the text.
type Parser<T> = fn(&str) -> Result<T, String>;

/// A setting with a default.
pub(crate) struct Setting<T> {
    pub(crate) name: &'static str,
    /// The text that is parsed when the setting is unset.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
    pub(crate) parse: Parser<T>,
}

impl<T> Setting<T> {
    /// The declaration without its type, for the table of all settings.
    pub(crate) const fn declaration(&self) -> Declaration {
        Declaration { name: self.name, default: Some(self.default), help: self.help }
    }

    pub(crate) fn read(&self, source: &dyn Source) -> Result<T, ConfigError> {
        parse(self.name, self.text(source), self.parse, source)
    }

    /// The error of a value that is valid by itself, but not together with other settings.
    pub(crate) fn invalid(&self, source: &dyn Source, remedy: String) -> ConfigError {
        refusal(self.name, self.text(source), remedy, source)
    }

    fn text(&self, source: &dyn Source) -> String {
        source.text(self.name).unwrap_or_else(|| self.default.to_owned())
    }
}

/// A setting without a default.
pub(crate) struct OptionalSetting<T> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) parse: Parser<T>,
}

impl<T> OptionalSetting<T> {
    /// The declaration without its type, for the table of all settings.
    pub(crate) const fn declaration(&self) -> Declaration {
        Declaration { name: self.name, default: None, help: self.help }
    }

    pub(crate) fn read(&self, source: &dyn Source) -> Result<Option<T>, ConfigError> {
        source.text(self.name).map(|text| parse(self.name, text, self.parse, source)).transpose()
    }
}

/// A secret: it has no flag, and can also come from a file.
pub(crate) struct SecretSetting<T> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// The setting that names the file.
    pub(crate) file: OptionalSetting<String>,
    /// As [`Parser`]. Its error follows the name: "is not a master key: use …".
    pub(crate) parse: Parser<T>,
}

impl<T> SecretSetting<T> {
    /// The declaration without its type, for the table of all secrets.
    pub(crate) const fn declaration(&self) -> SecretDeclaration {
        SecretDeclaration { name: self.name, help: self.help, file: self.file.declaration() }
    }

    pub(crate) fn read(&self, source: &dyn Source) -> Result<Option<T>, ConfigError> {
        source.secret(&self.declaration())?.map(|secret| self.parse(secret.reveal())).transpose()
    }

    pub(crate) fn parse(&self, text: &str) -> Result<T, ConfigError> {
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
