//! RSA keys: the private half, which signs and is kept sealed, and what makes two of them different, the `kid`.
//!
//! What a key may do at which time is `lifecycle`; how it rests in the store is `seal`; its public half is `jwk`.

pub mod jwk;
pub mod lifecycle;
pub mod seal;
pub mod status;

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use rsa::pkcs1;
use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::der::{Decode as _, Document, SecretDocument, pem::LineEnding};
use thiserror::Error;
use zeroize::Zeroizing;

use self::jwk::Jwk;
use super::clock::Timestamp;

/// The fewest bits a modulus may have (RFC 7518, 3.3).
pub const MIN_BITS: usize = 2048;

const PKCS1_LABEL: &str = "RSA PRIVATE KEY";
const PKCS8_LABEL: &str = "PRIVATE KEY";

/// Key ID (RFC 7515, 4.1.4): `keys.kid` in decimal, given out once and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(pub i64);

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An RSA private key in PKCS#1 form (RFC 8017, A.1.2), wiped from memory when dropped.
pub struct PrivateKey(SecretDocument);

impl PrivateKey {
    /// Makes a key of 2048 bits. Takes tens of milliseconds, sometimes several hundred.
    ///
    /// The randomness is the cryptographic library's own.
    ///
    /// # Errors
    /// [`KeyError::Generation`] when the library fails.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generation)?;
        let pkcs8 = pair.as_der().map_err(|_| KeyError::Generation)?;
        Self::from_pkcs8(pkcs8.as_ref()).map_err(|_| KeyError::Generation)
    }

    /// Reads `-----BEGIN RSA PRIVATE KEY-----`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything else, [`KeyError::TooShort`] below [`MIN_BITS`].
    pub fn from_pkcs1_pem(pem: &str) -> Result<Self, KeyError> {
        match SecretDocument::from_pem(pem.trim()) {
            Ok((PKCS1_LABEL, der)) => {
                let key = Self(der);
                key.public_numbers()?;
                Ok(key)
            }
            _ => Err(KeyError::Malformed),
        }
    }

    /// Reads PKCS#1 PEM or PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`).
    ///
    /// # Errors
    /// [`KeyError`] tells what else it is; [`KeyError::Malformed`] also for numbers that do not fit each other.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = SecretDocument::from_pem(pem.trim()).map_err(|_| KeyError::Malformed)?;
        let key = match label {
            PKCS1_LABEL => Self(der),
            PKCS8_LABEL => Self::from_pkcs8(der.as_bytes())?,
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => return Err(KeyError::Public),
            _ => return Err(KeyError::Malformed),
        };
        key.public_numbers()?;
        RsaKeyPair::from_der(key.0.as_bytes()).map_err(|_| KeyError::Malformed)?;
        Ok(key)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfo::from_der(der).map_err(|_| KeyError::Malformed)?;
        if info.algorithm.oid != pkcs1::ALGORITHM_OID {
            return Err(KeyError::Malformed);
        }
        SecretDocument::try_from(info.private_key).map(Self).map_err(|_| KeyError::Malformed)
    }

    /// The key as PKCS#1 PEM, the text that is sealed into the store.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], which a key that was read or made here does not give.
    pub fn to_pkcs1_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.0.to_pem(PKCS1_LABEL, LineEnding::LF).map_err(|_| KeyError::Malformed)
    }

    fn public_numbers(&self) -> Result<(&[u8], &[u8]), KeyError> {
        let parsed = pkcs1::RsaPrivateKey::from_der(self.0.as_bytes()).map_err(|_| KeyError::Malformed)?;
        let (modulus, exponent) = (parsed.modulus.as_bytes(), parsed.public_exponent.as_bytes());
        let unused_bits = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if modulus.len() * 8 - unused_bits < MIN_BITS {
            return Err(KeyError::TooShort);
        }
        Ok((modulus, exponent))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A private key made ready to sign: parsed once, with the JWS header of its tokens and its public half.
pub struct SigningKey {
    kid: Kid,
    exp: Timestamp,
    pair: RsaKeyPair,
    header: String,
    jwk: Jwk,
}

impl SigningKey {
    /// Parses a key for signing tokens until `exp`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when the numbers do not make an RSA key.
    pub fn new(kid: Kid, exp: Timestamp, key: &PrivateKey) -> Result<Self, KeyError> {
        let (modulus, exponent) = key.public_numbers()?;
        let jwk = jwk::signature_key(kid, modulus, exponent);
        let pair = RsaKeyPair::from_der(key.0.as_bytes()).map_err(|_| KeyError::Malformed)?;
        let header = Header { kid: Some(kid.to_string()), ..Header::new(Algorithm::RS256) };
        let header = serde_json::to_vec(&header).map_err(|_| KeyError::Malformed)?;
        Ok(Self { kid, exp, pair, header: URL_SAFE_NO_PAD.encode(header), jwk })
    }

    /// Which key this is.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// When it expires; no token of it lives longer.
    #[must_use]
    pub fn exp(&self) -> Timestamp {
        self.exp
    }

    /// The public half.
    #[must_use]
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The public half as PEM (`-----BEGIN PUBLIC KEY-----`; RFC 7468, 13).
    pub(super) fn public_pem(&self) -> Result<String, KeyError> {
        let der = self.pair.public_key().as_der().map_err(|_| KeyError::Malformed)?;
        Document::try_from(der.as_ref())
            .and_then(|document| document.to_pem("PUBLIC KEY", LineEnding::LF))
            .map_err(|_| KeyError::Malformed)
    }

    /// The base64url of this key's JWS header: `alg`, `typ`, `kid`.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| KeyError::Signature)?;
        Ok(signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What can go wrong with a key. No variant carries any of it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Encrypted with a password of its own.
    #[error("the key is encrypted: `openssl pkey -in FILE -out PLAIN` takes its password off")]
    Encrypted,
    /// The library could not make a key.
    #[error("no RSA key could be made")]
    Generation,
    /// The text or the numbers are no RSA private key.
    #[error("not an RSA private key in PEM, PKCS#1 or PKCS#8")]
    Malformed,
    /// The public half alone.
    #[error("a public key: the private one is needed")]
    Public,
    /// The library could not sign.
    #[error("the key could not sign")]
    Signature,
    /// Below [`MIN_BITS`].
    #[error("an RSA key of less than {MIN_BITS} bits")]
    TooShort,
}

#[cfg(test)]
mod tests {
    use super::*;

    // 1024 bits, made for this test.
    const SHORT: &str = include_str!("../../../tests/data/rsa-1024.pem");

    #[test]
    fn a_key_survives_the_way_through_pem() {
        let pem = PrivateKey::generate().unwrap().to_pkcs1_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        let again = PrivateKey::from_pkcs1_pem(&pem).unwrap();
        assert_eq!(again.to_pkcs1_pem().unwrap(), pem);
        assert!(SigningKey::new(Kid(1), Timestamp::from_secs(0), &again).is_ok());
    }

    #[test]
    fn a_short_key_and_a_text_that_is_no_key_are_refused() {
        assert_eq!(PrivateKey::from_pkcs1_pem(SHORT).unwrap_err(), KeyError::TooShort);
        for text in ["", "x", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"] {
            assert_eq!(PrivateKey::from_pkcs1_pem(text).unwrap_err(), KeyError::Malformed, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = PrivateKey::generate().unwrap();
        let signing = SigningKey::new(Kid(7), Timestamp::from_secs(0), &key).unwrap();
        assert_eq!(format!("{key:?} {signing:?}"), "PrivateKey SigningKey { kid: Kid(7), .. }");
    }
}
