//! Why keys were not changed as an operator asked.

use thiserror::Error;

use crate::key::Kid;
use crate::key::external_key::{EXTERNAL_KEYS_BYTES, EXTERNAL_KEYS_MAX};
use crate::key::lifecycle::{MAX_PUBLISHED, Phase};
use crate::key::seal::SealError;
use jwksd_jose::algorithm::KeyType;

/// Why an operator's command cannot be carried out on these keys.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyCommandError {
    /// The key could not be sealed.
    #[error("key {0} cannot be sealed")]
    CannotSeal(Kid),
    /// The key has expired or was revoked.
    #[error("key {0} has already {end}", end = match .1 { Phase::Revoked => "been revoked", _ => "expired" })]
    HasEnded(Kid, Phase),
    /// The store publishes this key already, as an external one.
    #[error(
        "the store publishes this key already, as the external key {0:?}: withdraw that one first, with `jwksd keys withdraw`"
    )]
    IsExternal(String),
    /// The store has this key already.
    #[error("the store already has this key, as key {kid}{end}", end = if *.is_revoked { ", which was revoked" } else { "" })]
    IsHere {
        /// Its key ID.
        kid: Kid,
        /// Whether it was revoked.
        is_revoked: bool,
    },
    /// An external key has the `kid` under which the key would be published.
    #[error("an external key has the kid {0:?}: withdraw that one first, with `jwksd keys withdraw`")]
    KidTaken(String),
    /// There is a next key already.
    #[error(
        "key {0} is already the next key: `keys list` shows when it starts to sign, `keys rotate --now` lets it sign now"
    )]
    NextExists(Kid),
    /// jwksd has no algorithm for keys of this type.
    #[error("jwksd does not sign with {0} keys: use RSA, EC P-256, EC P-384 or Ed25519")]
    NoAlgorithm(KeyType),
    /// The numbers of keys have come to their end.
    #[error(
        "the kid {0} is too close to the end of its range to create further keys: start with a new store"
    )]
    NoKidLeft(Kid),
    /// The JWKS would have too many keys.
    #[error("{MAX_PUBLISHED} keys are published, which is the maximum: revoke or expire some first")]
    TooMany,
    /// There is no such key, or it does not open.
    #[error("there is no usable key {0}")]
    Unknown(Kid),
    /// No key is published under this `kid`.
    #[error("there is no key {0:?}: use its number or its published kid, as in `jwksd keys list`")]
    UnknownName(String),
    /// The key was revoked, and its row is gone.
    #[error("this key was revoked in this store, so it is never used again: generate another one")]
    WasRevoked,
}

/// Why an external key was not published, or not withdrawn.
#[derive(Debug, Error)]
pub enum ExternalKeyError {
    /// Its publication would have ended already.
    #[error("the key {0:?} has expired")]
    Expired(String),
    /// There would be too many of them, or they would be too long.
    #[error("there may be {EXTERNAL_KEYS_MAX} external keys of {} KiB in total: withdraw some first", EXTERNAL_KEYS_BYTES / 1024)]
    NoRoom,
    /// Its `kid` could be one of ours.
    #[error("the kid {0:?} has only digits, which is reserved for our own keys")]
    NotOurs(String),
    /// It is one of our own keys under another `kid`.
    #[error("the key {0:?} is our own key {1}")]
    Ours(String, Kid),
    /// Its `kid` is the thumbprint of another key, which is ours.
    #[error("the kid {0:?} is the thumbprint of a key of our own, and this is another key")]
    ThumbprintOfOurs(String),
    /// It was one of our own keys, which was revoked.
    #[error("the key {0:?} was revoked in this store, so it is never published again")]
    Revoked(String),
    /// It is published under another `kid`.
    #[error(
        "the key {0:?} is published already, as {1:?}: a key has one kid; withdraw that one first, or leave this one out"
    )]
    SameKey(String, String),
    /// It could not be sealed.
    #[error("the key cannot be sealed")]
    Seal(#[from] SealError),
    /// Another key has that `kid`.
    #[error("another key has the kid {0:?}: withdraw that one first")]
    Taken(String),
    /// No external key has that `kid`.
    #[error("there is no external key {0:?}")]
    Unknown(String),
}
