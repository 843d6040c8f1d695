//! What callers of open mode may choose about their token.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

/// The claims that only the issuer sets.
pub const RESERVED_CLAIMS: [&str; 7] = ["iss", "sub", "uid", "aud", "iat", "exp", "jti"];

/// The `aud` claim: one string or several (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Audience {
    /// One audience.
    One(String),
    /// A list of audiences.
    Many(Vec<String>),
}

/// The choices of a caller of open mode.
#[derive(Clone, Debug, Default)]
pub struct TokenOverrides {
    /// The `aud` claim, instead of the policy's.
    pub audience: Option<Audience>,
    /// Lifetime from `iat` to `exp`, instead of the policy's; whole seconds, at least one.
    pub ttl: Option<Duration>,
    /// Additional claims.
    pub extra: ExtraClaims,
}

/// Claims in addition to those that the issuer sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ExtraClaims(pub(super) Map<String, Value>);

impl ExtraClaims {
    /// Accepts all claims except `RESERVED_CLAIMS`. `nbf` must be a number (RFC 7519 §4.1.5).
    ///
    /// # Errors
    /// [`InvalidClaim`] for the first invalid claim.
    pub fn parse(claims: Map<String, Value>) -> Result<Self, InvalidClaim> {
        for (name, value) in &claims {
            if RESERVED_CLAIMS.contains(&name.as_str()) {
                return Err(InvalidClaim::Reserved(name.clone()));
            }
            // A string would make the token malformed instead of not yet valid.
            if name == "nbf" && !value.is_number() {
                return Err(InvalidClaim::NotBefore);
            }
        }
        Ok(Self(claims))
    }
}

/// A caller may not set this claim.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidClaim {
    /// `nbf` is not a time.
    #[error("the claim nbf must be a number of seconds since 1970")]
    NotBefore,
    /// Only the issuer sets it.
    #[error("the claim {0:?} is set by the issuer; sub, aud and ttl have fields of their own")]
    Reserved(String),
}
