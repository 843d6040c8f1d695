//! Keys as PEM: PKCS#8, PKCS#1 and SEC 1 of private ones, SPKI and PKCS#1 of public ones.

use rsa::pkcs1;
use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::der::asn1::ObjectIdentifier;
use rsa::pkcs8::der::pem::LineEnding;
use rsa::pkcs8::der::{Decode as _, Document, SecretDocument};
use rsa::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use thiserror::Error;
use zeroize::Zeroizing;

use super::algorithm::{Curve, KeyType};
use super::jwk::InvalidJwk;
use super::private_key::PrivateKey;
use super::public_key::PublicKey;

const SPKI: &str = "PUBLIC KEY";
const PKCS8: &str = "PRIVATE KEY";

/// RFC 5480, 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// RFC 8410, 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key as it came, either half.
#[derive(Debug)]
pub enum Key {
    /// Both halves.
    Private(PrivateKey),
    /// The public half alone.
    Public(PublicKey),
}

impl Key {
    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::Private(key) => key.public(),
            Self::Public(key) => key,
        }
    }

    /// Reads a key of any form that is known. Text before it, such as OpenSSL's, is passed over.
    ///
    /// # Errors
    /// [`InvalidPem`] says what else it is.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPem> {
        let text = only_block(text)?;
        let (label, der) = SecretDocument::from_pem(text).map_err(|_| InvalidPem::Malformed)?;
        let der = der.as_bytes();
        match label {
            PKCS8 => private_of_pkcs8(der).map(Self::Private),
            "RSA PRIVATE KEY" => Ok(Self::Private(PrivateKey::of_pkcs1(der)?)),
            "EC PRIVATE KEY" => private_of_sec1(der).map(Self::Private),
            SPKI => public_of_spki(der).map(Self::Public),
            "RSA PUBLIC KEY" => public_of_pkcs1(der).map(Self::Public),
            "ENCRYPTED PRIVATE KEY" => Err(InvalidPem::Encrypted),
            "CERTIFICATE" => Err(InvalidPem::Certificate),
            other => Err(InvalidPem::Label(other.to_owned())),
        }
    }
}

/// A private key as PKCS#8 PEM.
///
/// # Errors
/// [`InvalidJwk::Unwritable`] when the library fails.
pub fn private_pem(key: &PrivateKey) -> Result<Zeroizing<String>, InvalidJwk> {
    let der = SecretDocument::try_from(key.to_pkcs8()?.as_slice()).map_err(|_| InvalidJwk::Unwritable)?;
    der.to_pem(PKCS8, LineEnding::LF).map_err(|_| InvalidJwk::Unwritable)
}

/// A public key as SPKI PEM.
///
/// # Errors
/// [`InvalidJwk::Unwritable`] when the library fails.
pub fn public_pem(key: &PublicKey) -> Result<String, InvalidJwk> {
    let der = Document::try_from(key.to_spki()?.as_slice()).map_err(|_| InvalidJwk::Unwritable)?;
    der.to_pem(SPKI, LineEnding::LF).map_err(|_| InvalidJwk::Unwritable)
}

/// The one key of a file. OpenSSL puts the parameters of a curve before it, and text around it.
fn only_block(text: &str) -> Result<&str, InvalidPem> {
    let parameters = "-----END EC PARAMETERS-----";
    let text = text.split_once(parameters).map_or(text, |(_, rest)| rest);
    let start = text.find("-----BEGIN ").ok_or(InvalidPem::Malformed)?;
    let text = text.get(start..).unwrap_or_default().trim_end();
    if text.matches("-----BEGIN ").count() > 1 {
        return Err(InvalidPem::Several);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(InvalidPem::Encrypted);
    }
    Ok(text)
}

fn private_of_pkcs8(der: &[u8]) -> Result<PrivateKey, InvalidPem> {
    let info = PrivateKeyInfo::from_der(der).map_err(|_| InvalidPem::Malformed)?;
    let key = match kind(&info.algorithm)? {
        KeyType::Rsa => PrivateKey::of_pkcs1(info.private_key),
        KeyType::Ec(curve) => PrivateKey::of_ec_der(curve, der),
        KeyType::Ed25519 => PrivateKey::of_ed25519_pkcs8(der),
    };
    Ok(key?)
}

/// RFC 5915: the curve is said inside, where the library looks whether it is the one it was told.
fn private_of_sec1(der: &[u8]) -> Result<PrivateKey, InvalidPem> {
    let key = Curve::ALL.into_iter().find_map(|curve| PrivateKey::of_ec_der(curve, der).ok());
    key.ok_or(InvalidPem::Algorithm)
}

fn public_of_spki(der: &[u8]) -> Result<PublicKey, InvalidPem> {
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| InvalidPem::Malformed)?;
    let key = info.subject_public_key.as_bytes().ok_or(InvalidPem::Malformed)?;
    match kind(&info.algorithm)? {
        KeyType::Rsa => public_of_pkcs1(key),
        KeyType::Ec(curve) => Ok(PublicKey::ec_point(curve, key)?),
        KeyType::Ed25519 => Ok(PublicKey::ed25519(key.to_vec())?),
    }
}

fn public_of_pkcs1(der: &[u8]) -> Result<PublicKey, InvalidPem> {
    let key = pkcs1::RsaPublicKey::from_der(der).map_err(|_| InvalidPem::Malformed)?;
    Ok(PublicKey::rsa(key.modulus.as_bytes().to_vec(), key.public_exponent.as_bytes().to_vec())?)
}

fn kind(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<KeyType, InvalidPem> {
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

/// RFC 5480, 2.1.1.1.
const fn curve_oid(curve: Curve) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(match curve {
        Curve::P256 => "1.2.840.10045.3.1.7",
        Curve::P384 => "1.3.132.0.34",
        Curve::P521 => "1.3.132.0.35",
    })
}

/// Why a text is no key in PEM. Nothing of it is quoted but its label.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidPem {
    /// Another algorithm or curve.
    #[error("a key of another kind: RSA, EC on P-256, P-384 or P-521, or Ed25519 would do")]
    Algorithm,
    /// A certificate.
    #[error("a certificate: `openssl x509 -in FILE -noout -pubkey` takes its key out")]
    Certificate,
    /// Encrypted with a password of its own.
    #[error("the key is encrypted: `openssl pkey -in FILE -out PLAIN` takes its password off")]
    Encrypted,
    /// The numbers are wrong.
    #[error(transparent)]
    Key(#[from] InvalidJwk),
    /// PEM of something else.
    #[error("PEM of {0:?}, which is no key that is known")]
    Label(String),
    /// No PEM, or what is in it is no DER of that.
    #[error("not a key in PEM")]
    Malformed,
    /// More than one.
    #[error("more than one key or certificate: leave one in the file")]
    Several,
}
