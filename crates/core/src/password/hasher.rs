//! Computes and verifies password hashes.

use argon2::password_hash::phc::{Output, PasswordHash as Phc, Salt as PhcSalt};
use argon2::{Algorithm, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use thiserror::Error;

use super::backend::{Argon2Backend, Job};
use super::cleartext::Password;
use super::hash::{HashCost, PasswordHash, Salt};

/// Maximum cost of a hash in KiB, passes and lanes. The memory is that of the highest recommendation of RFC 9106 (§4).
pub const MAX_COST: [u32; 3] = [2 << 20, 100, 64];

/// Maximum product of KiB and passes, to which the time is proportional: some seconds on one core. It is that of libsodium's
/// highest limits (1 GiB and four passes).
///
/// Refusing a sign-in takes one hash of each stored cost. Without this bound, one row could keep all users out.
const MAX_KIB_PASSES: u64 = 4 << 20;

/// The minimum costs of OWASP's Password Storage Cheat Sheet for one lane, as KiB and passes. It treats them as equal.
const OWASP: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// Computes and verifies password hashes.
///
/// New hashes are Argon2id with the given cost. A stored hash is verified with its own cost.
#[derive(Clone, Debug)]
pub struct Hasher {
    params: Params,
    backend: Argon2Backend,
}

impl Hasher {
    /// A hasher whose new hashes have this cost: memory in KiB, passes, lanes.
    ///
    /// # Errors
    /// [`InvalidCost`] for a combination that Argon2 does not allow, and for one that costs too much.
    pub fn new(memory_kib: u32, iterations: u32, parallelism: u32) -> Result<Self, InvalidCost> {
        let params = Params::new(memory_kib, iterations, parallelism, None)
            .map_err(|source| InvalidCost::NotArgon2(source.to_string()))?;
        if !is_bounded(&params) {
            return Err(InvalidCost::TooHigh { max_iterations: max_iterations(memory_kib) });
        }
        Ok(Self { params, backend: Argon2Backend::Reference })
    }

    /// The same hasher with another backend.
    #[must_use]
    pub fn with_backend(self, backend: Argon2Backend) -> Self {
        Self { backend, ..self }
    }

    /// The cost of new hashes.
    #[must_use]
    pub fn cost(&self) -> HashCost {
        let (m, t, p) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        HashCost(format!("$argon2id$v=19$m={m},t={t},p={p}$"))
    }

    /// Whether new hashes meet one of OWASP's minimum costs. Less memory requires more passes.
    #[must_use]
    pub fn meets_owasp_minimum(&self) -> bool {
        OWASP.iter().any(|(memory_kib, iterations)| {
            self.params.m_cost() >= *memory_kib && self.params.t_cost() >= *iterations
        })
    }

    /// Hashes a password. Slow by design.
    ///
    /// # Errors
    /// [`HashError`] if the memory cannot be allocated.
    pub fn hash(&self, password: &Password, salt: &Salt) -> Result<PasswordHash, HashError> {
        let mut tag = [0; Params::DEFAULT_OUTPUT_LEN];
        let job = Job { algorithm: Algorithm::Argon2id, version: Version::V0x13, params: &self.params };
        self.backend.compute(&job, password.reveal().as_bytes(), &salt.0, &mut tag).ok_or(HashError)?;
        // The backend returns only the tag; the PHC string is put together here.
        let (salt, tag) = (STANDARD_NO_PAD.encode(salt.0), STANDARD_NO_PAD.encode(tag));
        Ok(PasswordHash(format!("{}{salt}${tag}", self.cost().0)))
    }

    /// Verifies a password against a stored hash, with the cost of that hash. Slow by design.
    ///
    /// Returns [`VerifyOutcome::Unreadable`] immediately for text that is not an Argon2 hash, or one that costs too
    /// much.
    pub fn verify(&self, password: &Password, stored: &PasswordHash) -> VerifyOutcome {
        let Some(Argon2Hash { algorithm, version, params, salt, tag: expected }) = Argon2Hash::read(stored)
        else {
            return VerifyOutcome::Unreadable;
        };
        let job = Job { algorithm, version, params: &params };
        // Other programs may have stored longer or shorter tags.
        let mut tag = vec![0; expected.len()];
        match self.backend.compute(&job, password.reveal().as_bytes(), &salt, &mut tag) {
            None => VerifyOutcome::NotComputed,
            // Compared in constant time, so that the time does not reveal how many bytes match.
            Some(()) if verify_slices_are_equal(&tag, expected.as_bytes()).is_ok() => VerifyOutcome::Match,
            Some(()) => VerifyOutcome::Mismatch,
        }
    }
}

/// The parts of a stored hash.
struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: PhcSalt,
    tag: Output,
}

impl Argon2Hash {
    /// `None` for text that is not an Argon2 hash, and for one that costs too much.
    fn read(stored: &PasswordHash) -> Option<Self> {
        let hash = Phc::new(&stored.0).ok()?;
        let (tag, salt) = (hash.hash?, hash.salt?);
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        // By the PHC string format, a hash without a version has version 0x10.
        let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from).ok()?;
        let params = Params::try_from(&hash).ok()?;
        // Rows may come from a database file that someone else wrote.
        is_bounded(&params).then_some(Self { algorithm, version, params, salt, tag })
    }
}

fn is_bounded(params: &Params) -> bool {
    let [memory, _, lanes] = MAX_COST;
    params.m_cost() <= memory
        && params.t_cost() <= max_iterations(params.m_cost())
        && params.p_cost() <= lanes
}

/// Maximum passes of a hash with this much memory.
#[must_use]
pub fn max_iterations(memory_kib: u32) -> u32 {
    let [_, passes, _] = MAX_COST;
    let affordable = MAX_KIB_PASSES / u64::from(memory_kib.max(1));
    u32::try_from(affordable).map_or(passes, |affordable| affordable.min(passes))
}

impl PasswordHash {
    /// Whether a password can match this hash.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        Argon2Hash::read(self).is_some()
    }
}

/// The outcome of verifying a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum VerifyOutcome {
    /// The password is right.
    Match,
    /// The password is wrong.
    Mismatch,
    /// Not known, because the memory could not be allocated.
    NotComputed,
    /// The stored text is not an Argon2 hash, or costs too much: no password matches it.
    Unreadable,
}

/// Why new hashes cannot have a cost.
#[derive(Debug, Error)]
pub enum InvalidCost {
    /// Argon2 does not allow it (RFC 9106 §3.1).
    #[error("Argon2 does not allow this cost: {0}")]
    NotArgon2(String),
    /// A check would take too long or too much memory.
    #[error("a hash of this cost takes too long: use {max_iterations} passes or fewer, or less memory")]
    TooHigh {
        /// Maximum passes with this much memory.
        max_iterations: u32,
    },
}

/// A hash could not be computed.
#[derive(Debug, Error)]
#[error("the password could not be hashed: not enough memory")]
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

    // From the reference implementation. Never replace it by a value computed here.
    #[test]
    fn a_hash_of_the_reference_implementation_verifies() {
        let stored = PasswordHash::stored(
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc".into(),
        );
        assert_eq!(cheap().verify(&Password::typed("password".into()), &stored), VerifyOutcome::Match);
        assert_eq!(cheap().verify(&Password::typed("passwort".into()), &stored), VerifyOutcome::Mismatch);
    }

    #[test]
    fn a_dummy_hash_is_verified_with_its_cost_and_never_matches() {
        let dummy = PasswordHash::dummy(&HashCost("$argon2id$v=19$m=16,t=3,p=1$".into()));
        assert_eq!(cheap().verify(&Password::typed(String::new()), &dummy), VerifyOutcome::Mismatch);
    }

    #[test]
    fn a_hash_has_the_cost_of_its_hasher() {
        let mut rng = StdRng::seed_from_u64(1);
        let hash = cheap().hash(&Password::generate(&mut rng), &Salt::generate(&mut rng)).unwrap();
        assert_eq!(hash.cost(), Some(cheap().cost()));
        assert_eq!(cheap().cost().to_string(), "argon2id v=19 m=8,t=1,p=1");
    }

    #[test]
    fn text_that_is_not_an_argon2_hash_matches_no_password() {
        for text in ["", "x", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ"] {
            let outcome = cheap().verify(&Password::typed("x".into()), &PasswordHash::stored(text.into()));
            assert_eq!(outcome, VerifyOutcome::Unreadable, "{text}");
        }
    }

    #[test]
    fn a_hash_above_the_maximum_cost_is_not_computed() {
        for cost in [
            "m=2097153,t=1,p=1",
            "m=2097152,t=3,p=1",
            "m=1048576,t=5,p=1",
            "m=41944,t=100,p=1",
            "m=8,t=101,p=1",
            "m=520,t=1,p=65",
            "m=4294967295,t=4294967295,p=16777215",
        ] {
            let stored = PasswordHash::dummy(&HashCost(format!("$argon2id$v=19${cost}$")));
            let outcome = cheap().verify(&Password::typed("x".into()), &stored);
            assert_eq!(outcome, VerifyOutcome::Unreadable, "{cost}");
        }
    }

    #[test]
    fn the_highest_costs_that_others_recommend_can_be_verified() {
        let rfc_9106 = ["m=2097152,t=1,p=4", "m=65536,t=3,p=4"];
        let libsodium = ["m=1048576,t=4,p=1", "m=262144,t=3,p=1"];
        for cost in rfc_9106.into_iter().chain(libsodium) {
            assert!(PasswordHash::dummy(&HashCost(format!("$argon2id$v=19${cost}$"))).is_usable(), "{cost}");
        }
    }
}
