//! Recognises the formats in which other programs store keys, by their first bytes and the structure of their DER.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs8::der::asn1::AnyRef;
use rsa::pkcs8::der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use zeroize::Zeroizing;

use super::invalid_pem::InvalidPem;
use super::text_encoding::{is_utf16, without_bom};

/// `keytool`'s JKS and JCEKS.
const JAVA_KEYSTORES: [&[u8]; 2] = [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"];

/// The version of a PFX (RFC 7292 §4) and the start of its content.
const PKCS12: &[u8] = b"\x02\x01\x03\x30";

/// A structure in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DerFormat {
    /// `Certificate` or `CertificationRequest`.
    Certificate,
    /// OpenSSL's own structure of a DSA private key.
    DsaPrivate,
    /// `EncryptedPrivateKeyInfo` (RFC 5958 §3).
    EncryptedPkcs8,
    /// `RSAPrivateKey` (RFC 8017 §A.1.2).
    Pkcs1,
    /// `RSAPublicKey` (RFC 8017 §A.1.1).
    Pkcs1Public,
    /// `PrivateKeyInfo` (RFC 5208 §5), and `OneAsymmetricKey` (RFC 5958 §2).
    Pkcs8,
    /// `ECPrivateKey` (RFC 5915 §3).
    Sec1,
    /// `SubjectPublicKeyInfo` (RFC 5280 §4.1).
    Spki,
}

impl DerFormat {
    /// Tells the structures apart by the types of their first elements.
    pub(crate) fn new(der: &[u8]) -> Option<Self> {
        let sequence = AnyRef::from_der(der).ok().filter(|any| any.tag() == Tag::Sequence)?;
        Some(match tags(sequence.value())?.as_slice() {
            [Tag::Integer, Tag::Sequence, Tag::OctetString, ..] => Self::Pkcs8,
            [Tag::Integer, Tag::OctetString, ..] => Self::Sec1,
            [Tag::Integer, Tag::Integer] => Self::Pkcs1Public,
            [Tag::Integer, Tag::Integer, Tag::Integer, Tag::Integer, Tag::Integer, Tag::Integer] => {
                Self::DsaPrivate
            }
            [Tag::Integer, Tag::Integer, Tag::Integer, Tag::Integer, ..] => Self::Pkcs1,
            [Tag::Sequence, Tag::OctetString] => Self::EncryptedPkcs8,
            [Tag::Sequence, Tag::BitString] => Self::Spki,
            [Tag::Sequence, Tag::Sequence, Tag::BitString] => Self::Certificate,
            _ => return None,
        })
    }

    /// Whether it is a private key that is not encrypted.
    pub(crate) fn is_plaintext_private_key(self) -> bool {
        matches!(self, Self::DsaPrivate | Self::Pkcs1 | Self::Pkcs8 | Self::Sec1)
    }

    fn instead_of_pem(self) -> InvalidPem {
        match self {
            Self::Certificate => InvalidPem::Certificate,
            Self::DsaPrivate => InvalidPem::Algorithm,
            Self::EncryptedPkcs8 => InvalidPem::Encrypted,
            Self::Pkcs1 | Self::Pkcs8 | Self::Sec1 => InvalidPem::Der,
            Self::Pkcs1Public | Self::Spki => InvalidPem::DerPublic,
        }
    }
}

/// The types of the elements of a sequence. Ten are enough to tell the structures apart.
fn tags(content: &[u8]) -> Option<Vec<Tag>> {
    let mut reader = SliceReader::new(content).ok()?;
    let mut tags = Vec::new();
    while !reader.is_finished() && tags.len() < 10 {
        tags.push(reader.decode::<AnyRef<'_>>().ok()?.tag());
    }
    Some(tags)
}

/// What an input without a PEM block is instead.
pub(crate) fn instead_of_pem(input: &[u8]) -> InvalidPem {
    if JAVA_KEYSTORES.iter().any(|magic| input.starts_with(magic)) {
        return InvalidPem::JavaKeystore;
    }
    if let Some(format) = DerFormat::new(input) {
        return format.instead_of_pem();
    }
    if is_pkcs12(input) {
        return InvalidPem::Pkcs12;
    }
    if is_utf16(input) {
        return InvalidPem::Utf16;
    }
    let text = without_bom(input).trim_ascii();
    let starts_with = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start.as_bytes()));
    match text {
        [] => InvalidPem::Empty,
        [b'{' | b'[', ..] => InvalidPem::Json,
        _ if starts_with(&["PuTTY-User-Key-File-"]) => InvalidPem::Putty,
        _ if starts_with(&["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]) => InvalidPem::OpenSshPublic,
        _ if is_base64_of_key(text) => InvalidPem::BareBase64,
        _ => InvalidPem::Malformed,
    }
}

/// Also in BER with indefinite lengths, as Java and Windows write it.
fn is_pkcs12(input: &[u8]) -> bool {
    let head = input.get(..input.len().min(16)).unwrap_or_default();
    input.starts_with(b"\x30") && head.windows(PKCS12.len()).any(|window| window == PKCS12)
}

fn is_base64_of_key(text: &[u8]) -> bool {
    let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
    base64.extend(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
    STANDARD.decode(&*base64).map(Zeroizing::new).is_ok_and(|der| DerFormat::new(&der).is_some())
}
