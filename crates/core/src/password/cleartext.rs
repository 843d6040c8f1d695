//! Passwords in clear text.

use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use rand::CryptoRng;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use zeroize::Zeroizing;

/// Maximum length of a chosen password in bytes. Bounded, because hashing a huge password would be a denial of service.
pub const PASSWORD_MAX: usize = 1024;

/// A password in clear text, zeroised when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password to check. Any text is allowed.
    #[must_use]
    pub fn typed(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A password that an operator gives to an account. Users must obey [`ChosenPassword`](super::ChosenPassword).
    ///
    /// # Errors
    /// [`InvalidPassword`] if it is empty or longer than `PASSWORD_MAX` bytes.
    pub fn assigned(text: String) -> Result<Self, InvalidPassword> {
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

    /// The password in the form that is hashed: the mappings of the profile `OpaqueString` (RFC 8265 §4.2). Keyboards and
    /// systems write one character in different ways, such as é as one code point or as two.
    ///
    /// Unlike the profile it refuses nothing: also characters that are newer than its tables may be in passwords.
    #[must_use]
    pub(crate) fn normalized(&self) -> Self {
        // The usual case, nothing is allocated for the normaliser.
        if self.0.is_ascii() {
            return self.clone();
        }
        let spaces: Zeroizing<String> =
            Zeroizing::new(self.0.chars().map(|c| if is_space(c) { ' ' } else { c }).collect());
        Self::typed(ComposingNormalizerBorrowed::new_nfc().normalize(&spaces).into_owned())
    }

    /// What is compared with a stored hash: the normal form, and the text as it was typed if it differs.
    ///
    /// Other programs, and jwksd before it normalised, hashed the text as it was typed. How many there are depends only on
    /// what the client sent.
    #[must_use]
    pub(crate) fn spellings(&self) -> Vec<Self> {
        let normalized = self.normalized();
        if normalized.0 == self.0 { vec![normalized] } else { vec![normalized, self.clone()] }
    }

    /// The clear text, for the one response that shows it to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Whether this is a space outside of ASCII: the general category Zs of Unicode, which is stable.
fn is_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
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
    fn an_empty_or_overlong_password_cannot_be_assigned() {
        assert!(Password::assigned(String::new()).is_err());
        assert!(Password::assigned("x".repeat(PASSWORD_MAX + 1)).is_err());
        assert!(Password::assigned("x".repeat(PASSWORD_MAX)).is_ok());
    }

    // The examples of RFC 8265 §4.3, and one of ours.
    #[test]
    fn spellings_are_the_normal_form_and_what_was_typed_if_it_differs() {
        let spellings = |text: &str| {
            let spellings = Password::typed(text.to_owned()).spellings();
            spellings.iter().map(|password| password.reveal().to_owned()).collect::<Vec<_>>()
        };
        for same in ["correct horse battery staple", "Correct Horse Battery Staple", "πßå", "Jack of ♦s", ""]
        {
            assert_eq!(spellings(same), [same]);
        }
        assert_eq!(spellings("foo\u{1680}bar"), ["foo bar", "foo\u{1680}bar"]);
        assert_eq!(spellings("cafe\u{301}"), ["café", "cafe\u{301}"]);
    }
}
