//! What a store has lost of the keys in memory: a failover can undo changes that were confirmed.

use super::snapshot::KeyringSnapshot;
use crate::clock::Timestamp;
use crate::key::Kid;
use crate::store::{KeyChange, KeySnapshot};

/// The changes that put it back.
#[derive(Default)]
pub(super) struct Lost {
    keys: Vec<Kid>,
    ends: Vec<Kid>,
    changes: Vec<KeyChange>,
}

impl KeyringSnapshot {
    /// What `stored` lacks of this snapshot: published keys, revocations and expiries.
    ///
    /// A missing key is lost, and not deleted, if the store does not even know that its number was given out.
    pub(super) fn lost_by(&self, stored: &KeySnapshot, now: Timestamp) -> Lost {
        let mut lost = Lost::default();
        for key in self.keys() {
            match stored.keys.iter().find(|stored| stored.kid == key.kid) {
                None if key.kid >= stored.next_kid => {
                    lost.changes.extend(self.insertion(key.kid, now).into_iter().flatten());
                }
                None => {}
                Some(stored) => {
                    let revoked = key.revoked_at.filter(|_| stored.revoked_at.is_none());
                    let expired = key.expired_at.filter(|_| stored.expired_at.is_none());
                    lost.changes.extend(revoked.map(|at| KeyChange::Revoke { kid: key.kid, at }));
                    lost.changes.extend(expired.map(|at| KeyChange::Expire { kid: key.kid, at }));
                }
            }
        }
        for change in &lost.changes {
            match change {
                KeyChange::Insert { key, .. } => lost.keys.push(key.kid),
                KeyChange::Revoke { kid, .. } | KeyChange::Expire { kid, .. } => lost.ends.push(*kid),
                _ => {}
            }
        }
        lost
    }
}

impl Lost {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn changes(&self) -> Vec<KeyChange> {
        self.changes.clone()
    }

    /// Names what was put back.
    pub(super) fn log(&self) {
        for kid in &self.keys {
            tracing::error!(%kid, "key {kid} was lost by the store, and is put back from memory: {WHY}");
        }
        for kid in &self.ends {
            tracing::error!(%kid, "the end of key {kid} was lost by the store, and is recorded again: {WHY}");
        }
    }
}

const WHY: &str = "the store no longer has changes that it had confirmed, as after a failover without synchronous replication; \
                   look for accounts and sign-ins that are missing as well";
