//! The keys of a store as data: a snapshot to decide from, and the changes that were decided.

use std::fmt;

use crate::clock::Timestamp;
use crate::key::lifecycle::{Deletable, KeyMetadata, KeyTimeline, RotationTimes};
use crate::key::seal::SALT_LEN;
use crate::key::{InvalidExp, Kid};

/// Counts the changes to the keys of a store. Sign-ins and registrations leave it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyVersion(pub i64);

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sign of life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The version of the keys.
    pub version: KeyVersion,
    /// The store's own time, if it has a clock: many machines then agree on one. A file has none.
    pub now: Option<Timestamp>,
}

/// The one row that says which master key a store is sealed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyRecord {
    /// Counts the master keys that the store has had, from 1.
    pub number: i64,
    /// Salt for deriving a key from a passphrase.
    pub salt: [u8; SALT_LEN],
    /// A sealed constant, which opens only under the right master key.
    pub check_value: Vec<u8>,
}

/// The keys of a store at one moment.
#[derive(Debug)]
pub struct KeySnapshot {
    /// The version that [`Store::apply`](super::Store::apply) compares.
    pub version: KeyVersion,
    /// The store's own time, if it has a clock: many machines then agree on one. SQLite has none.
    pub store_time: Option<Timestamp>,
    /// The master key that the store is sealed under.
    pub master_key: Option<MasterKeyRecord>,
    /// What is recorded about each key, in the order of their numbers. With [`SealedRows::Usable`], only about the keys that
    /// a round of the rotation needs.
    pub keys: Vec<KeyMetadata>,
    /// How many keys have ended that `keys` leaves out.
    pub unloaded: UnloadedKeys,
    /// Rows of `keys` about which nothing is recorded: another program wrote them.
    pub unmanaged: Vec<SealedKey>,
    /// Rows of `keys` whose `exp` is not believed. They are in no other list.
    pub invalid_exp: Vec<InvalidExpKey>,
    /// The rotation policy of the server that started last.
    pub policy: Option<RotationTimes>,
    /// The sealed private keys that [`SealedRows`] asked for.
    pub sealed: Vec<SealedKey>,
    /// External keys: public keys of other issuers, published next to ours.
    pub external: Vec<SealedExternalKey>,
    /// Above every `kid` ever used.
    pub next_kid: Kid,
    /// The newest key that has ever signed, also when its row is gone.
    pub newest_signer: Option<Kid>,
    /// The keys that have signed in open mode.
    pub open_mode_keys: Vec<Kid>,
    /// Whether there are keys whose thumbprints are not recorded.
    pub lacks_thumbprints: bool,
}

/// Numbers of keys that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnloadedKeys {
    /// Expired ones.
    pub expired: usize,
    /// Revoked ones.
    pub revoked: usize,
}

/// A public key that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Its thumbprint (RFC 7638).
    pub thumbprint: String,
    /// Our own key that it is; nothing if that key is gone.
    pub kid: Option<Kid>,
    /// Whether that key is published under its thumbprint.
    pub has_thumbprint_as_kid: bool,
    /// Whether it was revoked, under any `kid`.
    pub is_revoked: bool,
}

/// Maximum number of keys to be deleted in a snapshot of usable keys. As many are deleted in one transaction, which takes a
/// few milliseconds.
pub const MAX_DELETABLE: u32 = 200;

/// How many other keys that have ended are in it: those that are to be deleted next, so that a round knows when. Few, because
/// each start reads them.
pub const MAX_DELETED_NEXT: u32 = 8;

/// Which sealed private keys a snapshot contains. A store may hold thousands that expired; reading them all takes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedRows {
    /// Every row.
    All,
    /// No row.
    None,
    /// The row of one key.
    One(Kid),
    /// The keys that can sign or be published, and the newest expired one.
    ///
    /// The snapshot then has no more keys than a round of the rotation needs: these, the newest ones that have signed or were
    /// revoked, and of those that have ended the oldest: at most [`MAX_DELETABLE`] that are to be deleted now, and
    /// [`MAX_DELETED_NEXT`] others.
    Usable {
        /// The time that decides which keys have expired.
        now: Timestamp,
        /// Which keys that have ended are to be deleted.
        deletable: Deletable,
        /// Keys that are known not to open. They are read again, and none of them is taken for the newest expired one.
        unreadable: Vec<Kid>,
    },
    /// Keys whose thumbprints are not recorded.
    WithoutThumbprint {
        /// How many at most.
        at_most: u32,
    },
}

impl SealedRows {
    /// The rows to read, out of those of these keys.
    #[must_use]
    pub fn select(&self, keys: &[KeyMetadata]) -> Vec<Kid> {
        match self {
            Self::All => keys.iter().map(|key| key.kid).collect(),
            Self::One(kid) => vec![*kid],
            Self::Usable { now, unreadable, .. } => usable(keys, *now, unreadable),
            // Only the store knows which they are.
            Self::None | Self::WithoutThumbprint { .. } => Vec::new(),
        }
    }
}

fn usable(keys: &[KeyMetadata], now: Timestamp, unreadable: &[Kid]) -> Vec<Kid> {
    let readable: Vec<_> = keys.iter().filter(|key| !unreadable.contains(&key.kid)).copied().collect();
    let newest_expired = KeyTimeline::at(&readable, now).newest_expired().map(|key| key.kid);
    // An unreadable key is read each time: only the failed attempt keeps it out of the usable keys.
    let is_usable = |key: &&KeyMetadata| {
        let has_ended = key.expired_at.is_some() || key.revoked_at.is_some();
        !has_ended || Some(key.kid) == newest_expired || unreadable.contains(&key.kid)
    };
    keys.iter().filter(is_usable).map(|key| key.kid).collect()
}

/// A row of `keys`.
#[derive(Clone, Debug)]
pub struct SealedKey {
    /// Its number.
    pub kid: Kid,
    /// When it expires, in whole seconds.
    pub exp: Timestamp,
    /// The private key, sealed if jwksd wrote the row.
    pub bytes: Vec<u8>,
}

/// A row of `keys` whose `exp` is not the time at which a key expires. It is left as it is: not used and not deleted.
#[derive(Clone, Debug)]
pub struct InvalidExpKey {
    /// Its number.
    pub kid: Kid,
    /// What its `exp` is.
    pub exp: InvalidExp,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Whether jwksd made the key or took it over, so that its `exp` was changed since.
    pub is_ours: bool,
}

/// A row of `uploaded_keys`: an external key.
#[derive(Clone, Debug)]
pub struct SealedExternalKey {
    /// Its key ID.
    pub kid: String,
    /// When its publication ends, in whole seconds; without one it is published until it is withdrawn.
    pub exp: Option<Timestamp>,
    /// When it was added.
    pub added_at: Timestamp,
    /// Its JWK, sealed.
    pub sealed: Vec<u8>,
}

/// One change to the keys.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// Start to manage a row that is there already, with new bytes if some are given.
    Adopt {
        /// What is recorded about it from now on.
        key: KeyMetadata,
        /// The bytes that replace those of the row.
        sealed: Option<Vec<u8>>,
    },
    /// Delete the row. Its `kid` is never used again.
    Delete {
        /// Which key.
        kid: Kid,
        /// When.
        at: Timestamp,
    },
    /// Record that the key has expired.
    Expire {
        /// Which key.
        kid: Kid,
        /// When that was noticed.
        at: Timestamp,
    },
    /// Add a row.
    Insert {
        /// What is recorded about it.
        key: KeyMetadata,
        /// Its private key, sealed.
        sealed: Vec<u8>,
    },
    /// Record that the key signs.
    Promote {
        /// Which key.
        kid: Kid,
        /// Since when.
        at: Timestamp,
    },
    /// Add an external key, or replace it.
    Publish(SealedExternalKey),
    /// Record the rotation policy of a server.
    RecordPolicy(RotationTimes),
    /// Record the thumbprint of a key.
    RecordThumbprint {
        /// Which key.
        kid: Kid,
        /// Its thumbprint (RFC 7638), or an empty text if it does not open.
        thumbprint: String,
    },
    /// Replace the bytes and the expiry of a row.
    Reseal {
        /// Which key.
        kid: Kid,
        /// Its new expiry, in whole seconds.
        exp: Timestamp,
        /// Its private key, sealed for a row with this expiry.
        sealed: Vec<u8>,
    },
    /// Record a later time of publication.
    ResetPublishedAt {
        /// Which key.
        kid: Kid,
        /// Since when it counts as published.
        at: Timestamp,
    },
    /// Record that the key was revoked.
    Revoke {
        /// Which key.
        kid: Kid,
        /// When.
        at: Timestamp,
    },
    /// Record which master key the store is sealed under: its first, or the successor of the one it has.
    SetMasterKey(MasterKeyRecord),
    /// Remove an external key.
    Withdraw {
        /// Its key ID.
        kid: String,
    },
}

/// Whether [`Store::apply`](super::Store::apply) wrote the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// All of them are stored.
    Yes,
    /// None is: the keys have another version by now, or the write lock took so long that the time in the plan is stale.
    Conflict,
}
