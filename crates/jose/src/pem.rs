//! Keys in PEM (RFC 7468) and DER: private keys as PKCS#8, PKCS#1 or SEC 1, public keys as SPKI or PKCS#1.
//!
//! `pem_block` finds the PEM in a text, `key_format` recognises other formats.

use rsa::pkcs1;
use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::der::asn1::ObjectIdentifier;
use rsa::pkcs8::der::pem::LineEnding;
use rsa::pkcs8::der::{Decode as _, Document, SecretDocument};
use rsa::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use serde_json::Value;
use zeroize::Zeroizing;

use super::algorithm::{Curve, KeyType};
use super::invalid_jwk::InvalidJwk;
use super::invalid_pem::InvalidPem;
use super::json::SecretJson;
use super::key_format::{self, DerFormat};
use super::pem_block::{self, PemBlock};
use super::private_key::PrivateKey;
use super::public_key::PublicKey;

const SPKI: &str = "PUBLIC KEY";
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const PKCS1_PUBLIC: &str = "RSA PUBLIC KEY";
const SEC1: &str = "EC PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const OPENSSH: &str = "OPENSSH PRIVATE KEY";

/// How OpenSSH's format begins if the key is not encrypted.
const OPENSSH_PLAINTEXT: &[u8] = b"openssh-key-v1\0\0\0\0\x04none";

/// RFC 5480 §2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// RFC 4055 §1.2.
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// RFC 8410 §3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A private or public key.
#[derive(Debug)]
pub enum Key {
    /// A private key, which includes its public key.
    Private(PrivateKey),
    /// Only a public key.
    Public(PublicKey),
}

impl Key {
    /// The public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::Private(key) => key.public(),
            Self::Public(key) => key,
        }
    }

    /// Reads a key in any supported form, with lines of any width and any text around it (RFC 7468 §2).
    ///
    /// # Errors
    /// [`InvalidPem`] says what the text is instead.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidPem> {
        let block = PemBlock::only(text)?.ok_or_else(|| key_format::instead_of_pem(text))?;
        match block.label {
            PKCS8 | PKCS1 | SEC1 => private_from_der(&block.decode()?).map(Self::Private),
            SPKI | PKCS1_PUBLIC => public_from_der(&block.decode()?).map(Self::Public),
            "DSA PRIVATE KEY" => Err(InvalidPem::Algorithm),
            ENCRYPTED => Err(InvalidPem::Encrypted),
            "RSA-PSS PRIVATE KEY" => Err(InvalidPem::RsaPss),
            OPENSSH => Err(InvalidPem::OpenSsh),
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => Err(InvalidPem::Certificate),
            other => Err(InvalidPem::Label(other.to_owned())),
        }
    }
}

/// Reads a private key from a file or a row of a database: PEM in any shape, or DER; PKCS#8, PKCS#1 or SEC 1.
///
/// # Errors
/// [`InvalidPem`] says what the input is instead.
pub fn read_private_key(input: &[u8]) -> Result<PrivateKey, InvalidPem> {
    if DerFormat::new(input).is_some_and(DerFormat::is_plaintext_private_key) {
        return private_from_der(input);
    }
    match Key::from_pem(input)? {
        Key::Private(key) => Ok(key),
        Key::Public(_) => Err(InvalidPem::Public),
    }
}

/// Whether the input contains a private key in plaintext, also one that [`read_private_key`] rejects.
#[must_use]
pub fn contains_private_key(input: &[u8]) -> bool {
    if DerFormat::new(input).is_some_and(DerFormat::is_plaintext_private_key) {
        return true;
    }
    let is_plaintext = |label: &str| label.ends_with("PRIVATE KEY") && label != ENCRYPTED;
    if pem_block::boundaries(input).any(|(label, _)| is_plaintext(label)) {
        let Ok(Some(block)) = PemBlock::only(input) else {
            return true;
        };
        return match block.decode() {
            Ok(content) => block.label != OPENSSH || content.starts_with(OPENSSH_PLAINTEXT),
            Err(error) => error != InvalidPem::Encrypted,
        };
    }
    // The format of .NET.
    let has = |part: &[u8]| input.windows(part.len()).any(|window| window == part);
    SecretJson::parse(input).is_ok_and(|json| is_private_jwk(json.reveal()))
        || has(b"<RSAKeyValue>") && has(b"<D>")
}

/// Whether JSON is a private JWK, or a JWK Set with one.
fn is_private_jwk(json: &Value) -> bool {
    let has = |name| json.get(name).is_some();
    let keys = json.get("keys").and_then(Value::as_array);
    has("d") && (has("kty") || has("n")) || keys.is_some_and(|keys| keys.iter().any(is_private_jwk))
}

/// Reads a private key in the form of the `keys` table: PKCS#1 (`-----BEGIN RSA PRIVATE KEY-----`) for RSA, PKCS#8
/// (`-----BEGIN PRIVATE KEY-----`) for all others.
///
/// # Errors
/// [`InvalidPem`] for any other text.
pub fn from_stored_pem(text: &str) -> Result<PrivateKey, InvalidPem> {
    // Not `Key::from_pem`: what a row has sealed must have exactly this form.
    let block = PemBlock::only(text.as_bytes())?.ok_or(InvalidPem::Malformed)?;
    let label = |label: &str| InvalidPem::Label(label.to_owned());
    match block.label {
        PKCS1 => Ok(PrivateKey::from_pkcs1(&block.decode()?)?),
        PKCS8 => {
            let key = private_from_pkcs8(&block.decode()?)?;
            if key.public().key_type() == KeyType::Rsa { Err(label(PKCS8)) } else { Ok(key) }
        }
        other => Err(label(other)),
    }
}

/// A private key in the form that [`from_stored_pem`] reads.
///
/// # Errors
/// [`InvalidJwk::Library`] if aws-lc-rs fails.
pub fn to_stored_pem(key: &PrivateKey) -> Result<Zeroizing<String>, InvalidJwk> {
    match key.to_pkcs1()? {
        Some(der) => secret_pem(PKCS1, &der),
        None => private_pem(key),
    }
}

/// A private key as PKCS#8 PEM.
///
/// # Errors
/// [`InvalidJwk::Library`] if aws-lc-rs fails.
pub fn private_pem(key: &PrivateKey) -> Result<Zeroizing<String>, InvalidJwk> {
    secret_pem(PKCS8, &key.to_pkcs8()?)
}

fn secret_pem(label: &'static str, der: &[u8]) -> Result<Zeroizing<String>, InvalidJwk> {
    let document = SecretDocument::try_from(der).map_err(|_| InvalidJwk::Library)?;
    // LF on every system, so that a key has the same PEM everywhere.
    document.to_pem(label, LineEnding::LF).map_err(|_| InvalidJwk::Library)
}

/// A public key as SPKI PEM.
///
/// # Errors
/// [`InvalidJwk::Library`] if aws-lc-rs fails.
pub fn public_pem(key: &PublicKey) -> Result<String, InvalidJwk> {
    let der = Document::try_from(key.to_spki()?.as_slice()).map_err(|_| InvalidJwk::Library)?;
    der.to_pem(SPKI, LineEnding::LF).map_err(|_| InvalidJwk::Library)
}

/// The structure decides, not the label: some programs label PKCS#1 as PKCS#8.
fn private_from_der(der: &[u8]) -> Result<PrivateKey, InvalidPem> {
    match DerFormat::new(der) {
        Some(DerFormat::Pkcs8) => private_from_pkcs8(der),
        Some(DerFormat::Pkcs1) => Ok(PrivateKey::from_pkcs1(der)?),
        Some(DerFormat::Sec1) => private_from_sec1(der),
        Some(DerFormat::DsaPrivate) => Err(InvalidPem::Algorithm),
        _ => Err(InvalidPem::Damaged),
    }
}

fn public_from_der(der: &[u8]) -> Result<PublicKey, InvalidPem> {
    match DerFormat::new(der) {
        Some(DerFormat::Spki) => public_from_spki(der),
        Some(DerFormat::Pkcs1Public) => public_from_pkcs1(der),
        _ => Err(InvalidPem::Damaged),
    }
}

fn private_from_pkcs8(der: &[u8]) -> Result<PrivateKey, InvalidPem> {
    let info = PrivateKeyInfo::from_der(der).map_err(|_| InvalidPem::Damaged)?;
    let key = match key_type(&info.algorithm)? {
        // For RSA, PKCS#8 contains PKCS#1 (RFC 8017 §A.1.2).
        KeyType::Rsa => PrivateKey::from_pkcs1(info.private_key),
        KeyType::Ec(curve) => PrivateKey::from_ec_der(curve, der),
        KeyType::Ed25519 => PrivateKey::from_ed25519_pkcs8(der),
    };
    Ok(key?)
}

/// Reads RFC 5915. The curve is named inside the DER; aws-lc-rs rejects every other curve.
fn private_from_sec1(der: &[u8]) -> Result<PrivateKey, InvalidPem> {
    let key = Curve::ALL.into_iter().find_map(|curve| PrivateKey::from_ec_der(curve, der).ok());
    key.ok_or(InvalidPem::Algorithm)
}

fn public_from_spki(der: &[u8]) -> Result<PublicKey, InvalidPem> {
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| InvalidPem::Damaged)?;
    let key = info.subject_public_key.as_bytes().ok_or(InvalidPem::Damaged)?;
    match key_type(&info.algorithm)? {
        KeyType::Rsa => public_from_pkcs1(key),
        KeyType::Ec(curve) => Ok(PublicKey::ec_point(curve, key)?),
        KeyType::Ed25519 => Ok(PublicKey::ed25519(key.to_vec())?),
    }
}

fn public_from_pkcs1(der: &[u8]) -> Result<PublicKey, InvalidPem> {
    let key = pkcs1::RsaPublicKey::from_der(der).map_err(|_| InvalidPem::Damaged)?;
    Ok(PublicKey::rsa(key.modulus.as_bytes().to_vec(), key.public_exponent.as_bytes().to_vec())?)
}

fn key_type(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<KeyType, InvalidPem> {
    if algorithm.oid == pkcs1::ALGORITHM_OID {
        return Ok(KeyType::Rsa);
    }
    // Such a key may not sign RS256, and its parameters may restrict it further.
    if algorithm.oid == RSASSA_PSS {
        return Err(InvalidPem::RsaPss);
    }
    if algorithm.oid == ED25519 {
        return Ok(KeyType::Ed25519);
    }
    let curve = algorithm.parameters_oid().ok().filter(|_| algorithm.oid == EC);
    let curve = curve.and_then(|oid| Curve::ALL.into_iter().find(|curve| curve_oid(*curve) == oid));
    curve.map(KeyType::Ec).ok_or(InvalidPem::Algorithm)
}

/// RFC 5480 §2.1.1.1.
const fn curve_oid(curve: Curve) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(match curve {
        Curve::P256 => "1.2.840.10045.3.1.7",
        Curve::P384 => "1.3.132.0.34",
        Curve::P521 => "1.3.132.0.35",
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::private_key::NewKey;

    macro_rules! data {
        ($name:literal) => {
            include_bytes!(concat!("../tests/data/", $name))
        };
    }

    #[test]
    fn a_plaintext_private_key_is_recognised_even_if_it_cannot_be_used() {
        let der = |pem: &[u8]| PemBlock::only(pem).unwrap().unwrap().decode().unwrap().to_vec();
        for (input, is_usable) in [
            (data!("keys/rsa.pem").to_vec(), true),
            (der(data!("keys/rsa.pem")), true),
            (data!("rsa-1024.pem").to_vec(), false),
            (der(data!("rsa-1024.pem")), false),
            (data!("keys/secp256k1.pem").to_vec(), false),
            (data!("keys/ed448.pem").to_vec(), false),
            (data!("keys/rsa-pss.pem").to_vec(), false),
            (data!("keys/three-primes.pem").to_vec(), false),
            (data!("keys/openssh.key").to_vec(), false),
            ([data!("keys/rsa.pem").to_vec(), data!("keys/rsa.pem").to_vec()].concat(), false),
            (br#"{"kty":"OKP","d":"c2VjcmV0"}"#.to_vec(), false),
        ] {
            let shown = String::from_utf8_lossy(&input).into_owned();
            assert!(contains_private_key(&input), "{shown}");
            assert_eq!(read_private_key(&input).is_ok(), is_usable, "{shown}");
        }
    }

    #[test]
    fn a_row_of_keys_holds_pkcs1_for_rsa_and_pkcs8_for_all_others() {
        for (new, label) in [
            (NewKey::Rsa2048, PKCS1),
            (NewKey::Ec(Curve::P256), PKCS8),
            (NewKey::Ec(Curve::P384), PKCS8),
            (NewKey::Ed25519, PKCS8),
        ] {
            let key = PrivateKey::generate(new).unwrap();
            let stored = to_stored_pem(&key).unwrap();
            assert!(stored.starts_with(&format!("-----BEGIN {label}-----\n")), "{new:?}");
            assert_eq!(from_stored_pem(&stored).unwrap().public(), key.public());
        }
        let rsa = private_pem(&PrivateKey::generate(NewKey::Rsa2048).unwrap()).unwrap();
        assert_eq!(from_stored_pem(&rsa).unwrap_err(), InvalidPem::Label(PKCS8.to_owned()));
    }

    #[test]
    fn other_inputs_contain_no_plaintext_private_key() {
        let key = read_private_key(data!("keys/rsa.pem")).unwrap();
        let locked = b"openssh-key-v1\0\0\0\0\x0aaes256-ctr\0\0\0\x06bcrypt";
        let locked = STANDARD.encode(locked);
        let locked =
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{locked}\n-----END OPENSSH PRIVATE KEY-----");
        for input in [
            data!("keys/encrypted-pkcs8.pem").to_vec(),
            data!("keys/encrypted-traditional.pem").to_vec(),
            STANDARD
                .decode(
                    data!("keys/rsa.p12.base64")
                        .trim_ascii()
                        .split(|byte| *byte == b'\n')
                        .collect::<Vec<_>>()
                        .concat(),
                )
                .unwrap(),
            public_pem(key.public()).unwrap().into_bytes(),
            locked.into_bytes(),
            b"gAAAAABfernet".to_vec(),
            Vec::new(),
        ] {
            assert!(!contains_private_key(&input), "{}", String::from_utf8_lossy(&input));
        }
    }
}
