//! The error of an invalid setting: one line that says what is wrong and what to set instead.

use std::fmt;

use thiserror::Error;

use super::shown::ShownValue;

/// A setting that is invalid or cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The `.env` file cannot be read.
    #[error(".env: {0}")]
    Dotenv(String),
    /// A secret is invalid, or another setting contains one. The value is not shown.
    #[error("{name} {problem}")]
    Secret {
        /// The name of the setting.
        name: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Any other setting is invalid.
    #[error("{name} is {value}: {remedy}")]
    Setting {
        /// The name of the setting.
        name: &'static str,
        /// Its value, unless that may contain a secret.
        value: ShownValue,
        /// What to set instead. It does not repeat the value.
        remedy: String,
    },
}

impl ConfigError {
    /// The error of a setting, its value, and what to set instead.
    pub fn setting(name: &'static str, value: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        let value = ShownValue::new(name, &value.to_string());
        Self::Setting { name, value, remedy: remedy.to_string() }
    }

    /// The error of a setting whose value contains a secret.
    pub(super) fn hidden(name: &'static str, remedy: String) -> Self {
        Self::Setting { name, value: ShownValue::hidden(), remedy }
    }
}
