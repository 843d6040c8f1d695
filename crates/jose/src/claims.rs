//! The claims of a token that `jwksd jwt sign` signs: those given by the user, and those that verifiers require.

use std::time::Duration;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::numeric_date::numeric_date;
use crate::timestamp::Timestamp;

/// Reads `name=value`. A value that is valid JSON is read as JSON: `n=1` is a number, `n="1"` and `n=x` are strings.
///
/// # Errors
/// [`InvalidClaims::NoEqualsSign`] without a name followed by an equals sign.
pub fn parse(text: &str) -> Result<(String, Value), InvalidClaims> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            // Strict JSON, so that `{"x":1,"x":2}` is kept as a string instead of losing a member.
            let json = super::json::value(value.as_bytes());
            Ok((name.to_owned(), json.unwrap_or_else(|_| Value::String(value.to_owned()))))
        }
        _ => Err(InvalidClaims::NoEqualsSign(text.to_owned())),
    }
}

/// Combines claims, and adds `iat`, `exp` and `jti` if they are missing.
///
/// # Errors
/// [`InvalidClaims`] for a duplicate claim, and for a registered claim of the wrong type (RFC 7519 §4.1).
pub fn assemble(
    payload: Map<String, Value>,
    given: Vec<(String, Value)>,
    ttl: Option<Duration>,
    now: Timestamp,
    jti: &str,
) -> Result<Map<String, Value>, InvalidClaims> {
    let mut claims = payload;
    for (name, value) in given {
        // A duplicate is a mistake, and keeping the last value would hide it.
        if claims.contains_key(&name) {
            return Err(InvalidClaims::Twice(name));
        }
        claims.insert(name, value);
    }
    // Otherwise one of them would be ignored without notice.
    if ttl.is_some() && claims.contains_key("exp") {
        return Err(InvalidClaims::TtlAndExp);
    }
    check_types(&claims)?;
    let exp = now.plus(ttl.unwrap_or(DEFAULT_TTL)).as_secs();
    for (name, value) in [("iat", json!(now.as_secs())), ("exp", json!(exp)), ("jti", json!(jti))] {
        // A given claim wins, even an `exp` in the past: people sign expired tokens for tests.
        claims.entry(name).or_insert(value);
    }
    Ok(claims)
}

/// Lifetime of a token without `--ttl` and `exp`.
const DEFAULT_TTL: Duration = Duration::from_mins(15);

fn check_types(claims: &Map<String, Value>) -> Result<(), InvalidClaims> {
    let is_text = |value: &Value| value.is_string();
    let is_time = |value: &Value| numeric_date(value).is_some();
    let is_audience = |value: &Value| match value {
        Value::Array(many) => many.iter().all(Value::is_string),
        one => one.is_string(),
    };
    for (name, value) in claims {
        let (is_valid, wanted) = match name.as_str() {
            "iss" | "sub" | "jti" => (is_text(value), "a string"),
            "exp" | "nbf" | "iat" => (is_time(value), "a number of seconds since 1970"),
            "aud" => (is_audience(value), "a string or a list of strings"),
            _ => (true, ""),
        };
        if !is_valid {
            return Err(InvalidClaims::Type { name: name.clone(), wanted });
        }
    }
    Ok(())
}

/// Why claims are not signed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidClaims {
    /// Not `name=value`.
    #[error("--claim {0:?}: use name=value")]
    NoEqualsSign(String),
    /// Both a lifetime and an expiry.
    #[error("both --ttl and the claim \"exp\" are given: use only one")]
    TtlAndExp,
    /// A duplicate claim.
    #[error("the claim {0:?} is given twice")]
    Twice(String),
    /// A registered claim of the wrong type.
    #[error(
        "the claim {name:?} must be {wanted}{}",
        if *wanted == "a string" { format!(": use --claim '{name}=\"…\"'") } else { String::new() }
    )]
    Type {
        /// The claim.
        name: String,
        /// The required type.
        wanted: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(payload: &Value, given: &[&str], ttl: Option<u64>) -> Result<Map<String, Value>, InvalidClaims> {
        let given = given.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        let payload = payload.as_object().unwrap().clone();
        let ttl = ttl.map(Duration::from_secs);
        assemble(payload, given, ttl, Timestamp::from_millis(1_999), "id")
    }

    #[test]
    fn a_value_that_is_not_json_is_a_string() {
        let given = ["a=1", "b=\"1\"", "c=x y", "d=[true]", "e=", "f=a=b", "g={\"x\":1,\"x\":2}", "exp=9"];
        assert_eq!(
            Value::Object(put(&json!({}), &given, None).unwrap()),
            json!({
                "a": 1, "b": "1", "c": "x y", "d": [true], "e": "", "f": "a=b", "g": "{\"x\":1,\"x\":2}",
                "exp": 9, "iat": 1, "jti": "id",
            })
        );
    }

    #[test]
    fn given_claims_are_kept_and_missing_ones_are_added() {
        let claims = put(&json!({"iat": 5, "jti": "mine"}), &["sub=me"], Some(60)).unwrap();
        assert_eq!(Value::Object(claims), json!({"iat": 5, "exp": 61, "jti": "mine", "sub": "me"}));
        assert_eq!(put(&json!({}), &[], None).unwrap()["exp"], 901);
    }

    #[test]
    fn claims_that_verifiers_reject_are_not_signed() {
        for (payload, given, ttl, message) in [
            (json!({"sub": "a"}), vec!["sub=b"], None, "the claim \"sub\" is given twice"),
            (json!({}), vec!["sub=b", "sub=b"], None, "the claim \"sub\" is given twice"),
            (json!({"exp": 1}), vec![], Some(1), "both --ttl and the claim \"exp\" are given: use only one"),
            (json!({}), vec!["sub=12"], None, "the claim \"sub\" must be a string: use --claim 'sub=\"…\"'"),
            (json!({}), vec!["exp=soon"], None, "the claim \"exp\" must be a number of seconds since 1970"),
            (json!({"aud": [1]}), vec![], None, "the claim \"aud\" must be a string or a list of strings"),
            (json!({}), vec!["sub"], None, "--claim \"sub\": use name=value"),
            (json!({}), vec!["=x"], None, "--claim \"=x\": use name=value"),
        ] {
            assert_eq!(put(&payload, &given, ttl).unwrap_err().to_string(), message);
        }
    }
}
