//! A public key as a JWK for verifying signatures (RFC 7517 §4). Our own keys and external keys are published as this.
//!
//! `public_key` has the parameters, `private_key` the private JWK, `jwk_set` the JWK Set.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::invalid_jwk::InvalidJwk;
use super::members::{self, PRIVATE_MEMBERS};
use super::public_key::PublicKey;

/// The members that [`to_public`] keeps. All of them are known to be public.
const PUBLIC_MEMBERS: [&str; 12] =
    ["kty", "use", "alg", "kid", "crv", "x", "y", "n", "e", "x5c", "x5t", "x5t#S256"];

/// A public key for verifying signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    key: PublicKey,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
}

impl Jwk {
    /// Names a key and binds it to one algorithm.
    ///
    /// # Errors
    /// [`InvalidJwk`] for an invalid `kid`, and for an algorithm that does not fit the key type.
    pub fn new(key: PublicKey, kid: String, algorithm: Algorithm) -> Result<Self, InvalidJwk> {
        members::check_kid(&kid)?;
        if algorithm.key_type() != key.key_type() {
            return Err(InvalidJwk::algorithm(algorithm.name(), key.key_type()));
        }
        Ok(Self { key, kid: Some(kid), algorithm: Some(algorithm) })
    }

    /// Reads a public JWK. Unknown members are ignored (RFC 7517 §4).
    ///
    /// # Errors
    /// [`InvalidJwk`] for a key that is private, symmetric, weak, malformed, or not for signatures.
    pub fn parse(value: &Value) -> Result<Self, InvalidJwk> {
        let members = value.as_object().ok_or(InvalidJwk::NotObject)?;
        // Checked first: there is no public key to extract from a symmetric key, unlike from a private one.
        if members.get("kty").and_then(Value::as_str) == Some("oct") {
            return Err(InvalidJwk::Symmetric);
        }
        if let Some(name) = PRIVATE_MEMBERS.into_iter().find(|name| members.contains_key(*name)) {
            return Err(InvalidJwk::Private(name));
        }
        let key = PublicKey::from_members(members)?;
        members::check_purpose(members, "verify")?;
        let (kid, algorithm) = (members::kid(members)?, members::algorithm(members, key.key_type())?);
        Ok(Self { key, kid, algorithm })
    }

    /// The key parameters.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The `kid`, if present.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The `alg`, if present.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }
}

/// Writes only members that were understood and checked, `kty` first.
impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut parameters = self.key.members().into_iter();
        if let Some((name, value)) = parameters.next() {
            map.serialize_entry(name, &value)?;
        }
        // Keys for other purposes are never read, so `use` is known.
        map.serialize_entry("use", "sig")?;
        if let Some(algorithm) = self.algorithm {
            map.serialize_entry("alg", algorithm.name())?;
        }
        if let Some(kid) = &self.kid {
            map.serialize_entry("kid", kid)?;
        }
        for (name, value) in parameters {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

/// The public JWK of any asymmetric JWK, whatever its `use`. Keeps only members that are known to be public.
///
/// # Errors
/// [`InvalidJwk`] if the public parameters are invalid.
pub fn to_public(value: &Value) -> Result<Value, InvalidJwk> {
    let members = value.as_object().ok_or(InvalidJwk::NotObject)?;
    PublicKey::from_members(members)?;
    let mut public: Map<_, _> = members
        .iter()
        .filter(|(name, value)| PUBLIC_MEMBERS.contains(&name.as_str()) && is_plain(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(Value::Array(operations)) = members.get("key_ops") {
        let mut allowed: Vec<_> =
            operations.iter().filter_map(Value::as_str).filter_map(public_operation).collect();
        // "sign" and "verify" both become "verify", and RFC 7517 §4.3 forbids duplicates.
        allowed.sort_unstable();
        allowed.dedup();
        public.insert("key_ops".to_owned(), allowed.into());
    }
    Ok(Value::Object(public))
}

/// Whether a member is a string or a list of certificates. Nested values could hide private parameters.
fn is_plain(name: &str, value: &Value) -> bool {
    let is_list = || value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    value.is_string() || (name == "x5c" && is_list())
}

/// The public-key operation that corresponds to an operation (RFC 7517 §4.3).
fn public_operation(operation: &str) -> Option<&str> {
    match operation {
        "sign" | "verify" => Some("verify"),
        "decrypt" | "encrypt" => Some("encrypt"),
        "unwrapKey" | "wrapKey" => Some("wrapKey"),
        _ => None,
    }
}
