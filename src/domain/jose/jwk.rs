//! A public key as a JWK (RFC 7517, 4) for verifying signatures: the one form in which a key comes from outside.
//!
//! Its numbers are `public`; a private key as a JWK is `private`; several of them are `set`.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use super::algorithm::{Algorithm, KeyType};
use super::public_key::{EXPONENT_BITS, PublicKey, RSA_BITS, text};

/// The members that hold private numbers, of any kind of key (RFC 7518, 6.2.2, 6.3.2 and 6.4; RFC 8037, 2).
pub const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The members beside the numbers that say something about the public half, and stay with it.
const PUBLIC_MEMBERS: [&str; 12] =
    ["kty", "use", "alg", "kid", "crv", "x", "y", "n", "e", "x5c", "x5t", "x5t#S256"];

/// The longest `kid`, in bytes: one goes into every token.
const KID_MAX: usize = 256;

/// How much of a foreign value an error quotes.
const QUOTED: usize = 40;

/// A public key for verifying signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicJwk {
    key: PublicKey,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
}

impl PublicJwk {
    /// Puts together a JWK of our own.
    ///
    /// # Errors
    /// [`InvalidJwk`] for a `kid` that cannot be one, and an algorithm that is not for this kind of key.
    pub fn new(key: PublicKey, kid: String, algorithm: Algorithm) -> Result<Self, InvalidJwk> {
        check_kid(&kid)?;
        if algorithm.key_type() != key.key_type() {
            return Err(InvalidJwk::algorithm(algorithm.name(), key.key_type()));
        }
        Ok(Self { key, kid: Some(kid), algorithm: Some(algorithm) })
    }

    /// Reads a JWK. Members it does not know are left aside (RFC 7517, 4).
    ///
    /// # Errors
    /// [`InvalidJwk`] for a key that is private, symmetric, weak, not for signatures, or none. No private number is
    /// quoted.
    pub fn parse(value: &Value) -> Result<Self, InvalidJwk> {
        let members = value.as_object().ok_or(InvalidJwk::NoObject)?;
        if members.get("kty").and_then(Value::as_str) == Some("oct") {
            return Err(InvalidJwk::Symmetric);
        }
        if let Some(name) = PRIVATE_MEMBERS.into_iter().find(|name| members.contains_key(*name)) {
            return Err(InvalidJwk::Private(name));
        }
        let key = PublicKey::of_members(members)?;
        check_purpose(members, "verify")?;
        let (kid, algorithm) = (kid(members)?, algorithm(members, key.key_type())?);
        Ok(Self { key, kid, algorithm })
    }

    /// The numbers.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Which key this is, if it says so.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that it is for, if it says so.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }
}

/// What can be relied on, in the order that people read it: no member that was not understood.
impl Serialize for PublicJwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut numbers = self.key.members().into_iter();
        if let Some((name, value)) = numbers.next() {
            map.serialize_entry(name, &value)?;
        }
        map.serialize_entry("use", "sig")?;
        if let Some(algorithm) = self.algorithm {
            map.serialize_entry("alg", algorithm.name())?;
        }
        if let Some(kid) = &self.kid {
            map.serialize_entry("kid", kid)?;
        }
        for (name, value) in numbers {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

/// The public half of any asymmetric JWK, whatever it is for: the members that are known to be public, and no other.
///
/// # Errors
/// [`InvalidJwk`] when the public numbers are no key.
pub fn to_public(value: &Value) -> Result<Value, InvalidJwk> {
    let members = value.as_object().ok_or(InvalidJwk::NoObject)?;
    PublicKey::of_members(members)?;
    let mut half: Map<_, _> = members
        .iter()
        .filter(|(name, value)| PUBLIC_MEMBERS.contains(&name.as_str()) && is_plain(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(Value::Array(operations)) = members.get("key_ops") {
        let mut public: Vec<_> =
            operations.iter().filter_map(Value::as_str).filter_map(public_operation).collect();
        public.sort_unstable();
        public.dedup();
        half.insert("key_ops".to_owned(), public.into());
    }
    Ok(Value::Object(half))
}

/// A text, or certificates: anything could be hidden in what is nested.
fn is_plain(name: &str, value: &Value) -> bool {
    let is_list = || value.as_array().is_some_and(|texts| texts.iter().all(Value::is_string));
    value.is_string() || (name == "x5c" && is_list())
}

/// What the public half does where the private one does this (RFC 7517, 4.3).
fn public_operation(operation: &str) -> Option<&str> {
    match operation {
        "sign" | "verify" => Some("verify"),
        "decrypt" | "encrypt" => Some("encrypt"),
        "unwrapKey" | "wrapKey" => Some("wrapKey"),
        _ => None,
    }
}

/// `use` and `key_ops` must allow signatures, where they are there (RFC 7517, 4.2 and 4.3).
pub(super) fn check_purpose(members: &Map<String, Value>, operation: &'static str) -> Result<(), InvalidJwk> {
    if members.contains_key("use") {
        let purpose = text(members, "use")?;
        if purpose != "sig" {
            return Err(InvalidJwk::Use(quoted(purpose)));
        }
    }
    match members.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|name| name == operation) => Ok(()),
        Some(_) => Err(InvalidJwk::KeyOps(operation)),
    }
}

pub(super) fn kid(members: &Map<String, Value>) -> Result<Option<String>, InvalidJwk> {
    if !members.contains_key("kid") {
        return Ok(None);
    }
    let kid = text(members, "kid")?;
    check_kid(kid)?;
    Ok(Some(kid.to_owned()))
}

/// Whether a token and a set could call a key this.
///
/// # Errors
/// [`InvalidJwk::Kid`] for an empty or overlong one, and one with control characters.
pub fn check_kid(kid: &str) -> Result<(), InvalidJwk> {
    let fits = !kid.is_empty() && kid.len() <= KID_MAX && !kid.contains(char::is_control);
    if fits { Ok(()) } else { Err(InvalidJwk::Kid) }
}

pub(super) fn algorithm(
    members: &Map<String, Value>,
    kind: KeyType,
) -> Result<Option<Algorithm>, InvalidJwk> {
    if !members.contains_key("alg") {
        return Ok(None);
    }
    let name = text(members, "alg")?;
    let fitting = Algorithm::named(name).filter(|algorithm| algorithm.key_type() == kind);
    fitting.map(Some).ok_or_else(|| InvalidJwk::algorithm(name, kind))
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

/// Why something is no key that can be worked with. No private number is in it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidJwk {
    /// `alg` names no algorithm of this kind of key.
    #[error("\"alg\" is {name:?}, which is none for an {kind} key: {} would do", kind.algorithms())]
    Algorithm {
        /// What it names.
        name: String,
        /// The kind of the key.
        kind: KeyType,
    },
    /// A point written as one coordinate and a sign.
    #[error("the point is compressed: `openssl ec -pubin -conv_form uncompressed` writes it out")]
    Compressed,
    /// `crv` names no curve that is known.
    #[error("\"crv\" is {crv:?}: {} would do", if kty == &"EC" { "P-256, P-384 or P-521" } else { "Ed25519" })]
    Curve {
        /// The kind of key.
        kty: &'static str,
        /// What it names.
        crv: String,
    },
    /// The modulus is even, so that it has been factored.
    #[error("the RSA modulus is even")]
    EvenModulus,
    /// The exponent is even, 1, or longer than the library takes.
    #[error("the RSA exponent must be odd, 3 or more, and have {EXPONENT_BITS} bits at most; 65537 is usual")]
    Exponent,
    /// The private numbers do not belong to each other or to the public ones.
    #[error("the private and the public numbers do not fit each other")]
    Inconsistent,
    /// `key_ops` does not allow this.
    #[error("\"key_ops\" does not say {0:?}")]
    KeyOps(&'static str),
    /// A `kid` that is empty, overlong or has control characters.
    #[error("\"kid\" must have 1 to {KID_MAX} bytes and no control characters")]
    Kid,
    /// `kty` names no kind of key that is known.
    #[error("\"kty\" is {0:?}: RSA, EC or OKP would do")]
    Kind(String),
    /// A number is written with a leading zero (RFC 7518, 2).
    #[error("{0:?} begins with a zero byte: a number is written without any")]
    LeadingZero(&'static str),
    /// A coordinate, or a private number of a curve, has another length.
    #[error("{member:?} must have {expected} bytes")]
    Length {
        /// Which.
        member: &'static str,
        /// How many bytes it must have.
        expected: usize,
    },
    /// A member that must be there.
    #[error("{0:?} is missing")]
    Missing(&'static str),
    /// An RSA key of more than two primes.
    #[error("an RSA key of more than two primes (\"oth\") is not supported")]
    MultiPrime,
    /// JSON of another type.
    #[error("a JWK is a JSON object")]
    NoObject,
    /// A JWK Set where one key is wanted.
    #[error("a JWK Set, where one key is wanted: take one out of its \"keys\"")]
    Set,
    /// Not base64url without padding and in its one form.
    #[error("{0:?} must be base64url without padding")]
    NotBase64Url(&'static str),
    /// A member that must be a string.
    #[error("{0:?} must be a string")]
    NotText(&'static str),
    /// A point that is not on its curve, or that is worthless on it.
    #[error("the point is not a public key on the curve of {0}")]
    OffCurve(KeyType),
    /// A private key where a public one is wanted.
    #[error("a private key (it has {0:?}), where the public one is wanted: `jwksd jwk public` strips it")]
    Private(&'static str),
    /// The public half where the private one is wanted.
    #[error("a public key (it has no \"d\"), where the private one is wanted")]
    Public,
    /// The size of an RSA modulus.
    #[error("an RSA key of {bits} bits: {} to {} would do", RSA_BITS.start(), RSA_BITS.end())]
    RsaSize {
        /// How many it has.
        bits: usize,
    },
    /// Some of the five numbers that make RSA quick (RFC 7518, 6.3.2).
    #[error("\"p\", \"q\", \"dp\", \"dq\" and \"qi\" must be there all or not at all")]
    SomePrimes,
    /// A shared secret.
    #[error(
        "a symmetric key (\"kty\" is \"oct\"): it has no public half, and whoever verifies with it can sign"
    )]
    Symmetric,
    /// The library could not write it.
    #[error("the key could not be written")]
    Unwritable,
    /// `use` is for something else.
    #[error("\"use\" is {0:?}, and not \"sig\"")]
    Use(String),
}

impl InvalidJwk {
    pub(super) fn algorithm(name: &str, kind: KeyType) -> Self {
        Self::Algorithm { name: quoted(name), kind }
    }

    pub(super) fn curve(kty: &'static str, crv: &str) -> Self {
        Self::Curve { kty, crv: quoted(crv) }
    }

    pub(super) fn kind(kty: &str) -> Self {
        Self::Kind(quoted(kty))
    }
}
