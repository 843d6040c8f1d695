//! Where the texts of settings come from, as an interface.

use std::fmt;

use zeroize::Zeroizing;

use super::declaration::SecretDeclaration;
use super::error::ConfigError;

/// Gives the texts of settings.
pub trait Source {
    /// The text of a setting that is not a secret; `None` when it is unset or empty.
    fn text(&self, name: &'static str) -> Option<String>;

    /// The text of a secret; `None` when it is unset or empty.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] when the secret is set twice or cannot be read.
    fn secret(&self, secret: &SecretDeclaration) -> Result<Option<Secret>, ConfigError>;

    /// Whether a text contains one of the secrets of this source, so that no error may show it.
    fn has_secret_in(&self, _text: &str) -> bool {
        false
    }
}

/// The text of a secret. It has no `Display`, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text of a secret.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
