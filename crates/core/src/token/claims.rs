//! The claims of a token (RFC 7519 §4).

use std::time::Duration;

use rand::CryptoRng;
use serde::Serialize;

use super::overrides::{Audience, ExtraClaims, TokenOverrides};
use crate::account::UserId;
use crate::clock::Timestamp;
use crate::key::SigningKey;
use jwksd_jose::token_type::TokenType;

/// Whom a token is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The `sub` claim.
    pub name: &'a str,
    /// The `uid` claim; `None` in open mode.
    pub uid: Option<UserId>,
}

/// What all tokens of this issuer have in common.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// The `iss` claim.
    pub issuer: String,
    /// The audiences of which a token has one, the first by default. Without any, it has no `aud` claim.
    pub audiences: Vec<String>,
    /// The `typ` of the header.
    pub typ: TokenType,
    /// Lifetime from `iat` to `exp`, in whole seconds.
    pub ttl: Duration,
}

/// Which kind of token to issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Signed with the current key and valid from now on.
    Valid,
    /// Already expired and signed with the newest expired key, for testing verifiers.
    Expired,
}

/// The claims of a token, and the `typ` of the header in front of them.
#[derive(Clone, Debug, Serialize)]
pub struct Claims<'a> {
    #[serde(skip)]
    pub(super) typ: TokenType,
    pub(super) iss: &'a str,
    sub: &'a str,
    /// Only in access tokens, which must have it (RFC 9068 §2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aud: Option<Audience>,
    pub(super) iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<i64>,
    pub(super) jti: String,
    #[serde(flatten)]
    pub(super) extra: ExtraClaims,
}

impl<'a> Claims<'a> {
    /// The claims of a token that this key signs now.
    ///
    /// A valid token expires after the policy's lifetime, or with its key if that is earlier. An expired token expired
    /// with its key.
    pub fn new(
        policy: &'a TokenPolicy,
        subject: Subject<'a>,
        kind: TokenKind,
        key: &SigningKey,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let (iat, exp) = match kind {
            // Never later than the key, because verifiers drop expired keys.
            TokenKind::Valid => (now, now.plus(policy.ttl).min(key.exp())),
            TokenKind::Expired => {
                // The clock may have been set back since the key expired.
                let exp = key.exp().min(now.minus(Duration::from_secs(1)));
                (exp.minus(policy.ttl), exp)
            }
        };
        let mut id = [0; 16];
        // RFC 7519 §4.1.7 requires that collisions are negligible; a UUIDv4 has 122 random bits.
        rng.fill_bytes(&mut id);
        Self {
            typ: policy.typ,
            iss: &policy.issuer,
            sub: subject.name,
            // Accounts are their own clients: no client is registered apart from them.
            client_id: (policy.typ == TokenType::AccessToken).then_some(subject.name),
            uid: subject.uid.map(|uid| uid.0),
            aud: policy.audiences.first().cloned().map(Audience::One),
            iat: iat.as_secs(),
            exp: Some(exp.as_secs()),
            jti: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
            extra: ExtraClaims::default(),
        }
    }

    /// The same claims with the caller's audience and additional claims.
    #[must_use]
    pub fn with(self, overrides: TokenOverrides) -> Self {
        // A claim must not be there twice, and the caller of open mode wins.
        let client_id = self.client_id.filter(|_| !overrides.extra.0.contains_key("client_id"));
        Self { aud: overrides.audience.or(self.aud), client_id, extra: overrides.extra, ..self }
    }

    /// The same claims for this audience.
    #[must_use]
    pub fn for_audience(self, audience: String) -> Self {
        Self { aud: Some(Audience::One(audience)), ..self }
    }
}
