//! What somebody wants published: a JWK Set or one JWK, of public keys alone, each with a `kid` and perhaps an `exp`.

use serde_json::Value;
use thiserror::Error;

use super::json::{self, InvalidJson, SecretJson};
use super::jwk::{InvalidJwk, PublicJwk};
use crate::domain::clock::Timestamp;

/// The most keys of others that one issuer publishes: verifiers read the whole set.
pub const UPLOADED_MAX: usize = 100;

/// The most bytes that they may have together, as they stand in the set.
pub const UPLOADED_BYTES: usize = 32 * 1024;

/// The most keys that are looked at in one upload: those of others, and our own beside them.
const AT_ONCE: usize = 2 * UPLOADED_MAX;

/// A public key that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalKey {
    jwk: PublicJwk,
    kid: String,
    exp: Option<Timestamp>,
}

impl ExternalKey {
    /// Reads a JWK Set, or one JWK. One that is not fit spoils them all.
    ///
    /// # Errors
    /// [`InvalidUpload`]; no private number is quoted.
    pub fn parse_all(text: &[u8]) -> Result<Vec<Self>, InvalidUpload> {
        // It may hold a private key by mistake.
        let json = SecretJson::parse(text)?;
        let value = json.reveal();
        let keys: Vec<&Value> = match value.get("keys") {
            Some(Value::Array(keys)) => keys.iter().collect(),
            Some(_) => return Err(InvalidUpload::NoArray),
            None if value.get("kty").is_some() => vec![value],
            None => return Err(InvalidUpload::NoSet),
        };
        if keys.is_empty() {
            return Err(InvalidUpload::Empty);
        }
        if keys.len() > AT_ONCE {
            return Err(InvalidUpload::TooMany);
        }
        let mut uploads: Vec<Self> = Vec::with_capacity(keys.len());
        for (index, key) in keys.into_iter().enumerate() {
            let upload = Self::parse(key).map_err(|why| InvalidUpload::Key { number: index + 1, why })?;
            if uploads.iter().any(|earlier| earlier.kid == upload.kid) {
                return Err(InvalidUpload::Twice(upload.kid));
            }
            uploads.push(upload);
        }
        Ok(uploads)
    }

    /// Reads one JWK. Its `exp`, in seconds since 1970, is no registered member; it ends its publication.
    fn parse(value: &Value) -> Result<Self, InvalidExternalKey> {
        let read = PublicJwk::parse(value)?;
        let kid = read.kid().ok_or(InvalidExternalKey::NoKid)?.to_owned();
        if !kid.bytes().all(|byte| byte.is_ascii_graphic()) || [".", ".."].contains(&kid.as_str()) {
            return Err(InvalidExternalKey::Name);
        }
        // Verifiers are to pin the algorithm to the key (RFC 8725, 3.1).
        let algorithm = read.algorithm().unwrap_or(read.key().key_type().usual_algorithm());
        let jwk = PublicJwk::new(read.key().clone(), kid.clone(), algorithm)?;
        let exp = match value.get("exp") {
            None => None,
            Some(exp) => Some(exp.as_i64().filter(|exp| *exp > 0).ok_or(InvalidExternalKey::Exp)?),
        };
        Ok(Self { jwk, kid, exp: exp.map(Timestamp::from_secs) })
    }

    /// Reads what was published before, as it was stored.
    #[must_use]
    pub fn stored(jwk: &[u8], exp: Option<Timestamp>) -> Option<Self> {
        let jwk = PublicJwk::parse(&json::value(jwk).ok()?).ok()?;
        Some(Self { kid: jwk.kid()?.to_owned(), jwk, exp })
    }

    /// What a token calls it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key.
    #[must_use]
    pub fn jwk(&self) -> &PublicJwk {
        &self.jwk
    }

    /// Until when it is published; until it is withdrawn, if nothing is said.
    #[must_use]
    pub fn exp(&self) -> Option<Timestamp> {
        self.exp
    }

    /// Whether its name could be one of ours, which are all digits.
    #[must_use]
    pub fn is_named_like_ours(&self) -> bool {
        self.kid.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// Why nothing of an upload can be taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidUpload {
    /// One of its keys.
    #[error("key {number}: {why}")]
    Key {
        /// Which, from one on.
        number: usize,
        /// What is wrong with it.
        why: InvalidExternalKey,
    },
    /// Nothing to publish.
    #[error("it has no keys")]
    Empty,
    /// `keys` is something else.
    #[error("`keys` is no array")]
    NoArray,
    /// Neither a set nor a key.
    #[error("it is neither a JWK Set nor a JWK")]
    NoSet,
    /// No JSON that can be relied on.
    #[error(transparent)]
    InvalidJson(#[from] InvalidJson),
    /// Too many at once.
    #[error("it has more than {AT_ONCE} keys")]
    TooMany,
    /// Two keys of one name.
    #[error("two keys have the kid {0:?}")]
    Twice(String),
}

/// Why a key cannot be published.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidExternalKey {
    /// It could be taken for another, or no path could name it.
    #[error("its `kid` must have visible ASCII characters alone, and be more than dots")]
    Name,
    /// No time.
    #[error("`exp` must be a whole number of seconds since 1970")]
    Exp,
    /// The key itself.
    #[error(transparent)]
    Jwk(#[from] InvalidJwk),
    /// A token could not name it.
    #[error("it has no `kid`; `jwksd jwk thumbprint` makes one")]
    NoKid,
}
