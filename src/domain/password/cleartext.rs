//! Passwords in clear text.

use std::fmt;

use rand::CryptoRng;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use zeroize::Zeroizing;

/// Maximum length of a chosen password in bytes. Bounded, because hashing a huge password would be a denial of service.
pub(crate) const PASSWORD_MAX: usize = 1024;

/// A password in clear text, zeroised when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password to check. Any text is allowed; [`Password::chosen`] is for setting one.
    #[must_use]
    pub(crate) fn typed(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A password that a user chooses for an account.
    ///
    /// # Errors
    /// [`InvalidPassword`] if it is empty or longer than `PASSWORD_MAX` bytes.
    pub fn chosen(text: String) -> Result<Self, InvalidPassword> {
        let password = Self::typed(text);
        if password.0.is_empty() || password.0.len() > PASSWORD_MAX {
            return Err(InvalidPassword);
        }
        Ok(password)
    }

    /// Generates a `UUIDv4` (RFC 9562 §5.4): 122 random bits.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        // Zeroised, because the bytes are as secret as the password made of them.
        let mut bytes = Zeroizing::new([0; 16]);
        rng.fill_bytes(bytes.as_mut());
        Self::typed(uuid::Builder::from_random_bytes(*bytes).into_uuid().to_string())
    }

    /// The clear text, for the one response that shows it to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Deserialised directly, so that the text is zeroised even if the rest of the request body is rejected.
impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text).map(Self::typed)
    }
}

/// The password is too short or too long.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a password must have 1 to {PASSWORD_MAX} bytes")]
pub struct InvalidPassword;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Password::typed("hunter2".into())), "Password");
    }

    #[test]
    fn an_empty_or_overlong_password_cannot_be_chosen() {
        assert!(Password::chosen(String::new()).is_err());
        assert!(Password::chosen("x".repeat(PASSWORD_MAX + 1)).is_err());
        assert!(Password::chosen("x".repeat(PASSWORD_MAX)).is_ok());
    }
}
