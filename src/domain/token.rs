//! Tokens: the claims of a JWT (RFC 7519), how long it lives, and its signature (RFC 7515, 7.1).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use serde::Serialize;

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
    Fresh,
    /// Signed with the newest expired key, and expired itself: for testing verifiers.
    Expired,
}

/// The claims of a token.
#[derive(Debug, Serialize)]
pub struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: i64,
    exp: i64,
    jti: String,
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
            TokenKind::Fresh => (now, now.plus(policy.ttl).min(key.exp())),
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
            aud: policy.audience.as_deref(),
            iat: iat.as_secs(),
            exp: exp.as_secs(),
            jti: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
        }
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
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Signature)?;
        let mut token = String::with_capacity(1024);
        token.push_str(key.header());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = key.sign(token.as_bytes())?;
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
