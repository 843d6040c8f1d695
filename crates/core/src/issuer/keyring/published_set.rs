//! What a store publishes, without a keyring on it.

use bytes::Bytes;

use super::master_key::MasterKey;
use super::snapshot::{Ended, KeyringSnapshot};
use crate::clock::Timestamp;
use crate::key::Kid;
use crate::store::KeySnapshot;

/// The JWKS of a store, and the keys that its master key does not open.
#[derive(Debug, PartialEq, Eq)]
pub struct PublishedSet {
    jwks: Option<Bytes>,
    unreadable: Vec<Kid>,
}

/// Opens all keys of a store, and tells what it publishes at this time.
#[must_use]
pub fn published_set(master_key: &MasterKey, stored: KeySnapshot, now: Timestamp) -> PublishedSet {
    let snapshot = KeyringSnapshot::open(stored, &master_key.sealer, now, Ended::default(), Vec::new());
    PublishedSet {
        jwks: snapshot.publication(now).map(|publication| publication.body),
        unreadable: snapshot.unreadable().iter().map(|row| row.kid).collect(),
    }
}
