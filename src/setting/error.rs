//! The error of an invalid setting: one line that says what is wrong and what to set instead.

use std::fmt;

use thiserror::Error;

/// A setting that is invalid or cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The `.env` file cannot be read.
    #[error(".env: {0}")]
    Dotenv(String),
    /// A secret is invalid. Its value is not shown.
    #[error("{name} {problem}")]
    Secret {
        /// The name of the secret.
        name: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Any other setting is invalid.
    #[error("{name} is {}: {remedy}", Shown(value))]
    Setting {
        /// The name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What to set instead.
        remedy: String,
    },
}

impl ConfigError {
    /// The error of a setting, its value, and what to set instead.
    pub(crate) fn setting(name: &'static str, value: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::Setting { name, value: value.to_string(), remedy: remedy.to_string() }
    }
}

/// Puts a value in quotes if the sentence around it would otherwise be unclear.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quotes make empty values and trailing spaces visible, and escape control characters.
        let is_plain = !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic());
        if is_plain { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}
