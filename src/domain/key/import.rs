//! Reads private keys from elsewhere: the file of `jwksd keys import`, and the rows of another program.

use thiserror::Error;

use zeroize::Zeroizing;

use crate::domain::jose::algorithm::KeyType;
use crate::domain::jose::invalid_jwk::InvalidJwk;
use crate::domain::jose::invalid_pem::InvalidPem;
use crate::domain::jose::json::SecretJson;
use crate::domain::jose::key_encoding::KeyEncoding;
use crate::domain::jose::pem::{contains_private_key, read_private_key};
use crate::domain::jose::private_key::PrivateKey;

/// Maximum number of encodings around a key: base64 of a JWK in UTF-16, for example.
const MAX_ENCODINGS: usize = 3;

/// Reads an RSA private key: PEM in any shape, or DER; PKCS#8 or PKCS#1.
///
/// # Errors
/// [`InvalidImport`] for any other input.
pub fn parse(input: &[u8]) -> Result<PrivateKey, InvalidImport> {
    usable(read_private_key(input)?)
}

fn usable(key: PrivateKey) -> Result<PrivateKey, InvalidImport> {
    match key.public().key_type() {
        // The size was checked when the key was read.
        KeyType::Rsa => Ok(key),
        other => Err(InvalidImport::KeyType(other)),
    }
}

/// What bytes are that jwksd did not seal.
pub(crate) enum Plaintext {
    /// A private key that can sign.
    Key(PrivateKey),
    /// A private key that could sign, in encodings that `jwksd keys import` does not read, the outer ones first.
    EncodedKey(Vec<KeyEncoding>),
    /// A private key that cannot sign, and why.
    UnusableKey(String),
    /// No private key that we can read: encrypted, or something else.
    Unknown,
}

impl Plaintext {
    /// Reads what `jwksd keys import` reads, and recognises private keys that cannot be used.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let error = match parse(bytes) {
            Ok(key) => return Self::Key(key),
            Err(error) => error,
        };
        let mut unusable = contains_private_key(bytes).then(|| error.to_string());
        let mut encodings = Vec::new();
        let mut content = Zeroizing::new(bytes.to_vec());
        while encodings.len() < MAX_ENCODINGS
            && let Some((encoding, inner, read)) = without_encoding(&content)
        {
            encodings.push(encoding);
            content = inner;
            match read {
                Ok(_) => return Self::EncodedKey(encodings),
                // The innermost reason says the most.
                Err(error) if encoding == KeyEncoding::Jwk || contains_private_key(&content) => {
                    unusable = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
        unusable.map_or(Self::Unknown, Self::UnusableKey)
    }
}

/// What reading a key gave.
type Read = Result<PrivateKey, InvalidImport>;

/// Removes one encoding. Returns what is inside, and the key if it is one.
fn without_encoding(content: &[u8]) -> Option<(KeyEncoding, Zeroizing<Vec<u8>>, Read)> {
    if let Some(read) = read_jwk(content) {
        return Some((KeyEncoding::Jwk, Zeroizing::default(), read));
    }
    let (encoding, inner) = KeyEncoding::decode(content)?;
    let read = parse(&inner);
    Some((encoding, inner, read))
}

/// Reads a private key in JSON (RFC 7518 §6); `None` for any other input.
fn read_jwk(input: &[u8]) -> Option<Result<PrivateKey, InvalidImport>> {
    let json = SecretJson::parse(input).ok()?;
    let members = json.reveal().as_object().filter(|members| members.contains_key("d"))?;
    Some(PrivateKey::from_members(members).map_err(InvalidImport::Jwk).and_then(usable))
}

/// Why a key cannot be imported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidImport {
    /// Not an RSA key. The `keys` table can hold only PKCS#1 so far.
    #[error("this is an {0} key: only RSA keys can be imported")]
    KeyType(KeyType),
    /// Not a usable private JWK.
    #[error(transparent)]
    Jwk(InvalidJwk),
    /// Not a usable private key.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
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
            assert_eq!(parse(pem.as_bytes()).unwrap().public(), key.public());
        }
    }

    #[test]
    fn other_keys_are_rejected_with_the_reason() {
        let rsa = PrivateKey::generate(NewKey::Rsa2048).unwrap();
        let ed25519 = private_pem(&PrivateKey::generate(NewKey::Ed25519).unwrap()).unwrap();
        for (pem, message) in [
            (ed25519.to_string(), "this is an Ed25519 key: only RSA keys can be imported"),
            (public_pem(rsa.public()).unwrap(), "this is a public key: use the private key"),
            (SHORT.to_owned(), "the RSA key has 1024 bits: use 2048 to 8192"),
            (
                ed25519.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
                "the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`",
            ),
            (
                ed25519.replace("PRIVATE KEY", "CERTIFICATE"),
                "this is a certificate, which has only a public key: extract it with `openssl x509 -in FILE -noout -pubkey`",
            ),
            ("x".to_owned(), "not a key in PEM"),
        ] {
            assert_eq!(parse(pem.as_bytes()).unwrap_err().to_string(), message);
        }
    }
}
