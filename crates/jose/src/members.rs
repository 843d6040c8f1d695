//! Reads the members of a JWK (RFC 7517 §4).

use serde_json::{Map, Value};

use super::algorithm::{Algorithm, KeyType};
use super::invalid_jwk::{InvalidJwk, KID_MAX};
use super::json;

/// The members with private parameters, of every key type (RFC 7518 §6.2.2, §6.3.2 and §6.4; RFC 8037 §2).
pub const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Reads a string member.
pub(crate) fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, InvalidJwk> {
    match members.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(InvalidJwk::NotString(name)),
        None => Err(InvalidJwk::Missing(name)),
    }
}

/// Reads a base64url member that is not empty.
pub(crate) fn bytes(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, InvalidJwk> {
    let text = text(members, name)?;
    // An empty string is valid base64url, but not a valid key parameter.
    json::bytes(text).filter(|bytes| !bytes.is_empty()).ok_or(InvalidJwk::NotBase64Url(name))
}

/// Reads a `Base64urlUInt` member, which must not start with a zero byte (RFC 7518 §2).
pub(crate) fn number(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, InvalidJwk> {
    let bytes = bytes(members, name)?;
    if bytes.first() == Some(&0) { Err(InvalidJwk::LeadingZero(name)) } else { Ok(bytes) }
}

/// Checks that `use` and `key_ops`, if present, allow this signature operation (RFC 7517 §4.2 and §4.3).
pub fn check_purpose(members: &Map<String, Value>, operation: &'static str) -> Result<(), InvalidJwk> {
    if members.contains_key("use") {
        let purpose = text(members, "use")?;
        if purpose != "sig" {
            return Err(InvalidJwk::key_use(purpose));
        }
    }
    // A key may have both members; each can forbid the operation.
    match members.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|name| name == operation) => Ok(()),
        // Also for a value that is not a list: ignoring it would ignore a restriction.
        Some(_) => Err(InvalidJwk::KeyOps(operation)),
    }
}

/// Reads `kid`, if present.
pub(crate) fn kid(members: &Map<String, Value>) -> Result<Option<String>, InvalidJwk> {
    if !members.contains_key("kid") {
        return Ok(None);
    }
    let kid = text(members, "kid")?;
    check_kid(kid)?;
    Ok(Some(kid.to_owned()))
}

/// Checks that a text can be a `kid`.
///
/// # Errors
/// [`InvalidJwk::Kid`] for an empty or overlong `kid`, and for one with control characters.
pub fn check_kid(kid: &str) -> Result<(), InvalidJwk> {
    // Logs and tables show the kid, and control characters could forge lines in them.
    let is_valid = !kid.is_empty() && kid.len() <= KID_MAX && !kid.contains(char::is_control);
    if is_valid { Ok(()) } else { Err(InvalidJwk::Kid) }
}

/// Reads `alg`, if present. It must fit the key type.
pub(crate) fn algorithm(
    members: &Map<String, Value>,
    key_type: KeyType,
) -> Result<Option<Algorithm>, InvalidJwk> {
    if !members.contains_key("alg") {
        return Ok(None);
    }
    let name = text(members, "alg")?;
    let algorithm = Algorithm::from_name(name).filter(|algorithm| algorithm.key_type() == key_type);
    algorithm.map(Some).ok_or_else(|| InvalidJwk::algorithm(name, key_type))
}
