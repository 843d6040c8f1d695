//! A cache of recently verified passwords, which saves running Argon2 again.
//!
//! An entry is a MAC of the stored hash and the password, under a random key of this process. Only generated passwords
//! are cached: with 122 random bits, the MACs do not help to guess them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use rand::CryptoRng;
use uuid::{Uuid, Variant, Version};
use zeroize::Zeroizing;

use super::cleartext::Password;
use super::hash::PasswordHash;

/// Maximum number of entries (about 8 MiB including spare table slots).
const MAX_ENTRIES: usize = 1 << 16;

/// Interval between removals of expired entries.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Remembers for a limited time that a password matches a hash.
pub struct CredentialCache {
    ttl: Duration,
    max_entries: usize,
    key: hmac::Key,
    tags: Mutex<Tags>,
}

/// The expiry of each entry, on the monotonic clock.
#[derive(Default)]
struct Tags {
    expiries: HashMap<[u8; 32], Duration>,
    swept_at: Duration,
}

impl CredentialCache {
    /// An empty cache whose entries expire after `ttl`. Zero disables the cache.
    pub fn new(ttl: Duration, rng: &mut impl CryptoRng) -> Self {
        Self::bounded(ttl, MAX_ENTRIES, rng)
    }

    fn bounded(ttl: Duration, max_entries: usize, rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        Self {
            ttl,
            max_entries,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            tags: Mutex::default(),
        }
    }

    /// Whether this password was recently verified against this hash. `now` is monotonic time.
    pub fn contains(&self, password: &Password, hash: &PasswordHash, now: Duration) -> bool {
        let Some(tag) = self.tag(password, hash) else {
            return false;
        };
        // The time of this lookup reveals nothing, because the tag depends on a random key.
        self.tags().expiries.get(&tag).is_some_and(|until| *until > now)
    }

    /// Records that this password was verified against this hash. Does nothing if the cache is full.
    pub fn insert(&self, password: &Password, hash: &PasswordHash, now: Duration) {
        let Some(tag) = self.tag(password, hash) else {
            return;
        };
        let mut tags = self.tags();
        // Swept here, so that the cache needs no background task.
        if now.saturating_sub(tags.swept_at) >= SWEEP_INTERVAL {
            tags.swept_at = now;
            tags.expiries.retain(|_, until| *until > now);
            let left = tags.expiries.len();
            // Gives memory back after a burst of sign-ins.
            // Not to the minimum, so that the table does not grow again immediately.
            tags.expiries.shrink_to(2 * left);
        }
        // A full cache evicts nothing: a client with many accounts could push out all others.
        if tags.expiries.len() < self.max_entries || tags.expiries.contains_key(&tag) {
            tags.expiries.insert(tag, now.saturating_add(self.ttl));
        }
    }

    /// The MAC; `None` for a password that a user may have chosen.
    fn tag(&self, password: &Password, hash: &PasswordHash) -> Option<[u8; 32]> {
        if self.ttl.is_zero() || !is_generated(password.reveal()) {
            return None;
        }
        let mut mac = hmac::Context::with_key(&self.key);
        // Generated passwords have a fixed length, so two pairs cannot concatenate to the same text.
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

/// Whether the password has the form of [`Password::generate`]: a hyphenated `UUIDv4` in lower case.
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
    fn an_entry_is_found_with_its_hash_until_it_expires() {
        let mut rng = StdRng::seed_from_u64(1);
        let (cache, password) = (CredentialCache::new(TTL, &mut rng), Password::generate(&mut rng));
        assert!(!cache.contains(&password, &hash("a"), NOW));
        cache.insert(&password, &hash("a"), NOW);
        assert!(cache.contains(&password, &hash("a"), NOW));
        assert!(!cache.contains(&password, &hash("b"), NOW));
        assert!(!cache.contains(&Password::generate(&mut rng), &hash("a"), NOW));
        assert!(cache.contains(&password, &hash("a"), NOW + TTL - Duration::from_nanos(1)));
        assert!(!cache.contains(&password, &hash("a"), NOW + TTL));
    }

    #[test]
    fn chosen_passwords_are_never_cached() {
        let cache = CredentialCache::new(TTL, &mut StdRng::seed_from_u64(1));
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
            cache.insert(&password, &hash("a"), NOW);
            assert!(!cache.contains(&password, &hash("a"), NOW), "{text:?}");
        }
        let generated = Password::typed("c56a4180-65aa-42ec-a945-5fd21dec0538".to_owned());
        cache.insert(&generated, &hash("a"), NOW);
        assert!(cache.contains(&generated, &hash("a"), NOW));
    }

    #[test]
    fn a_lifetime_of_zero_disables_the_cache() {
        let mut rng = StdRng::seed_from_u64(1);
        let cache = CredentialCache::new(Duration::ZERO, &mut rng);
        let password = Password::generate(&mut rng);
        cache.insert(&password, &hash("a"), NOW);
        assert!(!cache.contains(&password, &hash("a"), NOW));
        assert!(cache.tags().expiries.is_empty());
    }

    #[test]
    fn a_full_cache_takes_new_entries_only_after_others_expired() {
        let mut rng = StdRng::seed_from_u64(1);
        let cache = CredentialCache::bounded(TTL, 2, &mut rng);
        let passwords: Vec<_> = (0..3).map(|_| Password::generate(&mut rng)).collect();
        let cached = |now| passwords.iter().map(|p| cache.contains(p, &hash("a"), now)).collect::<Vec<_>>();
        for password in &passwords {
            cache.insert(password, &hash("a"), NOW);
        }
        assert_eq!(cached(NOW), [true, true, false]);
        cache.insert(&passwords[2], &hash("a"), NOW + TTL);
        assert_eq!(cached(NOW + TTL), [false, false, true]);
        assert_eq!(cache.tags().expiries.len(), 1);
    }
}
