//! Strict JSON and base64url, which have only one reading.
//!
//! Duplicate members are rejected (RFC 7515 §4, RFC 7519 §4), and so is base64url with padding, another alphabet or
//! trailing bits (RFC 7515 §2). Otherwise two parsers could see two different tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroize;

use super::invalid_pem::InvalidPem;
use super::key_format;
use super::pem_block;
use super::text_encoding::without_bom;

/// Why a text was rejected. Errors quote no values.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidJson {
    /// Not JSON, or a duplicate member.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// A key in DER.
    #[error(
        "this is DER, not JSON: convert it with `openssl pkey -inform DER -in FILE -out KEY.pem`, and then with \
         `jwksd jwk from-pem KEY.pem`"
    )]
    Der,
    /// A key or certificate in another format.
    #[error(transparent)]
    Key(InvalidPem),
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotObject,
    /// A key in PEM.
    #[error("this is PEM, not JSON: convert the key with `jwksd jwk from-pem FILE`")]
    Pem,
    /// Text in UTF-16.
    #[error("this is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8 FILE >KEY.json`")]
    Utf16,
}

/// Reads JSON from a file or a message. Skips a byte order mark, as RFC 8259 §8.1 allows, and names other formats of keys.
///
/// # Errors
/// [`InvalidJson`].
pub fn document(text: &[u8]) -> Result<Value, InvalidJson> {
    value(without_bom(text)).map_err(|error| {
        if pem_block::boundaries(text).next().is_some() {
            return InvalidJson::Pem;
        }
        match key_format::instead_of_pem(text) {
            InvalidPem::Utf16 => InvalidJson::Utf16,
            InvalidPem::Der | InvalidPem::DerPublic => InvalidJson::Der,
            InvalidPem::Empty | InvalidPem::Json | InvalidPem::Malformed => error,
            other => InvalidJson::Key(other),
        }
    })
}

/// Whether a file begins like a JSON object. Other formats of keys never do.
#[must_use]
pub fn begins_like_object(text: &[u8]) -> bool {
    without_bom(text).trim_ascii_start().starts_with(b"{")
}

/// Reads JSON that another program must read as we do, such as a part of a token: without a byte order mark.
///
/// # Errors
/// [`InvalidJson::Json`] for malformed JSON, and for a duplicate member at any depth.
pub fn value(text: &[u8]) -> Result<Value, InvalidJson> {
    // serde_json limits the depth, so that nested input cannot exhaust the stack.
    serde_json::from_slice::<Strict>(text)
        .map(|read| read.0)
        .map_err(|error| InvalidJson::Json(error.to_string()))
}

/// Reads a JSON object.
///
/// # Errors
/// As [`value`], and [`InvalidJson::NotObject`] for any other JSON type.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, InvalidJson> {
    match value(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(InvalidJson::NotObject),
    }
}

/// Decodes base64url; `None` unless the text is the canonical encoding of its bytes.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// JSON that may contain private parameters. Its strings are zeroised when it is dropped.
pub struct SecretJson(Value);

impl SecretJson {
    /// Reads JSON, as [`document`] does.
    ///
    /// # Errors
    /// As [`document`].
    pub fn parse(text: &[u8]) -> Result<Self, InvalidJson> {
        document(text).map(Self)
    }

    /// Wraps a JSON value.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The JSON value.
    #[must_use]
    pub fn reveal(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for SecretJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretJson")
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        zeroize(&mut self.0);
    }
}

fn zeroize(value: &mut Value) {
    match value {
        // Only values are secret; the names of members are public.
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(zeroize),
        Value::Object(members) => members.values_mut().for_each(zeroize),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            // By default, serde_json silently keeps the last value.
            if object.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the member {name:?} appears twice")));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_values_are_read_unchanged() {
        let text = br#"{"a":[1,-2,1.5,true,null,"x\u0041"],"b":{"a":{}}}"#;
        assert_eq!(value(text).unwrap(), json!({"a": [1, -2, 1.5, true, null, "xA"], "b": {"a": {}}}));
    }

    #[test]
    fn duplicate_members_are_rejected_at_any_depth_and_in_any_spelling() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":[{"a":1,"a":null}]}"#] {
            let InvalidJson::Json(message) = value(text.as_bytes()).unwrap_err() else { panic!("{text}") };
            assert!(message.starts_with("the member \"a\" appears twice"), "{message}");
        }
    }

    #[test]
    fn other_types_trailing_text_and_deep_nesting_are_rejected() {
        assert_eq!(object(b"[]"), Err(InvalidJson::NotObject));
        assert!(matches!(object(b"{} {}"), Err(InvalidJson::Json(_))));
        assert!(matches!(object(b"\xff"), Err(InvalidJson::Json(_))));
        assert!(
            matches!(object("[".repeat(100_000).as_bytes()), Err(InvalidJson::Json(_))),
            "recursion is limited"
        );
    }

    #[test]
    fn only_canonical_base64url_is_decoded() {
        assert_eq!(bytes("AQAB"), Some(vec![1, 0, 1]));
        for text in ["AQ==", "AR", "A", "A+AB", "AQ AB", "AQAB\n"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
