//! Two implementations of Argon2 (RFC 9106) behind one door.
//!
//! The `argon2` crate is the reference: widely used, for every platform. The `argon2-rust` crate takes half the time where
//! the processor has wide registers, but nobody independent has audited it: it does the work only after it has proved
//! itself in this process.

use std::cell::RefCell;
use std::fmt::Write as _;

use argon2::{Algorithm, Argon2, Params, Version};
use argon2_rust::params::{Memory, TagLen};
use rand::{CryptoRng, RngExt as _};

/// What an Argon2 computation is told beside the password and the salt.
#[derive(Clone, Debug)]
pub(super) struct Task<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: &'a Params,
}

/// Which implementation does the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Argon2Backend {
    /// `argon2-rust`.
    Fast,
    /// `argon2`.
    #[default]
    Reference,
}

/// Two tags that the reference implementation in C gives for `password` and `somesalt`, Argon2id, 256 KiB, 2 passes, 1
/// and 2 lanes (its `test.c`).
const KNOWN_ANSWERS: [(u32, &str); 2] = [
    (1, "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"),
    (2, "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"),
];

/// Random comparisons of one proof; small ones, so that it takes a few milliseconds.
const COMPARISONS: usize = 4;

/// From this many KiB on, the fast one works in memory that is mapped in huge pages, as for real hashes: one comparison
/// goes there.
const MAPPED: u32 = 2048;

impl Argon2Backend {
    /// The fast one, if it gives the right answers here and now; otherwise the reference.
    pub fn select_verified(rng: &mut impl CryptoRng) -> Self {
        let is_right = Self::Fast.knows_the_answers()
            && (0..COMPARISONS).all(|_| Self::agree(rng, 0))
            && Self::agree(rng, MAPPED);
        // This thread may never hash again.
        MEMORY.take();
        if is_right { Self::Fast } else { Self::Reference }
    }

    fn knows_the_answers(self) -> bool {
        KNOWN_ANSWERS.iter().all(|(lanes, expected)| {
            let Ok(params) = Params::new(256, 2, *lanes, None) else {
                return false;
            };
            let task = Task { algorithm: Algorithm::Argon2id, version: Version::V0x13, params: &params };
            let mut tag = [0; 32];
            self.fill(&task, b"password", b"somesalt", &mut tag).is_some() && hex(&tag) == *expected
        })
    }

    /// Whether both give the same for something random.
    fn agree(rng: &mut impl CryptoRng, extra_kib: u32) -> bool {
        let (lanes, passes) = (rng.random_range(1..=2), rng.random_range(1..=2));
        let Ok(params) = Params::new(extra_kib + 8 * lanes + rng.random_range(0..64), passes, lanes, None)
        else {
            return false;
        };
        let algorithm = match rng.random_range(0..4) {
            0 => Algorithm::Argon2d,
            1 => Algorithm::Argon2i,
            _ => Algorithm::Argon2id,
        };
        let (mut password, mut salt) = ([0; 64], [0; 32]);
        rng.fill_bytes(&mut password);
        rng.fill_bytes(&mut salt);
        let password = password.get(..rng.random_range(0..=64)).unwrap_or_default();
        let salt = salt.get(..rng.random_range(8..=32)).unwrap_or_default();
        let task = Task { algorithm, version: Version::V0x13, params: &params };
        let (mut fast, mut reference) = ([0; 32], [0; 32]);
        Self::Fast.fill(&task, password, salt, &mut fast).is_some()
            && Self::Reference.fill(&task, password, salt, &mut reference).is_some()
            && fast == reference
    }

    /// What the proof covers: the version of today, and no secret or associated data.
    fn is_proven_for(task: &Task<'_>) -> bool {
        task.version == Version::V0x13 && task.params.keyid().is_empty() && task.params.data().is_empty()
    }

    /// Computes a tag; nothing if Argon2 does not allow this, or the memory cannot be had.
    pub(super) fn fill(self, task: &Task<'_>, password: &[u8], salt: &[u8], tag: &mut [u8]) -> Option<()> {
        match self {
            Self::Fast if Self::is_proven_for(task) => fast(task, password, salt, tag),
            _ => Argon2::new(task.algorithm, task.version, task.params.clone())
                .hash_password_into(password, salt, tag)
                .ok(),
        }
    }
}

fn fast(task: &Task<'_>, password: &[u8], salt: &[u8], tag: &mut [u8]) -> Option<()> {
    let algorithm = match task.algorithm {
        Algorithm::Argon2d => argon2_rust::Algorithm::Argon2d,
        Algorithm::Argon2i => argon2_rust::Algorithm::Argon2i,
        Algorithm::Argon2id => argon2_rust::Algorithm::Argon2id,
    };
    let version = match task.version {
        Version::V0x10 => argon2_rust::Version::V0x10,
        Version::V0x13 => argon2_rust::Version::V0x13,
    };
    let params = argon2_rust::Params::builder()
        .memory(Memory::kib(task.params.m_cost().into()))
        .passes(task.params.t_cost())
        .lanes(task.params.p_cost())
        .tag_len(TagLen::bytes(u64::try_from(tag.len()).ok()?))
        .build()
        .ok()?;
    let argon2 = argon2_rust::Argon2::new(algorithm, version, params);
    MEMORY.with_borrow_mut(|memory| {
        let hasher = memory.get_or_insert_with(|| argon2.hasher());
        let needed = usize::try_from(task.params.m_cost()).unwrap_or(usize::MAX);
        if hasher.reserved_blocks() / 2 > needed {
            // One dear hash must not hold its memory through all the cheap ones that follow.
            hasher.clear();
        }
        hasher.set_argon2(argon2);
        hasher.hash_into(password, salt, tag).ok()
    })
}

thread_local! {
    /// The memory of this thread's computations: mapped once, in huge pages where there are some, wiped after each, and
    /// given back when the thread ends.
    static MEMORY: RefCell<Option<argon2_rust::Hasher>> = const { RefCell::new(None) };
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String does not fail.
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
    fn both_know_the_answers_of_the_reference_implementation() {
        assert!(Argon2Backend::Reference.knows_the_answers());
        assert!(Argon2Backend::Fast.knows_the_answers());
        assert_eq!(Argon2Backend::select_verified(&mut StdRng::seed_from_u64(1)), Argon2Backend::Fast);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn both_give_the_same_whatever_they_are_told(
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
            let task = Task { algorithm, version, params: &params };
            let (mut fast, mut reference) = (vec![0; length], vec![0; length]);
            prop_assert!(Argon2Backend::Fast.fill(&task, &password, &salt, &mut fast).is_some());
            prop_assert!(Argon2Backend::Reference.fill(&task, &password, &salt, &mut reference).is_some());
            prop_assert_eq!(fast, reference);
        }
    }
}
