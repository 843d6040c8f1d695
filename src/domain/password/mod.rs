//! Passwords and their Argon2id hashes: what a hash costs, and why checking one takes the same time for everybody.

mod backend;
mod credential_cache;

use std::fmt;

use argon2::password_hash::phc::{PasswordHash as Phc, Salt as PhcSalt};
use argon2::{Algorithm, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::CryptoRng;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::backend::Argon2Backend;
use self::backend::Task;
pub use self::credential_cache::CredentialCache;

/// The most bytes a chosen password may have: enough for any passphrase, too few to make hashing one an attack.
pub const PASSWORD_MAX: usize = 1024;

/// The most that a hash may cost, in KiB, passes and lanes: 4 GiB, and seconds to minutes on one core. Beyond that, one check
/// could hold a thread for days, or end the process for want of memory.
pub const MAX_COST: [u32; 3] = [4 << 20, 100, 64];

/// A password in the clear. It can be checked and shown to its owner once, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password that somebody typed. Any text may be tried; see [`Password::chosen`] for setting one.
    #[must_use]
    pub fn typed(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes a password that somebody chose for an account.
    ///
    /// # Errors
    /// [`InvalidPassword`] for an empty one and one of more than [`PASSWORD_MAX`] bytes.
    pub fn chosen(text: String) -> Result<Self, InvalidPassword> {
        let password = Self::typed(text);
        if password.0.is_empty() || password.0.len() > PASSWORD_MAX {
            return Err(InvalidPassword);
        }
        Ok(password)
    }

    /// Makes a `UUIDv4` (RFC 9562, 5.4): 122 random bits.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 16]);
        rng.fill_bytes(bytes.as_mut());
        Self::typed(uuid::Builder::from_random_bytes(*bytes).into_uuid().to_string())
    }

    /// The text itself, for the one answer that shows it to its owner.
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

/// Read straight from a body, so that it is wiped also where the rest of that body is refused.
impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text).map(Self::typed)
    }
}

/// The password cannot be set.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a password must have 1 to {PASSWORD_MAX} bytes")]
pub struct InvalidPassword;

/// An Argon2 hash as a PHC string: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes the text of `users.password_hash`, which may be no PHC string: such a hash matches no password.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text for `users.password_hash`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What checking this hash costs; nothing for a text that is no Argon2 hash.
    #[must_use]
    pub fn cost(&self) -> Option<HashCost> {
        let (before_hash, _) = self.0.rsplit_once('$')?;
        let (before_salt, _) = before_hash.rsplit_once('$')?;
        before_salt.starts_with("$argon2").then(|| HashCost(format!("{before_salt}$")))
    }

    /// A hash that no password is known to match, and that costs as much to check as a real one of this cost.
    #[must_use]
    pub fn dummy(cost: &HashCost) -> Self {
        Self(format!("{}AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", cost.0))
    }

    /// Whether checking this hash costs just this.
    #[must_use]
    pub fn has_cost(&self, cost: &HashCost) -> bool {
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
pub struct Salt([u8; PhcSalt::RECOMMENDED_LENGTH]);

impl Salt {
    /// Draws a salt.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut salt = [0; PhcSalt::RECOMMENDED_LENGTH];
        rng.fill_bytes(&mut salt);
        Self(salt)
    }
}

/// The part of a PHC string before its salt, `$argon2id$v=19$m=19456,t=2,p=1$`: what checking it will cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCost(pub String);

/// Without its dollar signs: `argon2id v=19 m=19456,t=2,p=1`.
impl fmt::Display for HashCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.trim_matches('$').replace('$', " "))
    }
}

/// The costs of one lane that OWASP's Password Storage Cheat Sheet takes as equal: KiB and passes.
const OWASP: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// Makes and checks password hashes.
///
/// New hashes are Argon2id with the given settings; OWASP's minimum is 19 MiB, 2 passes, 1 lane. A stored hash is
/// checked at its own cost, whatever the settings are now.
#[derive(Clone, Debug)]
pub struct Hasher {
    params: Params,
    backend: Argon2Backend,
}

impl Hasher {
    /// A hasher for new hashes of this cost: memory in KiB, passes, lanes.
    ///
    /// # Errors
    /// [`InvalidCost`] for a combination Argon2 does not allow (RFC 9106, 3.1).
    pub fn new(memory_kib: u32, iterations: u32, parallelism: u32) -> Result<Self, InvalidCost> {
        Params::new(memory_kib, iterations, parallelism, None)
            .map(|params| Self { params, backend: Argon2Backend::Reference })
            .map_err(|source| InvalidCost(source.to_string()))
    }

    /// The same hasher on another engine.
    #[must_use]
    pub fn with_backend(self, backend: Argon2Backend) -> Self {
        Self { backend, ..self }
    }

    /// The cost of the hashes this one makes.
    #[must_use]
    pub fn cost(&self) -> HashCost {
        let (m, t, p) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        HashCost(format!("$argon2id$v=19$m={m},t={t},p={p}$"))
    }

    /// Whether new hashes cost at least what OWASP asks for: less memory needs more passes.
    #[must_use]
    pub fn meets_owasp_minimum(&self) -> bool {
        OWASP.iter().any(|(memory_kib, iterations)| {
            self.params.m_cost() >= *memory_kib && self.params.t_cost() >= *iterations
        })
    }

    /// Hashes a password. Slow by design.
    ///
    /// # Errors
    /// [`HashError`] when the memory cannot be had.
    pub fn hash(&self, password: &Password, salt: &Salt) -> Result<PasswordHash, HashError> {
        let mut tag = [0; Params::DEFAULT_OUTPUT_LEN];
        let task = Task { algorithm: Algorithm::Argon2id, version: Version::V0x13, params: &self.params };
        self.backend.fill(&task, password.0.as_bytes(), &salt.0, &mut tag).ok_or(HashError)?;
        let (salt, tag) = (STANDARD_NO_PAD.encode(salt.0), STANDARD_NO_PAD.encode(tag));
        Ok(PasswordHash(format!("{}{salt}${tag}", self.cost().0)))
    }

    /// Checks a password against a stored hash, at the cost that hash was made with. Slow by design.
    ///
    /// A text that is no Argon2 hash, or one that costs more than [`MAX_COST`], matches nothing, at no cost.
    pub fn verify(&self, password: &Password, stored: &PasswordHash) -> VerifyOutcome {
        let Ok(hash) = Phc::new(&stored.0) else {
            return VerifyOutcome::Unreadable;
        };
        let (Some(expected), Some(salt)) = (&hash.hash, &hash.salt) else {
            return VerifyOutcome::Unreadable;
        };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str());
        // A hash without a version is of the first one (its PHC string specification).
        let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from);
        let (Ok(algorithm), Ok(version), Ok(params)) = (algorithm, version, Params::try_from(&hash)) else {
            return VerifyOutcome::Unreadable;
        };
        let cost = [params.m_cost(), params.t_cost(), params.p_cost()];
        if cost.iter().zip(MAX_COST).any(|(cost, most)| *cost > most) {
            return VerifyOutcome::Unreadable;
        }
        let task = Task { algorithm, version, params: &params };
        let mut tag = vec![0; expected.len()];
        match self.backend.fill(&task, password.0.as_bytes(), salt, &mut tag) {
            None => VerifyOutcome::NotComputed,
            Some(()) if verify_slices_are_equal(&tag, expected.as_bytes()).is_ok() => VerifyOutcome::Match,
            Some(()) => VerifyOutcome::Mismatch,
        }
    }
}

/// What came of checking a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum VerifyOutcome {
    /// It is the password.
    Match,
    /// It is another one.
    Mismatch,
    /// Nobody knows: there was not as much memory.
    NotComputed,
    /// The stored text is no Argon2 hash that could be computed: nothing matches it.
    Unreadable,
}

/// Argon2 does not allow these settings.
#[derive(Debug, Error)]
#[error("Argon2 does not allow this cost: {0}")]
pub struct InvalidCost(String);

/// A hash could not be computed.
#[derive(Debug, Error)]
#[error("the password could not be hashed: there is not as much memory")]
pub struct HashError;

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn cheap() -> Hasher {
        Hasher::new(8, 1, 1).unwrap()
    }

    #[test]
    fn a_password_matches_its_own_hash_and_no_other() {
        let mut rng = StdRng::seed_from_u64(1);
        let password = Password::generate(&mut rng);
        let hash = cheap().hash(&password, &Salt::generate(&mut rng)).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", hash.as_str());
        assert_eq!(cheap().verify(&password, &hash), VerifyOutcome::Match);
        assert_eq!(cheap().verify(&Password::generate(&mut rng), &hash), VerifyOutcome::Mismatch);
    }

    // A literal of the reference implementation (RFC 9106 parameters); never replace it by one that is made here.
    #[test]
    fn a_hash_of_the_reference_implementation_still_verifies() {
        let stored = PasswordHash::stored(
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc".into(),
        );
        assert_eq!(cheap().verify(&Password::typed("password".into()), &stored), VerifyOutcome::Match);
        assert_eq!(cheap().verify(&Password::typed("passwort".into()), &stored), VerifyOutcome::Mismatch);
    }

    #[test]
    fn a_hash_made_to_match_nothing_is_checked_at_the_cost_it_names() {
        let dummy = PasswordHash::dummy(&HashCost("$argon2id$v=19$m=16,t=3,p=1$".into()));
        assert_eq!(cheap().verify(&Password::typed(String::new()), &dummy), VerifyOutcome::Mismatch);
    }

    #[test]
    fn a_hash_has_the_cost_it_was_made_with() {
        let mut rng = StdRng::seed_from_u64(1);
        let hash = cheap().hash(&Password::generate(&mut rng), &Salt::generate(&mut rng)).unwrap();
        assert_eq!(hash.cost(), Some(cheap().cost()));
        assert_eq!(cheap().cost().to_string(), "argon2id v=19 m=8,t=1,p=1");
        for text in ["", "x", "$2b$12$abcdefghijklmnopqrstuv"] {
            assert_eq!(PasswordHash::stored(text.into()).cost(), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_argon2_hash_matches_nothing() {
        for text in ["", "x", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ"] {
            let verdict = cheap().verify(&Password::typed("x".into()), &PasswordHash::stored(text.into()));
            assert_eq!(verdict, VerifyOutcome::Unreadable, "{text}");
        }
    }

    #[test]
    fn a_hash_that_costs_more_than_may_be_is_not_computed() {
        for cost in
            ["m=4194305,t=1,p=1", "m=8,t=101,p=1", "m=520,t=1,p=65", "m=4294967295,t=4294967295,p=16777215"]
        {
            let stored = PasswordHash::dummy(&HashCost(format!("$argon2id$v=19${cost}$")));
            let verdict = cheap().verify(&Password::typed("x".into()), &stored);
            assert_eq!(verdict, VerifyOutcome::Unreadable, "{cost}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let password = Password::typed("hunter2".into());
        assert_eq!(
            format!("{password:?} {:?}", PasswordHash::stored("$argon2id$".into())),
            "Password PasswordHash"
        );
    }

    #[test]
    fn an_empty_or_overlong_password_cannot_be_chosen() {
        assert!(Password::chosen(String::new()).is_err());
        assert!(Password::chosen("x".repeat(PASSWORD_MAX + 1)).is_err());
        assert!(Password::chosen("x".repeat(PASSWORD_MAX)).is_ok());
    }
}
