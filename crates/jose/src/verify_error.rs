//! Why a token is invalid: a stable code for scripts, and a sentence for people.

use thiserror::Error;

use super::invalid_jwk::InvalidJwk;

/// A token is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct VerifyError {
    /// The kind of error.
    pub reason: Reason,
    /// The error in this token. Text from the token is quoted and escaped, so that it cannot control a terminal.
    pub message: String,
}

impl VerifyError {
    /// An error with this reason, and a sentence for people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The key that the token names cannot verify signatures.
    pub(crate) fn key(error: &InvalidJwk) -> Self {
        let reason = match error {
            InvalidJwk::Use(_) | InvalidJwk::KeyOps(_) => Reason::KeyUse,
            InvalidJwk::Algorithm { .. } => Reason::AlgMismatch,
            InvalidJwk::RsaSize { .. } | InvalidJwk::EvenModulus | InvalidJwk::Exponent => Reason::WeakKey,
            _ => Reason::InvalidKey,
        };
        Self::new(reason, format!("the key that the token names cannot be used: {error}"))
    }
}

/// The kinds of error, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not a JWS in compact form with strict JSON inside (RFC 7515 §7.1, RFC 7519 §7.2).
    Malformed,
    /// `alg` is `none` (RFC 8725 §3.2).
    AlgNone,
    /// `alg` is an HMAC, which would make the public key the secret (RFC 8725 §2.1 and §3.1).
    AlgHmac,
    /// `alg` is not supported.
    AlgUnsupported,
    /// The header contains a key, or a URL to fetch one from (RFC 8725 §3.10).
    EmbeddedKey,
    /// `crit` lists an extension that is not supported (RFC 7515 §4.1.11).
    Crit,
    /// No `kid`, and more than one trusted key.
    NoKid,
    /// No trusted key has this `kid`, for example because the key was revoked.
    UnknownKid,
    /// The key is not for signatures (RFC 7517 §4.2 and §4.3).
    KeyUse,
    /// The key is too small or trivial to break.
    WeakKey,
    /// The key is malformed or not a public key.
    InvalidKey,
    /// `alg` does not fit the key (RFC 8725 §3.1).
    AlgMismatch,
    /// The signature does not verify with the key.
    BadSignature,
    /// `typ` is missing or differs from the expected type (RFC 8725 §3.11).
    WrongTyp,
    /// `iss` is missing or differs from the expected issuer (RFC 8725 §3.8).
    WrongIssuer,
    /// `aud` does not contain the expected audience (RFC 8725 §3.9).
    WrongAudience,
    /// No `exp`.
    NoExp,
    /// `exp` has passed (RFC 7519 §4.1.4).
    Expired,
    /// `nbf` is in the future (RFC 7519 §4.1.5).
    NotYetValid,
}

impl Reason {
    /// The code. Codes are stable.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::AlgNone => "alg_none",
            Self::AlgHmac => "alg_hmac",
            Self::AlgUnsupported => "alg_unsupported",
            Self::EmbeddedKey => "embedded_key",
            Self::Crit => "crit",
            Self::NoKid => "no_kid",
            Self::UnknownKid => "unknown_kid",
            Self::KeyUse => "key_use",
            Self::WeakKey => "weak_key",
            Self::InvalidKey => "invalid_key",
            Self::AlgMismatch => "alg_mismatch",
            Self::BadSignature => "bad_signature",
            Self::WrongTyp => "wrong_typ",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::NoExp => "no_exp",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}
