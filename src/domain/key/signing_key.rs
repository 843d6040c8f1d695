//! A private key that signs tokens: a key with a `kid`, an expiry and one algorithm.

use std::fmt;

use thiserror::Error;

use super::kid::Kid;
use crate::domain::clock::Timestamp;
use crate::domain::jose::algorithm::Algorithm;
use crate::domain::jose::invalid_jwk::InvalidJwk;
use crate::domain::jose::jwk::Jwk;
use crate::domain::jose::jws;
use crate::domain::jose::private_key::{NewKey, PrivateKey};
use crate::domain::jose::token_type::TokenType;

/// The algorithm of new signing keys.
pub(crate) const DEFAULT_ALGORITHM: Algorithm = Algorithm::Rs256;

/// Generates a private key for [`DEFAULT_ALGORITHM`]. RSA takes tens of milliseconds, sometimes several hundred.
///
/// # Errors
/// [`KeyError::Invalid`] if aws-lc-rs fails.
pub(crate) fn generate() -> Result<PrivateKey, KeyError> {
    Ok(PrivateKey::generate(NewKey::for_algorithm(DEFAULT_ALGORITHM))?)
}

/// A private key that is ready to sign. Key pair and header are prepared once, because every token needs them.
pub struct SigningKey {
    exp: Timestamp,
    kid: Kid,
    key: PrivateKey,
    algorithm: Algorithm,
    /// For tokens of each type.
    headers: [String; 2],
    jwk: Jwk,
}

impl SigningKey {
    /// Prepares a key to sign tokens with this algorithm until `exp`.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] if the algorithm does not fit the key type.
    pub fn new(kid: Kid, exp: Timestamp, key: PrivateKey, algorithm: Algorithm) -> Result<Self, KeyError> {
        // Checks that the algorithm fits the key, so that `sign` can rely on it.
        let jwk = Jwk::new(key.public().clone(), kid.to_string(), algorithm)?;
        let headers =
            [TokenType::Jwt, TokenType::AccessToken].map(|typ| jws::header(typ, algorithm, &kid.to_string()));
        Ok(Self { exp, kid, key, algorithm, headers, jwk })
    }

    /// The `kid`.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// When the key expires. Its tokens expire at this time or earlier.
    #[must_use]
    pub fn exp(&self) -> Timestamp {
        self.exp
    }

    /// The algorithm of every signature of this key.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as it is published.
    pub(crate) fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The base64url of the header of this key's tokens of this type.
    pub(crate) fn header(&self, typ: TokenType) -> &str {
        let [jwt, access_token] = &self.headers;
        match typ {
            TokenType::Jwt => jwt,
            TokenType::AccessToken => access_token,
        }
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(self.algorithm, message).ok_or(KeyError::Signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A signing key failed. Errors never contain key material.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// The key could not be generated, written, or bound to its algorithm.
    #[error(transparent)]
    Invalid(#[from] InvalidJwk),
    /// aws-lc-rs failed to sign.
    #[error("the key could not sign")]
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXP: Timestamp = Timestamp::from_secs(0);

    #[test]
    fn header_jwk_and_signature_have_the_algorithm_of_the_key() {
        let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
        let key = SigningKey::new(Kid(7), EXP, key, Algorithm::EdDsa).unwrap();
        for typ in [TokenType::Jwt, TokenType::AccessToken] {
            assert_eq!(key.header(typ), jws::header(typ, Algorithm::EdDsa, "7"));
        }
        assert_eq!((key.jwk().kid(), key.jwk().algorithm()), (Some("7"), Some(Algorithm::EdDsa)));
        let signature = key.sign(b"message").unwrap();
        assert!(key.jwk().key().verifies(Algorithm::EdDsa, b"message", &signature));
    }

    #[test]
    fn an_algorithm_that_does_not_fit_the_key_is_rejected() {
        let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
        let error = SigningKey::new(Kid(7), EXP, key, Algorithm::Rs256).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"alg\" is \"RS256\", which does not fit an Ed25519 key: use EdDSA, Ed25519"
        );
    }

    #[test]
    fn new_keys_are_made_for_the_default_algorithm() {
        assert!(SigningKey::new(Kid(7), EXP, generate().unwrap(), DEFAULT_ALGORITHM).is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
        let key = SigningKey::new(Kid(7), EXP, key, Algorithm::EdDsa).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey { kid: Kid(7), .. }");
    }
}
