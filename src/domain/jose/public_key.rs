//! Public keys: the numbers of a JWK (RFC 7518, 6; RFC 8037, 2), looked at before anything is done with them.
//!
//! What a JWK says about its key beside the numbers is `jwk`; texts in PEM are `pem`.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::BigUint;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Curve, KeyType};
use super::json;
use super::jwk::InvalidJwk;

/// The sizes of an RSA modulus, in bits: the fewest by RFC 7518, 3.3, the most by what the library verifies with.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The longest RSA exponent, in bits, that the library takes.
pub(super) const EXPONENT_BITS: usize = 33;

/// How many bytes an Ed25519 key has, either half.
pub(super) const ED25519_LEN: usize = 32;

/// A public key that can be one: sizes, exponent and curve were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(PublicParameters);

#[derive(Clone, Debug, PartialEq, Eq)]
enum PublicParameters {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

impl PublicKey {
    /// Reads the numbers out of the members of a JWK, and leaves all other members alone.
    ///
    /// # Errors
    /// [`InvalidJwk`] says which number is wrong, and how.
    pub fn of_members(members: &Map<String, Value>) -> Result<Self, InvalidJwk> {
        match text(members, "kty")? {
            "RSA" => Self::rsa(number(members, "n")?, number(members, "e")?),
            "EC" => {
                let crv = text(members, "crv")?;
                let curve = Curve::ALL.into_iter().find(|curve| curve.name() == crv);
                let curve = curve.ok_or_else(|| InvalidJwk::curve("EC", crv))?;
                Self::ec(curve, &bytes(members, "x")?, &bytes(members, "y")?)
            }
            "OKP" => match text(members, "crv")? {
                "Ed25519" => Self::ed25519(bytes(members, "x")?),
                other => Err(InvalidJwk::curve("OKP", other)),
            },
            "oct" => Err(InvalidJwk::Symmetric),
            other => Err(InvalidJwk::kind(other)),
        }
    }

    /// An RSA key, from its big-endian numbers without leading zeros.
    ///
    /// # Errors
    /// [`InvalidJwk`] for a size outside of [`RSA_BITS`], an even modulus, and an exponent that is even, 1 or overlong.
    pub fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, InvalidJwk> {
        let bits = bits(&n);
        if !RSA_BITS.contains(&bits) {
            return Err(InvalidJwk::RsaSize { bits });
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        if !is_odd(&n) {
            return Err(InvalidJwk::EvenModulus);
        }
        if !is_odd(&e) || e == [1] || self::bits(&e) > EXPONENT_BITS {
            return Err(InvalidJwk::Exponent);
        }
        Ok(Self(PublicParameters::Rsa { n, e }))
    }

    /// A key on a curve of ECDSA, from its coordinates with all their leading zeros.
    ///
    /// # Errors
    /// [`InvalidJwk`] for coordinates of another length, and for a point that is not on the curve (RFC 8725, 3.4).
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, InvalidJwk> {
        for (name, coordinate) in [("x", x), ("y", y)] {
            if coordinate.len() != curve.size() {
                return Err(InvalidJwk::Length { member: name, expected: curve.size() });
            }
        }
        ParsedPublicKey::new(curve.verification(), point(x, y))
            .map_err(|_| InvalidJwk::OffCurve(KeyType::Ec(curve)))?;
        Ok(Self(PublicParameters::Ec { curve, x: x.to_vec(), y: y.to_vec() }))
    }

    /// An Ed25519 key (RFC 8032, 5.1.5).
    ///
    /// # Errors
    /// [`InvalidJwk`] for another length, and for what is no point, or a point that signatures of anybody fit.
    pub fn ed25519(x: Vec<u8>) -> Result<Self, InvalidJwk> {
        if x.len() != ED25519_LEN {
            return Err(InvalidJwk::Length { member: "x", expected: ED25519_LEN });
        }
        if !super::edwards::is_sound(&x) {
            return Err(InvalidJwk::OffCurve(KeyType::Ed25519));
        }
        Ok(Self(PublicParameters::Ed25519 { x }))
    }

    /// A key on a curve of ECDSA, from `04 ‖ x ‖ y` (SEC 1, 2.3.3).
    pub(super) fn ec_point(curve: Curve, point: &[u8]) -> Result<Self, InvalidJwk> {
        match point.split_first() {
            Some((4, coordinates)) if coordinates.len() == 2 * curve.size() => {
                let (x, y) = coordinates.split_at(curve.size());
                Self::ec(curve, x, y)
            }
            Some((2 | 3, x)) if x.len() == curve.size() => Err(InvalidJwk::Compressed),
            _ => Err(InvalidJwk::OffCurve(KeyType::Ec(curve))),
        }
    }

    /// What sort of key this is.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match &self.0 {
            PublicParameters::Rsa { .. } => KeyType::Rsa,
            PublicParameters::Ec { curve, .. } => KeyType::Ec(*curve),
            PublicParameters::Ed25519 { .. } => KeyType::Ed25519,
        }
    }

    /// `kty` and the public numbers, each with the name of its member, in the order that people read them.
    #[must_use]
    pub fn members(&self) -> Vec<(&'static str, String)> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.0 {
            PublicParameters::Rsa { n, e } => {
                vec![("kty", "RSA".to_owned()), ("n", encode(n)), ("e", encode(e))]
            }
            PublicParameters::Ec { curve, x, y } => vec![
                ("kty", "EC".to_owned()),
                ("crv", curve.name().to_owned()),
                ("x", encode(x)),
                ("y", encode(y)),
            ],
            PublicParameters::Ed25519 { x } => {
                vec![("kty", "OKP".to_owned()), ("crv", "Ed25519".to_owned()), ("x", encode(x))]
            }
        }
    }

    /// The SHA-256 thumbprint as base64url (RFC 7638, 3; RFC 8037, 2 for Ed25519).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let mut members = self.members();
        members.sort_unstable();
        // Nothing in these names and values needs escaping.
        let members: Vec<_> =
            members.into_iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
        let canonical = format!("{{{}}}", members.join(","));
        URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
    }

    /// Whether this is the signature of that message. An algorithm of another kind of key verifies nothing.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            PublicParameters::Rsa { n, e } => algorithm
                .rsa_verification()
                .is_some_and(|how| PublicKeyComponents { n, e }.verify(how, message, signature).is_ok()),
            PublicParameters::Ec { .. } | PublicParameters::Ed25519 { .. } => {
                algorithm.key_type() == self.key_type()
                    && self.parsed().is_some_and(|key| key.verify_sig(message, signature).is_ok())
            }
        }
    }

    /// `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) in DER.
    ///
    /// # Errors
    /// [`InvalidJwk::Unwritable`], which a key that was read here does not give.
    pub fn to_spki(&self) -> Result<Vec<u8>, InvalidJwk> {
        let der = match &self.0 {
            PublicParameters::Rsa { n, e } => PublicKeyComponents { n, e }.as_der().ok(),
            PublicParameters::Ec { .. } | PublicParameters::Ed25519 { .. } => {
                self.parsed().and_then(|key| key.as_der().ok())
            }
        };
        der.map(|der| der.as_ref().to_vec()).ok_or(InvalidJwk::Unwritable)
    }

    fn parsed(&self) -> Option<ParsedPublicKey> {
        match &self.0 {
            PublicParameters::Rsa { .. } => None,
            PublicParameters::Ec { curve, x, y } => {
                ParsedPublicKey::new(curve.verification(), point(x, y)).ok()
            }
            PublicParameters::Ed25519 { x } => ParsedPublicKey::new(&ED25519, x).ok(),
        }
    }

    /// The modulus and the exponent of an RSA key.
    pub(super) fn rsa_numbers(&self) -> Option<(&[u8], &[u8])> {
        match &self.0 {
            PublicParameters::Rsa { n, e } => Some((n, e)),
            _ => None,
        }
    }

    /// `04 ‖ x ‖ y` of an EC key, the bytes of an Ed25519 key.
    pub(super) fn octets(&self) -> Option<Vec<u8>> {
        match &self.0 {
            PublicParameters::Rsa { .. } => None,
            PublicParameters::Ec { x, y, .. } => Some(point(x, y)),
            PublicParameters::Ed25519 { x } => Some(x.clone()),
        }
    }
}

fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

/// How many bits a big-endian number has.
fn bits(number: &[u8]) -> usize {
    BigUint::from_bytes_be(number).bits()
}

/// A member that must be a string.
pub(super) fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, InvalidJwk> {
    match members.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(InvalidJwk::NotText(name)),
        None => Err(InvalidJwk::Missing(name)),
    }
}

/// A member that must be base64url of some bytes.
pub(super) fn bytes(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, InvalidJwk> {
    let text = text(members, name)?;
    json::bytes(text).filter(|bytes| !bytes.is_empty()).ok_or(InvalidJwk::NotBase64Url(name))
}

/// A member that must be `Base64urlUInt`: no leading zeros (RFC 7518, 2).
pub(super) fn number(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, InvalidJwk> {
    let bytes = bytes(members, name)?;
    if bytes.first() == Some(&0) { Err(InvalidJwk::LeadingZero(name)) } else { Ok(bytes) }
}
