//! JWK Sets (RFC 7517, 5): the keys a token may be signed by, as an issuer publishes them.

use serde_json::Value;
use thiserror::Error;

use super::jwk::{InvalidJwk, PublicJwk};

/// The keys that are trusted.
#[derive(Clone, Debug)]
pub enum TrustedKeys {
    /// One key that somebody has chosen: a token need not say that it means it.
    One(Box<PublicJwk>),
    /// A published set: a token says by its `kid` which it means.
    Set(Vec<Entry>),
}

/// A key of a set. A set may hold keys for other purposes, which spoil nothing until a token means one of them.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What a token calls it.
    pub kid: Option<String>,
    /// The key, or why no signature can be verified with it.
    pub key: Result<PublicJwk, InvalidJwk>,
}

impl TrustedKeys {
    /// Reads a JWK Set, or a single public JWK.
    ///
    /// # Errors
    /// [`InvalidSet`] for what is neither. A key of a set that cannot be used is kept as such.
    pub fn parse(value: &Value) -> Result<Self, InvalidSet> {
        match value.get("keys") {
            Some(Value::Array(keys)) => Ok(Self::Set(keys.iter().map(Entry::of).collect())),
            Some(_) => Err(InvalidSet::NoArray),
            None if value.get("kty").is_some() => Ok(Self::One(Box::new(PublicJwk::parse(value)?))),
            None => Err(InvalidSet::NoSet),
        }
    }
}

impl Entry {
    fn of(value: &Value) -> Self {
        let kid = value.get("kid").and_then(Value::as_str).map(str::to_owned);
        Self { kid, key: PublicJwk::parse(value) }
    }
}

/// Why something is neither a JWK Set nor a public JWK.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidSet {
    /// A single JWK that cannot be used.
    #[error(transparent)]
    Key(#[from] InvalidJwk),
    /// `keys` is something else.
    #[error("its \"keys\" is no array")]
    NoArray,
    /// Neither.
    #[error("it is no JWK Set: it has no \"keys\"")]
    NoSet,
}
