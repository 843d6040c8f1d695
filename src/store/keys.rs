//! The keys of a store at one moment, and changes to them.

use crate::domain::clock::Timestamp;
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::key::seal::SALT_LEN;

/// The one row that says which master key a store is sealed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyRecord {
    /// Which master key of this store it is: the first, the second, …
    pub number: i64,
    /// What a passphrase is stretched with.
    pub salt: [u8; SALT_LEN],
    /// A sealed constant.
    pub check_value: Vec<u8>,
}

/// The keys of a store at one moment.
#[derive(Debug)]
pub struct KeySnapshot {
    /// How many changes led here.
    pub changes: i64,
    /// The master key the store is sealed under.
    pub master_key: Option<MasterKeyRecord>,
    /// The keys whose life is known.
    pub lives: Vec<KeyMetadata>,
    /// Rows of `keys` whose life is not known: another program wrote them.
    pub unmanaged: Vec<SealedKey>,
    /// The rows that were selected.
    pub sealed: Vec<SealedKey>,
    /// Keys of others.
    pub uploaded: Vec<UploadedKey>,
    /// Above every `kid` ever used.
    pub next_kid: Kid,
    /// The newest key that has ever signed, though it may be gone.
    pub newest_signer: Option<Kid>,
}

/// A row of `keys`.
#[derive(Clone, Debug)]
pub struct SealedKey {
    /// Its number.
    pub kid: Kid,
    /// Its expiry; whole seconds.
    pub exp: Timestamp,
    /// Its bytes, sealed if we wrote them.
    pub bytes: Vec<u8>,
}

/// A row of `uploaded_keys`.
#[derive(Clone, Debug)]
pub struct UploadedKey {
    /// What tokens call it.
    pub kid: String,
    /// Until when it is published; whole seconds.
    pub exp: Option<Timestamp>,
    /// When it came.
    pub uploaded_at: Timestamp,
    /// Its JWK, sealed.
    pub sealed: Vec<u8>,
}

/// One change to the keys.
#[derive(Debug)]
pub enum KeyChange {
    /// Begin the life of a row that is there already, sealed anew if bytes are given.
    Adopt {
        /// What is known of it.
        life: KeyMetadata,
        /// What replaces its bytes.
        sealed: Option<Vec<u8>>,
    },
    /// Remove the row for good; its `kid` is never used again.
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
        /// Its life.
        life: KeyMetadata,
        /// Its bytes.
        sealed: Vec<u8>,
    },
    /// Record that the key signs.
    Promote {
        /// Which key.
        kid: Kid,
        /// Since when.
        at: Timestamp,
    },
    /// Record that the key counts as published from this time on.
    ResetPublishedAt {
        /// Which key.
        kid: Kid,
        /// Since when.
        at: Timestamp,
    },
    /// Replace the bytes and the expiry of a row.
    Reseal {
        /// Which key.
        kid: Kid,
        /// Its expiry from now on; whole seconds.
        exp: Timestamp,
        /// Its bytes, sealed into the place that has this expiry.
        sealed: Vec<u8>,
    },
    /// Record that the key was revoked.
    Revoke {
        /// Which key.
        kid: Kid,
        /// When.
        at: Timestamp,
    },
    /// Add a key of others, or replace it.
    Publish(UploadedKey),
    /// Remove a key of others.
    Withdraw {
        /// What tokens call it.
        kid: String,
    },
}
