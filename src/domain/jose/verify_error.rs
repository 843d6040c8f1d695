//! Why a token is not valid: a code that scripts can rely on, and a sentence for people.

use super::jwk::InvalidJwk;

/// A token that is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// The kind of fault.
    pub reason: Reason,
    /// What it is in this token. A token's own words are quoted, with what would steer a terminal escaped.
    pub message: String,
}

impl VerifyError {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A key that the token names, and that no signature can be verified with.
    pub(super) fn key(error: &InvalidJwk) -> Self {
        let reason = match error {
            InvalidJwk::Use(_) | InvalidJwk::KeyOps(_) => Reason::KeyUse,
            InvalidJwk::Algorithm { .. } => Reason::AlgMismatch,
            InvalidJwk::RsaSize { .. } | InvalidJwk::EvenModulus | InvalidJwk::Exponent => Reason::WeakKey,
            _ => Reason::InvalidKey,
        };
        Self::new(reason, format!("the key it names cannot be used: {error}"))
    }
}

/// The kinds of fault, in the order in which they are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not a JWS in compact form with JSON in it that can be read in one way only (RFC 7515, 7.1; RFC 7519, 7.2).
    Malformed,
    /// `alg` is `none` (RFC 8725, 3.2).
    AlgNone,
    /// `alg` is an HMAC, with which a public key would be the secret (RFC 8725, 2.1 and 3.1).
    AlgHmac,
    /// `alg` is not one that is known.
    AlgUnsupported,
    /// The header brings its own key, or says where to fetch it (RFC 8725, 3.10).
    EmbeddedKey,
    /// `crit` names what is not understood (RFC 7515, 4.1.11).
    Crit,
    /// No `kid`, and more than one key that could be meant.
    NoKid,
    /// The key is not among those that are trusted; a revoked one neither.
    UnknownKid,
    /// The key is not for signatures (RFC 7517, 4.2 and 4.3).
    KeyUse,
    /// The key is too small, or broken.
    WeakKey,
    /// The key is none, or not a public one.
    InvalidKey,
    /// The algorithm is not the key's (RFC 8725, 3.1).
    AlgMismatch,
    /// The signature is not that key's over this token.
    BadSignature,
    /// `iss` is another, or is missing (RFC 8725, 3.8).
    WrongIssuer,
    /// `aud` does not contain the expected one (RFC 8725, 3.9).
    WrongAudience,
    /// No `exp`.
    NoExp,
    /// `exp` is past (RFC 7519, 4.1.4).
    Expired,
    /// `nbf` is yet to come (RFC 7519, 4.1.5).
    NotYetValid,
}

impl Reason {
    /// The code, which stays the same.
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
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::NoExp => "no_exp",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}
