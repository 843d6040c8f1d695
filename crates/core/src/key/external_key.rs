//! External keys: public keys of other issuers that an administrator publishes next to our own.
//!
//! They arrive as a JWK Set or a JWK (`uploaded_set`); each key has a `kid` and may have an `exp`.

use serde_json::Value;
use thiserror::Error;

use crate::clock::Timestamp;
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::json;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::numeric_date::MILLISECONDS;

/// Maximum number of external keys. Bounded, because every verifier reads the whole set.
pub(crate) const EXTERNAL_KEYS_MAX: usize = 100;

/// Maximum size of all external keys together, in bytes of serialised JWKs.
pub(crate) const EXTERNAL_KEYS_BYTES: usize = 32 * 1024;

/// A public key to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalKey {
    jwk: Jwk,
    kid: String,
    exp: Option<Timestamp>,
}

impl ExternalKey {
    /// Reads one JWK. Its `exp`, in seconds since 1970, is our own member: it ends the publication of the key.
    pub(super) fn parse(value: &Value) -> Result<Self, InvalidExternalKey> {
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
            Some(exp) => Some(parse_exp(exp)?),
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

/// Reads a time in seconds. Every JavaScript clock counts milliseconds, so these are told from seconds.
fn parse_exp(exp: &Value) -> Result<i64, InvalidExternalKey> {
    let is_milliseconds = |exp: f64| exp >= MILLISECONDS;
    if exp.as_f64().is_some_and(is_milliseconds) {
        return Err(InvalidExternalKey::Milliseconds);
    }
    exp.as_i64().filter(|exp| *exp > 0).ok_or(InvalidExternalKey::Exp)
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
    /// `exp` is not in seconds.
    #[error("`exp` must be seconds since 1970, but this looks like milliseconds: divide it by 1000")]
    Milliseconds,
    /// The key is invalid.
    #[error(transparent)]
    Jwk(#[from] InvalidJwk),
    /// A key without `kid`, which no token could name.
    #[error("the key has no `kid`: set one, such as its thumbprint (`jwksd jwk thumbprint`)")]
    NoKid,
}
