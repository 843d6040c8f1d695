//! Tokens: the claims of a JWT (RFC 7519), how long it lives, and its signature (RFC 7515, 7.1).
//!
//! `fault` has the tokens that a good verifier refuses.

pub mod fault;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::account::UserId;
use super::clock::Timestamp;
use super::key::{KeyError, SigningKey};

/// Whom a token is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The `sub` claim.
    pub name: &'a str,
    /// The `uid` claim; nobody's in open mode.
    pub uid: Option<UserId>,
}

/// What all tokens of this issuer have in common.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: Option<String>,
    /// The time from `iat` to `exp`, whole seconds.
    pub ttl: Duration,
}

/// Which token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Signed with the current key, valid from now on.
    Valid,
    /// Signed with the newest expired key, and expired itself: for testing verifiers.
    Expired,
}

/// The `aud` claim: one text, or several (RFC 7519, 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Any of these.
    Many(Vec<String>),
}

/// What a caller of open mode may say of his token.
#[derive(Clone, Debug, Default)]
pub struct TokenOverrides {
    /// The `aud` claim instead of the policy's.
    pub audience: Option<Audience>,
    /// The time from `iat` to `exp` instead of the policy's; whole seconds, at least one.
    pub ttl: Option<Duration>,
    /// Further claims.
    pub extra: ExtraClaims,
}

/// Claims beside those that the issuer sets itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ExtraClaims(Map<String, Value>);

impl ExtraClaims {
    /// Takes any claims but those that the issuer sets, and only a number for `nbf` (RFC 7519, 4.1.5).
    ///
    /// # Errors
    /// [`InvalidClaim`] names the first that cannot be taken.
    pub fn parse(claims: Map<String, Value>) -> Result<Self, InvalidClaim> {
        for (name, value) in &claims {
            if RESERVED_CLAIMS.contains(&name.as_str()) {
                return Err(InvalidClaim::Reserved(name.clone()));
            }
            if name == "nbf" && !value.is_number() {
                return Err(InvalidClaim::NotBefore);
            }
        }
        Ok(Self(claims))
    }
}

/// The claims that only the issuer sets.
pub const RESERVED_CLAIMS: [&str; 7] = ["iss", "sub", "uid", "aud", "iat", "exp", "jti"];

/// A claim that cannot be taken from a caller.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidClaim {
    /// No date.
    #[error("the claim nbf must be a number of seconds since 1970")]
    NotBefore,
    /// The issuer sets it.
    #[error("the claim {0:?} is set by the issuer; sub, aud and ttl have fields of their own")]
    Reserved(String),
}

/// The claims of a token.
#[derive(Clone, Debug, Serialize)]
pub struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Audience>,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    jti: String,
    #[serde(flatten)]
    extra: ExtraClaims,
}

impl<'a> Claims<'a> {
    /// The claims of a token that this key is to sign now.
    ///
    /// A fresh one lives for the policy's time, or as long as its key where that is less. An expired one ended with
    /// its key.
    pub fn new(
        policy: &'a TokenPolicy,
        subject: Subject<'a>,
        kind: TokenKind,
        key: &SigningKey,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let (iat, exp) = match kind {
            TokenKind::Valid => (now, now.plus(policy.ttl).min(key.exp())),
            TokenKind::Expired => {
                // The clock may have gone back since the key expired.
                let exp = key.exp().min(now.minus(Duration::from_secs(1)));
                (exp.minus(policy.ttl), exp)
            }
        };
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self {
            iss: &policy.issuer,
            sub: subject.name,
            uid: subject.uid.map(|uid| uid.0),
            aud: policy.audience.clone().map(Audience::One),
            iat: iat.as_secs(),
            exp: Some(exp.as_secs()),
            jti: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
            extra: ExtraClaims::default(),
        }
    }

    /// The same claims, for the audience and with the claims that a caller of open mode wishes.
    #[must_use]
    pub fn with(self, overrides: TokenOverrides) -> Self {
        Self { aud: overrides.audience.or(self.aud), extra: overrides.extra, ..self }
    }
}

/// A signed JWT in compact form.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Signs claims with a key.
    ///
    /// # Errors
    /// [`KeyError::Signature`] when the cryptographic library fails.
    pub fn sign(key: &SigningKey, claims: &Claims<'_>) -> Result<Self, KeyError> {
        Self::assemble(key.header(), claims, |message| key.sign(message))
    }

    /// Header and claims, and what `sign` makes of them.
    fn assemble(
        header: &str,
        claims: &Claims<'_>,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
    ) -> Result<Self, KeyError> {
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Signature)?;
        let mut token = String::with_capacity(1024);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Self(token))
    }

    /// The compact form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}
