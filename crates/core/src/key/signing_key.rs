//! A private key that signs tokens: a key with a `kid`, an expiry and one algorithm.

use std::fmt;

use thiserror::Error;

use super::kid::Kid;
use super::profile::KeyProfile;
use crate::clock::Timestamp;
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::jws;
use jwksd_jose::private_key::PrivateKey;
use jwksd_jose::token_type::TokenType;

/// A private key that is ready to sign. Key pair and header are prepared once, because every token needs them.
pub struct SigningKey {
    exp: Timestamp,
    kid: Kid,
    key: PrivateKey,
    profile: KeyProfile,
    published_kid: String,
    /// For tokens of each type.
    headers: [String; 2],
    jwk: Jwk,
}

impl SigningKey {
    /// Prepares a key to sign tokens until `exp`, as its profile says.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] if the algorithm does not fit the key type.
    pub fn new(kid: Kid, exp: Timestamp, key: PrivateKey, profile: KeyProfile) -> Result<Self, KeyError> {
        let algorithm = profile.algorithm;
        let published_kid = profile.kid_format.published(kid, key.public());
        // Checks that the algorithm fits the key, so that `sign` can rely on it.
        let jwk = Jwk::new(key.public().clone(), published_kid.clone(), algorithm)?;
        let types = [TokenType::Jwt, TokenType::AccessToken];
        let headers = types.map(|typ| jws::header(typ, algorithm, &published_kid));
        Ok(Self { exp, kid, key, profile, published_kid, headers, jwk })
    }

    /// The number of the key.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// The `kid` in its JWK and in the headers of its tokens.
    #[must_use]
    pub fn published_kid(&self) -> &str {
        &self.published_kid
    }

    /// When the key expires. Its tokens expire at this time or earlier.
    #[must_use]
    pub fn exp(&self) -> Timestamp {
        self.exp
    }

    /// The algorithm of every signature of this key.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.profile.algorithm
    }

    /// What is recorded about it.
    pub(crate) fn profile(&self) -> KeyProfile {
        self.profile
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
        self.key.sign(self.profile.algorithm, message).ok_or(KeyError::Signature)
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

    use crate::key::KidFormat;
    use jwksd_jose::private_key::NewKey;

    const EXP: Timestamp = Timestamp::from_secs(0);

    fn ed25519(kid_format: KidFormat) -> SigningKey {
        let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
        SigningKey::new(Kid(7), EXP, key, KeyProfile { algorithm: Algorithm::EdDsa, kid_format }).unwrap()
    }

    #[test]
    fn header_jwk_and_signature_have_the_algorithm_of_the_key() {
        let key = ed25519(KidFormat::Number);
        for typ in [TokenType::Jwt, TokenType::AccessToken] {
            assert_eq!(key.header(typ), jws::header(typ, Algorithm::EdDsa, "7"));
        }
        assert_eq!((key.jwk().kid(), key.jwk().algorithm()), (Some("7"), Some(Algorithm::EdDsa)));
        let signature = key.sign(b"message").unwrap();
        assert!(key.jwk().key().verifies(Algorithm::EdDsa, b"message", &signature));
    }

    #[test]
    fn header_and_jwk_have_the_thumbprint_of_a_key_that_is_published_under_it() {
        let key = ed25519(KidFormat::Thumbprint);
        let thumbprint = key.jwk().key().thumbprint();
        assert_eq!(key.header(TokenType::Jwt), jws::header(TokenType::Jwt, Algorithm::EdDsa, &thumbprint));
        assert_eq!((key.jwk().kid(), key.published_kid()), (Some(&*thumbprint), &*thumbprint));
        assert_eq!(key.kid(), Kid(7));
    }

    #[test]
    fn an_algorithm_that_does_not_fit_the_key_is_rejected() {
        let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
        let error = SigningKey::new(Kid(7), EXP, key, KeyProfile::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"alg\" is \"RS256\", which does not fit an Ed25519 key: use EdDSA, Ed25519"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", ed25519(KidFormat::Number)), "SigningKey { kid: Kid(7), .. }");
    }
}
