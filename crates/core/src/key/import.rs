//! Reads private keys from elsewhere: the file of `jwksd keys import`, and the rows of another program.

use thiserror::Error;
use zeroize::Zeroizing;

use super::profile::KeyProfile;
use jwksd_jose::algorithm::KeyType;
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::invalid_pem::InvalidPem;
use jwksd_jose::json::SecretJson;
use jwksd_jose::key_encoding::KeyEncoding;
use jwksd_jose::pem::{contains_private_key, read_private_key};
use jwksd_jose::private_key::PrivateKey;

/// Maximum number of encodings around a key: base64 of a JWK in UTF-16, for example.
const MAX_ENCODINGS: usize = 3;

/// Reads a private key that can sign: PEM in any shape, or DER; PKCS#8, PKCS#1 or SEC 1.
///
/// # Errors
/// [`InvalidImport`] for any other input.
pub fn parse(input: &[u8]) -> Result<PrivateKey, InvalidImport> {
    usable(read_private_key(input)?)
}

fn usable(key: PrivateKey) -> Result<PrivateKey, InvalidImport> {
    // The size of an RSA key was checked when the key was read.
    match KeyProfile::unrecorded(key.public()) {
        Some(_) => Ok(key),
        None => Err(InvalidImport::KeyType(key.public().key_type())),
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
    /// A format that protects a key with a password. The reason says how to extract the key.
    Protected(InvalidPem),
    /// No private key that we know: encrypted by another program, or something else.
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
        let protected = if unusable.is_none() { protected(error) } else { None };
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
        match (unusable, protected) {
            (Some(why), _) => Self::UnusableKey(why),
            (None, Some(why)) => Self::Protected(why),
            (None, None) => Self::Unknown,
        }
    }
}

fn protected(error: InvalidImport) -> Option<InvalidPem> {
    use InvalidPem::{Encrypted, JavaKeystore, OpenSsh, Pkcs12, Putty};
    match error {
        InvalidImport::Pem(why @ (Encrypted | JavaKeystore | OpenSsh | Pkcs12 | Putty)) => Some(why),
        _ => None,
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
    /// A key type without an algorithm of ours.
    #[error("this is an {0} key: use RSA, EC P-256, EC P-384 or Ed25519")]
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
    use jwksd_jose::algorithm::Curve;
    use jwksd_jose::pem::{private_pem, public_pem, to_stored_pem};
    use jwksd_jose::private_key::NewKey;

    // 1024 bits, made for this test.
    const SHORT: &str = include_str!("../../../jose/tests/data/rsa-1024.pem");

    #[test]
    fn keys_of_every_type_that_signs_are_read_from_pkcs1_and_pkcs8() {
        for new in [NewKey::Rsa2048, NewKey::Ec(Curve::P256), NewKey::Ec(Curve::P384), NewKey::Ed25519] {
            let key = PrivateKey::generate(new).unwrap();
            for pem in [to_stored_pem(&key).unwrap(), private_pem(&key).unwrap()] {
                assert_eq!(parse(pem.as_bytes()).unwrap().public(), key.public());
            }
        }
    }

    #[test]
    fn other_keys_are_rejected_with_the_reason() {
        let rsa = PrivateKey::generate(NewKey::Rsa2048).unwrap();
        let p521 = private_pem(&PrivateKey::generate(NewKey::Ec(Curve::P521)).unwrap()).unwrap();
        for (pem, message) in [
            (p521.to_string(), "this is an EC P-521 key: use RSA, EC P-256, EC P-384 or Ed25519"),
            (public_pem(rsa.public()).unwrap(), "this is a public key: use the private key"),
            (SHORT.to_owned(), "the RSA key has 1024 bits: use 2048 to 8192"),
            (
                p521.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
                "the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`",
            ),
            (
                p521.replace("PRIVATE KEY", "CERTIFICATE"),
                "this is a certificate, which has only a public key: extract it with `openssl x509 -in FILE -noout -pubkey`",
            ),
            ("x".to_owned(), "not a key in PEM"),
        ] {
            assert_eq!(parse(pem.as_bytes()).unwrap_err().to_string(), message);
        }
    }
}
