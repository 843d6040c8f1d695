//! Two implementations of Argon2 (RFC 9106) behind one interface.
//!
//! The `argon2` crate is the reference: widely used and portable. The `argon2-rust` crate takes half the time on
//! processors with wide registers. It has no independent audit, so it must pass a self-test in this process first.

use std::cell::RefCell;
use std::fmt::Write as _;

use argon2::{Algorithm, Argon2, Params, Version};
use argon2_rust::params::{Memory, TagLen};
use rand::{CryptoRng, RngExt as _};

/// The parameters of one computation.
#[derive(Clone, Debug)]
pub(super) struct Job<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: &'a Params,
}

/// The implementation to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Argon2Backend {
    /// `argon2-rust`.
    Fast,
    /// `argon2`.
    #[default]
    Reference,
}

/// Tags for `password` and `somesalt` with Argon2id, 256 KiB, 2 passes, and 1 or 2 lanes. From `test.c` of the reference
/// implementation in C.
const KNOWN_ANSWERS: [(u32, &str); 2] = [
    (1, "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"),
    (2, "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"),
];

/// Number of random comparisons in the self-test. They are small, so that it takes only a few milliseconds.
const COMPARISONS: usize = 4;

/// From this many KiB on, `argon2-rust` maps its memory in huge pages, as it does for real hashes. One comparison covers
/// that path.
const MAPPED_KIB: u32 = 2048;

impl Argon2Backend {
    /// Returns the fast backend if it passes the self-test, otherwise the reference.
    pub fn select_verified(rng: &mut impl CryptoRng) -> Self {
        let is_correct = Self::Fast.passes_known_answers()
            && (0..COMPARISONS).all(|_| Self::agree(rng, 0))
            && Self::agree(rng, MAPPED_KIB);
        // This thread may never hash again, so it gives its memory back.
        MEMORY.take();
        if is_correct { Self::Fast } else { Self::Reference }
    }

    fn passes_known_answers(self) -> bool {
        KNOWN_ANSWERS.iter().all(|(lanes, expected)| {
            let Ok(params) = Params::new(256, 2, *lanes, None) else {
                return false;
            };
            let job = Job { algorithm: Algorithm::Argon2id, version: Version::V0x13, params: &params };
            let mut tag = [0; 32];
            self.compute(&job, b"password", b"somesalt", &mut tag).is_some() && hex(&tag) == *expected
        })
    }

    /// Whether both backends compute the same tag for random input.
    fn agree(rng: &mut impl CryptoRng, extra_kib: u32) -> bool {
        let (lanes, passes) = (rng.random_range(1..=2), rng.random_range(1..=2));
        // RFC 9106 §3.1: at least 8 KiB per lane.
        let Ok(params) = Params::new(extra_kib + 8 * lanes + rng.random_range(0..64), passes, lanes, None)
        else {
            return false;
        };
        let algorithm = match rng.random_range(0..4) {
            0 => Algorithm::Argon2d,
            1 => Algorithm::Argon2i,
            // Half of the cases, because new hashes use it.
            _ => Algorithm::Argon2id,
        };
        let (mut password, mut salt) = ([0; 64], [0; 32]);
        rng.fill_bytes(&mut password);
        rng.fill_bytes(&mut salt);
        let password = password.get(..rng.random_range(0..=64)).unwrap_or_default();
        let salt = salt.get(..rng.random_range(8..=32)).unwrap_or_default();
        let job = Job { algorithm, version: Version::V0x13, params: &params };
        let (mut fast, mut reference) = ([0; 32], [0; 32]);
        Self::Fast.compute(&job, password, salt, &mut fast).is_some()
            && Self::Reference.compute(&job, password, salt, &mut reference).is_some()
            && fast == reference
    }

    /// Whether the self-test covers this job: version 0x13 without key id and associated data.
    fn is_verified_for(job: &Job<'_>) -> bool {
        job.version == Version::V0x13 && job.params.keyid().is_empty() && job.params.data().is_empty()
    }

    /// Computes a tag. `None` if Argon2 does not allow the parameters, or the memory cannot be allocated.
    pub(super) fn compute(self, job: &Job<'_>, password: &[u8], salt: &[u8], tag: &mut [u8]) -> Option<()> {
        match self {
            Self::Fast if Self::is_verified_for(job) => fast(job, password, salt, tag),
            _ => Argon2::new(job.algorithm, job.version, job.params.clone())
                .hash_password_into(password, salt, tag)
                .ok(),
        }
    }
}

fn fast(job: &Job<'_>, password: &[u8], salt: &[u8], tag: &mut [u8]) -> Option<()> {
    let algorithm = match job.algorithm {
        Algorithm::Argon2d => argon2_rust::Algorithm::Argon2d,
        Algorithm::Argon2i => argon2_rust::Algorithm::Argon2i,
        Algorithm::Argon2id => argon2_rust::Algorithm::Argon2id,
    };
    let version = match job.version {
        Version::V0x10 => argon2_rust::Version::V0x10,
        Version::V0x13 => argon2_rust::Version::V0x13,
    };
    let params = argon2_rust::Params::builder()
        .memory(Memory::kib(job.params.m_cost().into()))
        .passes(job.params.t_cost())
        .lanes(job.params.p_cost())
        .tag_len(TagLen::bytes(u64::try_from(tag.len()).ok()?))
        .build()
        .ok()?;
    let argon2 = argon2_rust::Argon2::new(algorithm, version, params);
    MEMORY.with_borrow_mut(|memory| {
        let hasher = memory.get_or_insert_with(|| argon2.hasher());
        let needed = usize::try_from(job.params.m_cost()).unwrap_or(usize::MAX);
        if hasher.reserved_blocks() / 2 > needed {
            // One expensive hash must not keep its memory for all the cheap ones that follow.
            hasher.clear();
        }
        hasher.set_argon2(argon2);
        hasher.hash_into(password, salt, tag).ok()
    })
}

thread_local! {
    /// The memory for this thread's computations: mapped once, in huge pages if possible, and zeroised after each use.
    static MEMORY: RefCell<Option<argon2_rust::Hasher>> = const { RefCell::new(None) };
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn both_backends_pass_the_known_answer_tests() {
        assert!(Argon2Backend::Reference.passes_known_answers());
        assert!(Argon2Backend::Fast.passes_known_answers());
        assert_eq!(Argon2Backend::select_verified(&mut StdRng::seed_from_u64(1)), Argon2Backend::Fast);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn both_backends_compute_the_same_tag(
            algorithm in prop::sample::select(vec![Algorithm::Argon2d, Algorithm::Argon2i, Algorithm::Argon2id]),
            version in prop::sample::select(vec![Version::V0x10, Version::V0x13]),
            lanes in 1_u32..5,
            extra in 0_u32..300,
            passes in 1_u32..5,
            password in prop::collection::vec(any::<u8>(), 0..200),
            salt in prop::collection::vec(any::<u8>(), 8..65),
            length in 4_usize..100,
        ) {
            let params = Params::new(8 * lanes + extra, passes, lanes, Some(length)).unwrap();
            let job = Job { algorithm, version, params: &params };
            let (mut fast, mut reference) = (vec![0; length], vec![0; length]);
            prop_assert!(Argon2Backend::Fast.compute(&job, &password, &salt, &mut fast).is_some());
            prop_assert!(Argon2Backend::Reference.compute(&job, &password, &salt, &mut reference).is_some());
            prop_assert_eq!(fast, reference);
        }
    }
}
