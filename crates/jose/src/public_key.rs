//! Public keys: the parameters of a JWK (RFC 7518 §6, RFC 8037 §2), checked when they are read.
//!
//! `jwk` adds the metadata of a JWK (`kid`, `alg`); `pem` reads and writes PEM.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::BigUint;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Curve, ED25519_LEN, KeyType, RSA_BITS, RSA_EXPONENT_BITS};
use super::ed25519;
use super::invalid_jwk::InvalidJwk;
use super::members::{bytes, number, text};

/// A public key with valid parameters: sizes, exponent and curve point are checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(PublicParameters);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PublicParameters {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

impl PublicKey {
    /// Reads the key parameters of a JWK and ignores all other members.
    ///
    /// # Errors
    /// [`InvalidJwk`] names the first invalid parameter.
    pub fn from_members(members: &Map<String, Value>) -> Result<Self, InvalidJwk> {
        // A set has no "kty" itself.
        if members.get("keys").is_some_and(Value::is_array) && !members.contains_key("kty") {
            return Err(InvalidJwk::Set);
        }
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
            other => Err(InvalidJwk::key_type(other)),
        }
    }

    /// An RSA key from its modulus and exponent, big-endian without leading zeros.
    ///
    /// # Errors
    /// [`InvalidJwk`] for a size outside `RSA_BITS`, an even modulus, and an exponent that is even, 1 or too long.
    pub fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, InvalidJwk> {
        let bits = bits(&n);
        if !RSA_BITS.contains(&bits) {
            return Err(InvalidJwk::RsaSize { bits });
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        // An even modulus has the factor 2.
        if !is_odd(&n) {
            return Err(InvalidJwk::EvenModulus);
        }
        // With e = 1, every message is its own signature.
        if !is_odd(&e) || e == [1] || self::bits(&e) > RSA_EXPONENT_BITS {
            return Err(InvalidJwk::Exponent);
        }
        Ok(Self(PublicParameters::Rsa { n, e }))
    }

    /// An ECDSA key from its coordinates, which keep their leading zeros.
    ///
    /// # Errors
    /// [`InvalidJwk`] for coordinates of the wrong length, and for a point off the curve (RFC 8725 §3.4).
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, InvalidJwk> {
        for (name, coordinate) in [("x", x), ("y", y)] {
            if coordinate.len() != curve.size() {
                return Err(InvalidJwk::Length { member: name, expected: curve.size() });
            }
        }
        // aws-lc-rs checks that the point is on the curve.
        ParsedPublicKey::new(curve.verification(), point(x, y))
            .map_err(|_| InvalidJwk::OffCurve(KeyType::Ec(curve)))?;
        Ok(Self(PublicParameters::Ec { curve, x: x.to_vec(), y: y.to_vec() }))
    }

    /// An Ed25519 key (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`InvalidJwk`] for the wrong length, a point off the curve, a non-canonical encoding, and a point of small order.
    pub fn ed25519(x: Vec<u8>) -> Result<Self, InvalidJwk> {
        if x.len() != ED25519_LEN {
            return Err(InvalidJwk::Length { member: "x", expected: ED25519_LEN });
        }
        if !ed25519::is_valid_public_key(&x) {
            return Err(InvalidJwk::OffCurve(KeyType::Ed25519));
        }
        Ok(Self(PublicParameters::Ed25519 { x }))
    }

    /// An ECDSA key from its uncompressed point `04 ‖ x ‖ y` (SEC 1 §2.3.3).
    pub(crate) fn ec_point(curve: Curve, point: &[u8]) -> Result<Self, InvalidJwk> {
        match point.split_first() {
            Some((4, coordinates)) if coordinates.len() == 2 * curve.size() => {
                let (x, y) = coordinates.split_at(curve.size());
                Self::ec(curve, x, y)
            }
            // SEC 1 §2.3.3: 2 and 3 mark a compressed point.
            Some((2 | 3, x)) if x.len() == curve.size() => Err(InvalidJwk::Compressed),
            _ => Err(InvalidJwk::OffCurve(KeyType::Ec(curve))),
        }
    }

    /// The type of this key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match &self.0 {
            PublicParameters::Rsa { .. } => KeyType::Rsa,
            PublicParameters::Ec { curve, .. } => KeyType::Ec(*curve),
            PublicParameters::Ed25519 { .. } => KeyType::Ed25519,
        }
    }

    /// `kty` and the public parameters as JWK members, in the order they are displayed.
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

    /// The SHA-256 thumbprint as base64url (RFC 7638 §3; RFC 8037 §2 for Ed25519).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let mut members = self.members();
        // RFC 7638 §3.2 requires lexicographic order.
        members.sort_unstable();
        // Names and base64url values need no JSON escaping.
        let members: Vec<_> =
            members.into_iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
        let canonical = format!("{{{}}}", members.join(","));
        URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
    }

    /// Whether this is a valid signature of the message. False if the algorithm does not fit the key type.
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

    /// `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7) in DER.
    ///
    /// # Errors
    /// [`InvalidJwk::Library`] if aws-lc-rs cannot encode the key.
    pub fn to_spki(&self) -> Result<Vec<u8>, InvalidJwk> {
        let der = match &self.0 {
            PublicParameters::Rsa { n, e } => PublicKeyComponents { n, e }.as_der().ok(),
            PublicParameters::Ec { .. } | PublicParameters::Ed25519 { .. } => {
                self.parsed().and_then(|key| key.as_der().ok())
            }
        };
        der.map(|der| der.as_ref().to_vec()).ok_or(InvalidJwk::Library)
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

    /// The size of the modulus of an RSA key in bits.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<usize> {
        self.rsa_parameters().map(|(n, _)| bits(n))
    }

    /// The modulus and exponent of an RSA key.
    pub(crate) fn rsa_parameters(&self) -> Option<(&[u8], &[u8])> {
        match &self.0 {
            PublicParameters::Rsa { n, e } => Some((n, e)),
            _ => None,
        }
    }

    /// The bytes of the key without any structure: the modulus of an RSA key, the uncompressed point of an ECDSA key, or the
    /// bytes of an Ed25519 key.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        match &self.0 {
            PublicParameters::Rsa { n, .. } => n.clone(),
            PublicParameters::Ec { x, y, .. } => point(x, y),
            PublicParameters::Ed25519 { x } => x.clone(),
        }
    }

    /// The uncompressed point of an ECDSA key, or the bytes of an Ed25519 key.
    pub(crate) fn octets(&self) -> Option<Vec<u8>> {
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

/// The size in bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    BigUint::from_bytes_be(number).bits()
}
