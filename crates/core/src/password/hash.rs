//! Stored password hashes, their salt and their cost.

use std::fmt;

use argon2::password_hash::phc::Salt as PhcSalt;
use rand::CryptoRng;

/// An Argon2 hash as a PHC string: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub(super) String);

impl PasswordHash {
    /// Takes the text of `users.password_hash`. Text that is not a PHC string matches no password.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text for `users.password_hash`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cost of verifying this hash; `None` for text that is not an Argon2 hash.
    #[must_use]
    pub fn cost(&self) -> Option<HashCost> {
        // The last two parts are salt and tag.
        let (before_hash, _) = self.0.rsplit_once('$')?;
        let (before_salt, _) = before_hash.rsplit_once('$')?;
        before_salt.starts_with("$argon2").then(|| HashCost(format!("{before_salt}$")))
    }

    /// A hash that matches no known password and takes as long to verify as a real hash with this cost.
    #[must_use]
    pub fn dummy(cost: &HashCost) -> Self {
        // Finding a password for the all-zero tag would mean breaking Argon2.
        Self(format!("{}AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", cost.0))
    }

    /// Whether verifying this hash has exactly this cost.
    #[must_use]
    pub(crate) fn has_cost(&self, cost: &HashCost) -> bool {
        // The cost ends with a dollar sign, so `p=1` does not match `p=10`.
        self.0.starts_with(&cost.0)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// The salt of one hash.
#[derive(Debug)]
pub struct Salt(pub(super) [u8; PhcSalt::RECOMMENDED_LENGTH]);

impl Salt {
    /// Generates a random salt.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut salt = [0; PhcSalt::RECOMMENDED_LENGTH];
        rng.fill_bytes(&mut salt);
        Self(salt)
    }
}

/// The cost of verifying a hash: its PHC string up to the salt, such as `$argon2id$v=19$m=19456,t=2,p=1$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCost(pub String);

/// Without dollar signs: `argon2id v=19 m=19456,t=2,p=1`.
impl fmt::Display for HashCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.trim_matches('$').replace('$', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_an_argon2_hash_has_no_cost() {
        for text in ["", "x", "$2b$12$abcdefghijklmnopqrstuv"] {
            assert_eq!(PasswordHash::stored(text.into()).cost(), None, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", PasswordHash::stored("$argon2id$".into())), "PasswordHash");
    }
}
