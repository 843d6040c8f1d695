//! Passwords that were verified a while ago and are known again without Argon2.
//!
//! What is kept is a MAC over the stored hash and the password, under a key that lives and dies with the process. Only
//! generated passwords are taken: who could guess one of 122 random bits needs no list of MACs to do so.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use rand::CryptoRng;
use uuid::{Uuid, Variant, Version};
use zeroize::Zeroizing;

use super::{Password, PasswordHash};

/// The most that are known at once: 8 MiB of them, with the room that a table leaves.
const MOST: usize = 1 << 16;

/// How often those that are over are forgotten.
const SWEEP: Duration = Duration::from_mins(1);

/// Passwords that match their hashes, for a while after Argon2 has said so.
pub struct CredentialCache {
    ttl: Duration,
    most: usize,
    key: hmac::Key,
    tags: Mutex<Tags>,
}

/// Until when each is known, by a clock that nobody can set.
#[derive(Default)]
struct Tags {
    until: HashMap<[u8; 32], Duration>,
    swept_at: Duration,
}

impl CredentialCache {
    /// Knows nothing yet, and nothing for longer than `ttl`; with zero, nothing ever.
    pub fn new(ttl: Duration, rng: &mut impl CryptoRng) -> Self {
        Self::bounded(ttl, MOST, rng)
    }

    fn bounded(ttl: Duration, most: usize, rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        Self { ttl, most, key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), tags: Mutex::default() }
    }

    /// Whether this password has lately been verified against just this hash. `now` is time on a steady clock.
    pub fn contains(&self, password: &Password, hash: &PasswordHash, now: Duration) -> bool {
        let Some(tag) = self.tag(password, hash) else {
            return false;
        };
        self.tags().until.get(&tag).is_some_and(|until| *until > now)
    }

    /// Remembers that this password was verified against this hash. Where there is no room, it is not remembered.
    pub fn insert(&self, password: &Password, hash: &PasswordHash, now: Duration) {
        let Some(tag) = self.tag(password, hash) else {
            return;
        };
        let mut tags = self.tags();
        if now.saturating_sub(tags.swept_at) >= SWEEP {
            tags.swept_at = now;
            tags.until.retain(|_, until| *until > now);
            let left = tags.until.len();
            tags.until.shrink_to(2 * left);
        }
        if tags.until.len() < self.most || tags.until.contains_key(&tag) {
            tags.until.insert(tag, now.saturating_add(self.ttl));
        }
    }

    /// Nothing for a password that somebody may have chosen.
    fn tag(&self, password: &Password, hash: &PasswordHash) -> Option<[u8; 32]> {
        if self.ttl.is_zero() || !is_generated(password.reveal()) {
            return None;
        }
        let mut mac = hmac::Context::with_key(&self.key);
        // The password has one length, so that no two pairs run together into the same text.
        mac.update(password.reveal().as_bytes());
        mac.update(hash.as_str().as_bytes());
        mac.sign().as_ref().try_into().ok()
    }

    fn tags(&self) -> std::sync::MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialCache")
    }
}

/// Whether it has the one form that [`Password::generate`] gives: a `UUIDv4`, hyphenated, in lower case.
fn is_generated(password: &str) -> bool {
    Uuid::try_parse(password).is_ok_and(|uuid| {
        let mut form = Zeroizing::new([0; 36]);
        uuid.get_version() == Some(Version::Random)
            && uuid.get_variant() == Variant::RFC4122
            && *uuid.hyphenated().encode_lower(form.as_mut()) == *password
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const TTL: Duration = Duration::from_mins(5);
    const NOW: Duration = Duration::from_hours(1);

    fn hash(text: &str) -> PasswordHash {
        PasswordHash::stored(text.to_owned())
    }

    #[test]
    fn a_password_is_known_with_its_hash_until_its_time_is_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let (known, password) = (CredentialCache::new(TTL, &mut rng), Password::generate(&mut rng));
        assert!(!known.contains(&password, &hash("a"), NOW));
        known.insert(&password, &hash("a"), NOW);
        assert!(known.contains(&password, &hash("a"), NOW));
        assert!(!known.contains(&password, &hash("b"), NOW));
        assert!(!known.contains(&Password::generate(&mut rng), &hash("a"), NOW));
        assert!(known.contains(&password, &hash("a"), NOW + TTL - Duration::from_nanos(1)));
        assert!(!known.contains(&password, &hash("a"), NOW + TTL));
    }

    #[test]
    fn a_chosen_password_is_never_known() {
        let known = CredentialCache::new(TTL, &mut StdRng::seed_from_u64(1));
        for text in [
            "hunter2",
            "",
            "c56a4180-65aa-42ec-a945-5fd21dec0538 ",
            "C56A4180-65AA-42EC-A945-5FD21DEC0538",
            "c56a418065aa42eca9455fd21dec0538",
            "c56a4180-65aa-12ec-a945-5fd21dec0538",
            "c56a4180-65aa-42ec-0945-5fd21dec0538",
            "{c56a4180-65aa-42ec-a945-5fd21dec0538}",
        ] {
            let password = Password::typed(text.to_owned());
            known.insert(&password, &hash("a"), NOW);
            assert!(!known.contains(&password, &hash("a"), NOW), "{text:?}");
        }
        let generated = Password::typed("c56a4180-65aa-42ec-a945-5fd21dec0538".to_owned());
        known.insert(&generated, &hash("a"), NOW);
        assert!(known.contains(&generated, &hash("a"), NOW));
    }

    #[test]
    fn with_no_time_to_live_nothing_is_known() {
        let mut rng = StdRng::seed_from_u64(1);
        let known = CredentialCache::new(Duration::ZERO, &mut rng);
        let password = Password::generate(&mut rng);
        known.insert(&password, &hash("a"), NOW);
        assert!(!known.contains(&password, &hash("a"), NOW));
        assert!(known.tags().until.is_empty());
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for_and_those_that_are_over_make_some() {
        let mut rng = StdRng::seed_from_u64(1);
        let known = CredentialCache::bounded(TTL, 2, &mut rng);
        let passwords: Vec<_> = (0..3).map(|_| Password::generate(&mut rng)).collect();
        let recognised =
            |now| passwords.iter().map(|p| known.contains(p, &hash("a"), now)).collect::<Vec<_>>();
        for password in &passwords {
            known.insert(password, &hash("a"), NOW);
        }
        assert_eq!(recognised(NOW), [true, true, false]);
        known.insert(&passwords[2], &hash("a"), NOW + TTL);
        assert_eq!(recognised(NOW + TTL), [false, false, true]);
        assert_eq!(known.tags().until.len(), 1);
    }
}
