//! Checks our own JWKS and signatures with a library that shares no JOSE code with us.
//!
//! Verifiers would reject every token if the set and the signatures did not match, and we would not notice.

use std::collections::HashSet;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use thiserror::Error;

use super::kid::Kid;
use super::signing_key::{KeyError, SigningKey};
use crate::clock::Timestamp;
use jwksd_jose::jws;
use jwksd_jose::token_type::TokenType;

/// Lifetime of the probe token in seconds. The token never leaves this process.
const PROBE_TTL: i64 = 1;

/// What checks key sets before they are published: [`check`], except in tests.
pub type SelfCheck = fn(&[&[u8]], &SigningKey, Timestamp) -> Result<(), SelfCheckError>;

/// Signs a probe token and verifies it with `jsonwebtoken`, through the key with its `kid` in each of these serialised
/// JWK Sets.
///
/// Signing takes most of the time, well under 2 ms for RSA 2048, so it can run before every publication.
///
/// # Errors
/// [`SelfCheckError`] says which step failed.
pub fn check(sets: &[&[u8]], key: &SigningKey, now: Timestamp) -> Result<(), SelfCheckError> {
    let claims = json!({
        "iss": "jwksd:self-check", "iat": now.as_secs(), "exp": now.as_secs().saturating_add(PROBE_TTL),
    });
    let probe =
        jws::compact(key.header(TokenType::Jwt), claims.to_string().as_bytes(), |message| key.sign(message))?;
    sets.iter().try_for_each(|jwks| verify(&probe, &claims, jwks, key))
}

fn verify(probe: &str, claims: &Value, jwks: &[u8], key: &SigningKey) -> Result<(), SelfCheckError> {
    let (public_key, algorithm) = published_key(jwks, key)?;
    let kid = key.kid();
    let rejected = |why: String| SelfCheckError::Rejected { kid, why };
    let mut validation = Validation::new(algorithm);
    // The library would compare `exp` with the system clock, and this process may run on another clock.
    validation.validate_exp = false;
    // The library requires `exp` by default; comparing all claims below covers it.
    validation.required_spec_claims = HashSet::new();
    let decoded = jsonwebtoken::decode::<Value>(probe, &public_key, &validation);
    let decoded = decoded.map_err(|error| rejected(error.to_string()))?;
    if decoded.claims == *claims { Ok(()) } else { Err(rejected("it decodes to other claims".to_owned())) }
}

/// Finds a key by its `kid` in a serialised JWK Set, and the algorithm that the set gives it.
fn published_key(jwks: &[u8], key: &SigningKey) -> Result<(DecodingKey, Algorithm), SelfCheckError> {
    // Reads the bytes that will be served, so that a mistake in their serialisation is found too.
    let set: JwkSet =
        serde_json::from_slice(jwks).map_err(|error| SelfCheckError::InvalidSet(error.to_string()))?;
    let kid = key.kid();
    let jwk = set.find(key.published_kid()).ok_or(SelfCheckError::KeyMissing(kid))?;
    let unusable = |why: String| SelfCheckError::UnusableKey { kid, why };
    let name = jwk.common.key_algorithm.ok_or_else(|| unusable("it has no \"alg\"".to_owned()))?;
    // The published "alg" counts, not the header's: verifiers bind the key to it (RFC 8725 §3.1).
    let algorithm =
        name.to_string().parse().map_err(|_| unusable(format!("\"alg\" {name} does not sign")))?;
    let key = DecodingKey::from_jwk(jwk).map_err(|error| unusable(error.to_string()))?;
    Ok((key, algorithm))
}

/// Why the key set must not be published.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SelfCheckError {
    /// The bytes are not a JWK Set.
    #[error("jsonwebtoken cannot read the key set: {0}")]
    InvalidSet(String),
    /// The set does not contain the signing key.
    #[error("the key set does not contain the signing key {0}")]
    KeyMissing(Kid),
    /// The probe token does not verify.
    #[error("jsonwebtoken rejects a token signed by key {kid}: {why}")]
    Rejected {
        /// The signing key.
        kid: Kid,
        /// The reason in words.
        why: String,
    },
    /// The key failed to sign the probe token.
    #[error(transparent)]
    Sign(#[from] KeyError),
    /// The set contains the signing key, but it cannot be used for verification.
    #[error("jsonwebtoken cannot use key {kid} of the key set: {why}")]
    UnusableKey {
        /// The signing key.
        kid: Kid,
        /// The reason in words.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KEY_ALGORITHMS, KeyProfile, KidFormat};
    use jwksd_jose::algorithm::{Algorithm, Curve};
    use jwksd_jose::jwk::Jwk;
    use jwksd_jose::private_key::{NewKey, PrivateKey};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn signing_key(kid: i64, algorithm: Algorithm) -> SigningKey {
        let key = PrivateKey::generate(NewKey::for_algorithm(algorithm)).unwrap();
        let profile = KeyProfile { algorithm, kid_format: KidFormat::Number };
        SigningKey::new(Kid(kid), NOW, key, profile).unwrap()
    }

    fn check_one(jwks: &[u8], key: &SigningKey) -> Result<(), SelfCheckError> {
        check(&[jwks], key, NOW)
    }

    fn set(keys: &[&Jwk]) -> Vec<u8> {
        serde_json::to_vec(&json!({ "keys": keys })).unwrap()
    }

    #[test]
    fn a_good_set_passes_next_to_keys_that_jsonwebtoken_does_not_support() {
        let p521 = PrivateKey::generate(NewKey::Ec(Curve::P521)).unwrap();
        let external = Jwk::new(p521.public().clone(), "external".to_owned(), Algorithm::Es512).unwrap();
        for algorithm in KEY_ALGORITHMS {
            let key = signing_key(2, algorithm);
            assert_eq!(check_one(&set(&[&external, key.jwk()]), &key), Ok(()), "{algorithm}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_thumbprint() {
        let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
        let profile = KeyProfile { algorithm: Algorithm::EdDsa, kid_format: KidFormat::Thumbprint };
        let key = SigningKey::new(Kid(2), NOW, key, profile).unwrap();
        assert_eq!(check_one(&set(&[key.jwk()]), &key), Ok(()));
    }

    #[test]
    fn a_set_without_the_key_fails() {
        let (key, other) = (signing_key(1, Algorithm::Rs256), signing_key(2, Algorithm::Rs256));
        let error = check_one(&set(&[other.jwk()]), &key).unwrap_err();
        assert_eq!(error.to_string(), "the key set does not contain the signing key 1");
        assert_eq!(check_one(br#"{"keys":[]}"#, &key), Err(SelfCheckError::KeyMissing(Kid(1))));
    }

    #[test]
    fn another_key_under_the_same_kid_fails() {
        let (key, other) = (signing_key(1, Algorithm::Rs256), signing_key(1, Algorithm::Rs256));
        let error = check_one(&set(&[other.jwk()]), &key).unwrap_err();
        assert_eq!(error.to_string(), "jsonwebtoken rejects a token signed by key 1: InvalidSignature");
    }

    #[test]
    fn another_algorithm_or_an_unusable_key_fails() {
        let key = signing_key(1, Algorithm::Rs256);
        let changed = |member: &str, value: Value| {
            let mut jwk = json!(key.jwk());
            jwk[member] = value;
            serde_json::to_vec(&json!({"keys": [jwk]})).unwrap()
        };
        let error = |jwks: Vec<u8>| check_one(&jwks, &key).unwrap_err();
        assert!(matches!(error(changed("alg", json!("RS384"))), SelfCheckError::Rejected { .. }));
        for (member, value) in
            [("alg", Value::Null), ("alg", json!("none")), ("alg", json!("RSA-OAEP")), ("n", json!("!"))]
        {
            let error = error(changed(member, value.clone()));
            assert!(
                matches!(error, SelfCheckError::UnusableKey { kid: Kid(1), .. }),
                "{member} {value} {error}"
            );
        }
    }

    #[test]
    fn each_set_is_checked() {
        let (key, other) = (signing_key(1, Algorithm::Rs256), signing_key(2, Algorithm::Rs256));
        let (good, bad) = (set(&[key.jwk()]), set(&[other.jwk()]));
        assert_eq!(check(&[&good, &good], &key, NOW), Ok(()));
        assert_eq!(check(&[&good, &bad], &key, NOW), Err(SelfCheckError::KeyMissing(Kid(1))));
    }

    #[test]
    fn broken_bytes_fail() {
        let key = signing_key(1, Algorithm::Rs256);
        let good = set(&[key.jwk()]);
        for jwks in [b"".as_slice(), b"{}", b"[]", &good[..good.len() - 1]] {
            assert!(matches!(check_one(jwks, &key), Err(SelfCheckError::InvalidSet(_))));
        }
    }
}
