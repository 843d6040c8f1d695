//! Rows that hold the same key under several `kid`s, as a database of another program may have them.
//!
//! A JWKS has each key once. Under two names, an operator who revokes one of them would believe that the key is gone.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::key::lifecycle::KeyMetadata;
use crate::key::{Kid, SigningKey};

/// The `kid`s to leave out of these published keys. The signer stays, otherwise the one that lives longest.
pub(super) fn duplicates(published: &[(&KeyMetadata, &SigningKey)], signer: Option<Kid>) -> Vec<Kid> {
    let mut by_preference = published.to_vec();
    by_preference.sort_by_key(|(key, _)| Reverse((Some(key.kid) == signer, key.exp, key.kid)));
    let mut kept = HashSet::new();
    let duplicates = by_preference.into_iter().filter(|(_, key)| !kept.insert(key.jwk().key()));
    duplicates.map(|(key, _)| key.kid).collect()
}
