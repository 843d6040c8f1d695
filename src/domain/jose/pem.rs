//! Keys in PEM (RFC 7468): private keys as PKCS#8, PKCS#1 or SEC 1, public keys as SPKI or PKCS#1.

use rsa::pkcs1;
use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::der::asn1::ObjectIdentifier;
use rsa::pkcs8::der::pem::LineEnding;
use rsa::pkcs8::der::{Decode as _, Document, SecretDocument};
use rsa::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use thiserror::Error;
use zeroize::Zeroizing;

use super::algorithm::{Curve, KeyType};
use super::invalid_jwk::InvalidJwk;
use super::private_key::PrivateKey;
use super::public_key::PublicKey;

const SPKI: &str = "PUBLIC KEY";
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";

/// RFC 5480 §2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

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

    /// Reads a key in any supported form. Text before it, such as OpenSSL's attributes, is skipped.
    ///
    /// # Errors
    /// [`InvalidPem`] says what the text is instead.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPem> {
        let text = only_block(text)?;
        // Zeroised for public keys too: the label is known only after decoding.
        let (label, der) = SecretDocument::from_pem(text).map_err(|_| InvalidPem::Malformed)?;
        let der = der.as_bytes();
        match label {
            PKCS8 => private_from_pkcs8(der).map(Self::Private),
            PKCS1 => Ok(Self::Private(PrivateKey::from_pkcs1(der)?)),
            "EC PRIVATE KEY" => private_from_sec1(der).map(Self::Private),
            SPKI => public_from_spki(der).map(Self::Public),
            "RSA PUBLIC KEY" => public_from_pkcs1(der).map(Self::Public),
            "ENCRYPTED PRIVATE KEY" => Err(InvalidPem::Encrypted),
            "CERTIFICATE" => Err(InvalidPem::Certificate),
            other => Err(InvalidPem::Label(other.to_owned())),
        }
    }
}

/// Reads an RSA private key in PKCS#1 (`-----BEGIN RSA PRIVATE KEY-----`), the form of the `keys` table.
///
/// # Errors
/// [`InvalidPem`] for any other text; white space around the PEM is allowed.
pub fn from_pkcs1_pem(text: &str) -> Result<PrivateKey, InvalidPem> {
    // Not `Key::from_pem`: rows of a database must have exactly this form.
    match SecretDocument::from_pem(text.trim()) {
        Ok((PKCS1, der)) => Ok(PrivateKey::from_pkcs1(der.as_bytes())?),
        Ok((label, _)) => Err(InvalidPem::Label(label.to_owned())),
        Err(_) => Err(InvalidPem::Malformed),
    }
}

/// An RSA private key as PKCS#1 PEM.
///
/// # Errors
/// [`InvalidJwk::Library`] for a key that is not RSA, or if aws-lc-rs fails.
pub fn to_pkcs1_pem(key: &PrivateKey) -> Result<Zeroizing<String>, InvalidJwk> {
    let der = key.to_pkcs1()?.ok_or(InvalidJwk::Library)?;
    secret_pem(PKCS1, &der)
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

/// Finds the only PEM block. OpenSSL writes curve parameters before it, and text around it.
fn only_block(text: &str) -> Result<&str, InvalidPem> {
    let parameters = "-----END EC PARAMETERS-----";
    let text = text.split_once(parameters).map_or(text, |(_, rest)| rest);
    let start = text.find("-----BEGIN ").ok_or(InvalidPem::Malformed)?;
    let text = text.get(start..).unwrap_or_default().trim_end();
    // With two keys in the file, it is unclear which one is meant.
    if text.matches("-----BEGIN ").count() > 1 {
        return Err(InvalidPem::Several);
    }
    // OpenSSL's traditional encryption keeps the label of the plain key and adds this header.
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(InvalidPem::Encrypted);
    }
    Ok(text)
}

fn private_from_pkcs8(der: &[u8]) -> Result<PrivateKey, InvalidPem> {
    let info = PrivateKeyInfo::from_der(der).map_err(|_| InvalidPem::Malformed)?;
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
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| InvalidPem::Malformed)?;
    let key = info.subject_public_key.as_bytes().ok_or(InvalidPem::Malformed)?;
    match key_type(&info.algorithm)? {
        KeyType::Rsa => public_from_pkcs1(key),
        KeyType::Ec(curve) => Ok(PublicKey::ec_point(curve, key)?),
        KeyType::Ed25519 => Ok(PublicKey::ed25519(key.to_vec())?),
    }
}

fn public_from_pkcs1(der: &[u8]) -> Result<PublicKey, InvalidPem> {
    let key = pkcs1::RsaPublicKey::from_der(der).map_err(|_| InvalidPem::Malformed)?;
    Ok(PublicKey::rsa(key.modulus.as_bytes().to_vec(), key.public_exponent.as_bytes().to_vec())?)
}

fn key_type(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<KeyType, InvalidPem> {
    // Only rsaEncryption: keys with the OID of RSASSA-PSS may not sign RS256.
    if algorithm.oid == pkcs1::ALGORITHM_OID {
        return Ok(KeyType::Rsa);
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

/// Why a text is not a usable key in PEM. Errors quote only the label.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidPem {
    /// The algorithm or curve is not supported.
    #[error("the key type is not supported: use RSA, EC on P-256, P-384 or P-521, or Ed25519")]
    Algorithm,
    /// A certificate.
    #[error("this is a certificate: extract its key with `openssl x509 -in FILE -noout -pubkey`")]
    Certificate,
    /// A key that is encrypted with a password.
    #[error("the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`")]
    Encrypted,
    /// The key parameters are invalid.
    #[error(transparent)]
    Key(#[from] InvalidJwk),
    /// PEM with another label.
    #[error("this is PEM with the label {0:?}, which is not a supported key")]
    Label(String),
    /// Not PEM, or its content is not valid DER.
    #[error("not a key in PEM")]
    Malformed,
    /// More than one PEM block.
    #[error("more than one key or certificate: leave only one in the file")]
    Several,
}
