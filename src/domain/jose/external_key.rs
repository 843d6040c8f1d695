//! External keys: public keys of other issuers that an administrator publishes next to our own.
//!
//! They arrive as a JWK Set or a JWK; each key has a `kid` and may have an `exp`.

use serde_json::Value;
use thiserror::Error;

use super::invalid_jwk::InvalidJwk;
use super::json::{self, InvalidJson, SecretJson};
use super::jwk::Jwk;
use crate::domain::clock::Timestamp;

/// Maximum number of external keys. Bounded, because every verifier reads the whole set.
pub(crate) const EXTERNAL_KEYS_MAX: usize = 100;

/// Maximum size of all external keys together, in bytes of serialised JWKs.
pub(crate) const EXTERNAL_KEYS_BYTES: usize = 32 * 1024;

/// Maximum number of keys in one upload. Above [`EXTERNAL_KEYS_MAX`], because a fetched set may contain our own keys too.
const UPLOAD_MAX: usize = 2 * EXTERNAL_KEYS_MAX;

/// A public key to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalKey {
    jwk: Jwk,
    kid: String,
    exp: Option<Timestamp>,
}

impl ExternalKey {
    /// Reads a JWK Set or one JWK. One invalid key rejects all of them.
    ///
    /// # Errors
    /// [`InvalidUpload`]. Errors never contain private parameters.
    pub fn parse_all(text: &[u8]) -> Result<Vec<Self>, InvalidUpload> {
        // The text may contain a private key by mistake.
        let json = SecretJson::parse(text)?;
        let value = json.reveal();
        let keys: Vec<&Value> = match value.get("keys") {
            Some(Value::Array(keys)) => keys.iter().collect(),
            Some(_) => return Err(InvalidUpload::NotArray),
            None if value.get("kty").is_some() => vec![value],
            None => return Err(InvalidUpload::NotSet),
        };
        // Accepting it would report success although nothing was published.
        if keys.is_empty() {
            return Err(InvalidUpload::Empty);
        }
        if keys.len() > UPLOAD_MAX {
            return Err(InvalidUpload::TooMany);
        }
        let mut uploads: Vec<Self> = Vec::with_capacity(keys.len());
        for (index, key) in keys.into_iter().enumerate() {
            let upload = Self::parse(key).map_err(|why| InvalidUpload::Key { number: index + 1, why })?;
            // A linear search is fast enough: there are at most UPLOAD_MAX keys.
            if uploads.iter().any(|earlier| earlier.kid == upload.kid) {
                return Err(InvalidUpload::Twice(upload.kid));
            }
            uploads.push(upload);
        }
        Ok(uploads)
    }

    /// Reads one JWK. Its `exp`, in seconds since 1970, is our own member: it ends the publication of the key.
    fn parse(value: &Value) -> Result<Self, InvalidExternalKey> {
        let read = Jwk::parse(value)?;
        let kid = read.kid().ok_or(InvalidExternalKey::NoKid)?.to_owned();
        // The kid is a path segment when a key is withdrawn, and clients resolve `.` and `..` away.
        if !kid.bytes().all(|byte| byte.is_ascii_graphic()) || [".", ".."].contains(&kid.as_str()) {
            return Err(InvalidExternalKey::Kid);
        }
        // `alg` is always published, so that verifiers can bind the key to one algorithm (RFC 8725 §3.1).
        let algorithm = read.algorithm().unwrap_or(read.key().key_type().default_algorithm());
        let jwk = Jwk::new(read.key().clone(), kid.clone(), algorithm)?;
        let exp = match value.get("exp") {
            None => None,
            Some(exp) => Some(exp.as_i64().filter(|exp| *exp > 0).ok_or(InvalidExternalKey::Exp)?),
        };
        Ok(Self { jwk, kid, exp: exp.map(Timestamp::from_secs) })
    }

    /// Reads a JWK from the store.
    #[must_use]
    pub fn stored(jwk: &[u8], exp: Option<Timestamp>) -> Option<Self> {
        let jwk = Jwk::parse(&json::value(jwk).ok()?).ok()?;
        Some(Self { kid: jwk.kid()?.to_owned(), jwk, exp })
    }

    /// The `kid`.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public JWK.
    #[must_use]
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// When its publication ends. `None`: it is published until it is withdrawn.
    #[must_use]
    pub fn exp(&self) -> Option<Timestamp> {
        self.exp
    }

    /// Whether its `kid` consists of digits, as those of our own keys do.
    #[must_use]
    pub(crate) fn has_kid_like_ours(&self) -> bool {
        self.kid.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// Why an upload is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidUpload {
    /// One of its keys is invalid.
    #[error("key {number}: {why}")]
    Key {
        /// The position of the key, starting at 1.
        number: usize,
        /// Why the key is invalid.
        why: InvalidExternalKey,
    },
    /// An empty set.
    #[error("the set has no keys")]
    Empty,
    /// `keys` is not an array.
    #[error("`keys` is not an array")]
    NotArray,
    /// Neither a JWK Set nor a JWK.
    #[error("neither a JWK Set nor a JWK")]
    NotSet,
    /// Not strict JSON.
    #[error(transparent)]
    InvalidJson(#[from] InvalidJson),
    /// Too many keys in one upload.
    #[error("the set has more than {UPLOAD_MAX} keys")]
    TooMany,
    /// Two keys with one `kid`.
    #[error("two keys have the kid {0:?}")]
    Twice(String),
}

/// Why an external key is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidExternalKey {
    /// A `kid` that looks like another one, or that a URL path cannot contain.
    #[error("`kid` must consist of visible ASCII characters and must not be `.` or `..`")]
    Kid,
    /// `exp` is not a time.
    #[error("`exp` must be a whole number of seconds since 1970")]
    Exp,
    /// The key is invalid.
    #[error(transparent)]
    Jwk(#[from] InvalidJwk),
    /// A key without `kid`, which no token could name.
    #[error("the key has no `kid`: set one, such as its thumbprint (`jwksd jwk thumbprint`)")]
    NoKid,
}
