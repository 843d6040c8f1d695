//! Reads private keys from elsewhere: the file of `jwksd keys import`, and the rows of another program.

use rsa::pkcs8::der::SecretDocument;
use rsa::pkcs8::der::pem::LineEnding;
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::jose::algorithm::KeyType;
use crate::domain::jose::invalid_jwk::InvalidJwk;
use crate::domain::jose::pem::{InvalidPem, Key};
use crate::domain::jose::private_key::PrivateKey;

/// The forms of a private key in DER, by their labels in PEM.
const DER_FORMS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// Reads an RSA private key in PEM.
///
/// # Errors
/// [`InvalidImport`] for any other text.
pub fn parse(pem: &str) -> Result<PrivateKey, InvalidImport> {
    match Key::from_pem(pem)? {
        Key::Public(_) => Err(InvalidImport::Public),
        Key::Private(key) => match key.public().key_type() {
            // The size was checked by the PEM reader.
            KeyType::Rsa => Ok(key),
            other => Err(InvalidImport::KeyType(other)),
        },
    }
}

/// What bytes are that jwksd did not seal.
pub(crate) enum Plaintext {
    /// A private key that can sign.
    Key(PrivateKey),
    /// A private key that cannot sign, and why.
    UnusableKey(String),
    /// No private key that we can read: encrypted, or something else.
    Unknown,
}

impl Plaintext {
    /// Reads an RSA private key in PEM or DER, and recognises those that cannot be used.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return match parse(text) {
                Ok(key) => Self::Key(key),
                Err(error) if is_secret(text, &error) => Self::UnusableKey(error.to_string()),
                Err(_) if is_private_jwk(text) => Self::UnusableKey("it is a JWK and not PEM".to_owned()),
                Err(_) => Self::Unknown,
            };
        }
        let readings = DER_FORMS.into_iter().filter_map(|label| Some(parse(&to_pem(label, bytes)?)));
        let mut unusable = Self::Unknown;
        for reading in readings {
            match reading {
                Ok(key) => return Self::Key(key),
                // The other forms of the same bytes are not valid DER.
                Err(InvalidImport::Pem(
                    InvalidPem::Malformed | InvalidPem::Key(InvalidJwk::Inconsistent),
                )) => {}
                Err(error) => unusable = Self::UnusableKey(error.to_string()),
            }
        }
        unusable
    }
}

/// Whether a text that cannot be imported has a private key in the clear.
fn is_secret(text: &str, error: &InvalidImport) -> bool {
    text.contains("PRIVATE KEY-----") && !matches!(error, InvalidImport::Pem(InvalidPem::Encrypted))
}

/// Programs in JavaScript store keys as JWK (RFC 7517), whose `d` is secret.
fn is_private_jwk(text: &str) -> bool {
    serde_json::from_str(text)
        .is_ok_and(|value: Value| value.get("kty").is_some() && value.get("d").is_some())
}

/// DER as PEM, so that one reader checks both.
fn to_pem(label: &'static str, der: &[u8]) -> Option<Zeroizing<String>> {
    SecretDocument::try_from(der).ok()?.to_pem(label, LineEnding::LF).ok()
}

/// Why a key cannot be imported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidImport {
    /// Not an RSA key. The `keys` table can hold only PKCS#1 so far.
    #[error("this is an {0} key: only RSA keys can be imported")]
    KeyType(KeyType),
    /// Not a usable key in PEM.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    /// A public key.
    #[error("this is a public key: import the private key")]
    Public,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::jose::pem::{private_pem, public_pem, to_pkcs1_pem};
    use crate::domain::jose::private_key::NewKey;

    // 1024 bits, made for this test.
    const SHORT: &str = include_str!("../../../tests/data/rsa-1024.pem");

    #[test]
    fn an_rsa_key_is_read_from_pkcs1_and_pkcs8() {
        let key = PrivateKey::generate(NewKey::Rsa2048).unwrap();
        for pem in [to_pkcs1_pem(&key).unwrap(), private_pem(&key).unwrap()] {
            assert_eq!(parse(&pem).unwrap().public(), key.public());
        }
    }

    #[test]
    fn other_keys_are_rejected_with_the_reason() {
        let rsa = PrivateKey::generate(NewKey::Rsa2048).unwrap();
        let ed25519 = private_pem(&PrivateKey::generate(NewKey::Ed25519).unwrap()).unwrap();
        for (pem, message) in [
            (ed25519.to_string(), "this is an Ed25519 key: only RSA keys can be imported"),
            (public_pem(rsa.public()).unwrap(), "this is a public key: import the private key"),
            (SHORT.to_owned(), "the RSA key has 1024 bits: use 2048 to 8192"),
            (
                ed25519.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
                "the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`",
            ),
            (
                ed25519.replace("PRIVATE KEY", "CERTIFICATE"),
                "this is a certificate: extract its key with `openssl x509 -in FILE -noout -pubkey`",
            ),
            ("x".to_owned(), "not a key in PEM"),
        ] {
            assert_eq!(parse(&pem).unwrap_err().to_string(), message);
        }
    }
}
