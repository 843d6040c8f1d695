//! Rows that hold the same key under several `kid`s, as a database of another program may have them.
//!
//! A JWKS has each key once. Under two names, an operator who revokes one of them would believe that the key is gone.

use std::cmp::Reverse;

use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::key::{Kid, SigningKey};

/// The `kid`s to leave out of these published keys. The signer stays, otherwise the one that lives longest.
pub(super) fn duplicates(published: &[(&KeyMetadata, &SigningKey)], signer: Option<Kid>) -> Vec<Kid> {
    let mut by_preference = published.to_vec();
    by_preference.sort_by_key(|(key, _)| Reverse((Some(key.kid) == signer, key.exp, key.kid)));
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for (metadata, key) in by_preference {
        let key = key.jwk().key();
        if kept.contains(&key) {
            left_out.push(metadata.kid);
        } else {
            kept.push(key);
        }
    }
    left_out
}
