//! The claims of a token that is signed by hand: what was given, and what makes it one that verifiers take.

use std::time::Duration;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::numeric_date::numeric_date;
use crate::domain::clock::Timestamp;

/// Reads `name=value`. A value that is JSON is that JSON, any other is a string: `n=1` is a number, `n="1"` and `n=x`
/// are strings.
///
/// # Errors
/// [`InvalidClaims::NoEqualsSign`] without a name before an equals sign.
pub fn parse(text: &str) -> Result<(String, Value), InvalidClaims> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let json = super::json::value(value.as_bytes());
            Ok((name.to_owned(), json.unwrap_or_else(|_| Value::String(value.to_owned()))))
        }
        _ => Err(InvalidClaims::NoEqualsSign(text.to_owned())),
    }
}

/// Puts claims together, and adds `iat`, `exp` and `jti` where they are not given.
///
/// # Errors
/// [`InvalidClaims`] for one that is given twice, and for a registered one of the wrong type (RFC 7519, 4.1).
pub fn assemble(
    payload: Map<String, Value>,
    given: Vec<(String, Value)>,
    ttl: Option<Duration>,
    now: Timestamp,
    jti: &str,
) -> Result<Map<String, Value>, InvalidClaims> {
    let mut claims = payload;
    for (name, value) in given {
        if claims.contains_key(&name) {
            return Err(InvalidClaims::Twice(name));
        }
        claims.insert(name, value);
    }
    if ttl.is_some() && claims.contains_key("exp") {
        return Err(InvalidClaims::TtlAndExp);
    }
    check_types(&claims)?;
    let exp = now.plus(ttl.unwrap_or(DEFAULT_TTL)).as_secs();
    for (name, value) in [("iat", json!(now.as_secs())), ("exp", json!(exp)), ("jti", json!(jti))] {
        claims.entry(name).or_insert(value);
    }
    Ok(claims)
}

/// How long a token lives when nothing else was said.
const DEFAULT_TTL: Duration = Duration::from_mins(15);

fn check_types(claims: &Map<String, Value>) -> Result<(), InvalidClaims> {
    let is_text = |value: &Value| value.is_string();
    let is_time = |value: &Value| numeric_date(value).is_some();
    let is_audience = |value: &Value| match value {
        Value::Array(many) => many.iter().all(Value::is_string),
        one => one.is_string(),
    };
    for (name, value) in claims {
        let (fits, wanted) = match name.as_str() {
            "iss" | "sub" | "jti" => (is_text(value), "a string"),
            "exp" | "nbf" | "iat" => (is_time(value), "a number of seconds since 1970"),
            "aud" => (is_audience(value), "a string or a list of strings"),
            _ => (true, ""),
        };
        if !fits {
            return Err(InvalidClaims::Type { name: name.clone(), wanted });
        }
    }
    Ok(())
}

/// Why claims cannot be signed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidClaims {
    /// Not `name=value`.
    #[error("--claim {0:?}: name=value would do")]
    NoEqualsSign(String),
    /// Two ways to say when it ends.
    #[error("--ttl, and \"exp\" among the claims: one of them would do")]
    TtlAndExp,
    /// The same claim from two places.
    #[error("the claim {0:?} is given twice")]
    Twice(String),
    /// A registered claim of the wrong type.
    #[error(
        "the claim {name:?} must be {wanted}{}",
        if *wanted == "a string" { format!(": --claim '{name}=\"…\"' makes it one") } else { String::new() }
    )]
    Type {
        /// Which.
        name: String,
        /// What it must be.
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
    fn a_value_is_json_if_it_can_be_and_else_a_string() {
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
    fn what_is_given_stays_and_what_is_missing_is_added() {
        let claims = put(&json!({"iat": 5, "jti": "mine"}), &["sub=me"], Some(60)).unwrap();
        assert_eq!(Value::Object(claims), json!({"iat": 5, "exp": 61, "jti": "mine", "sub": "me"}));
        assert_eq!(put(&json!({}), &[], None).unwrap()["exp"], 901);
    }

    #[test]
    fn what_no_verifier_would_take_is_refused() {
        for (payload, given, ttl, message) in [
            (json!({"sub": "a"}), vec!["sub=b"], None, "the claim \"sub\" is given twice"),
            (json!({}), vec!["sub=b", "sub=b"], None, "the claim \"sub\" is given twice"),
            (json!({"exp": 1}), vec![], Some(1), "--ttl, and \"exp\" among the claims: one of them would do"),
            (
                json!({}),
                vec!["sub=12"],
                None,
                "the claim \"sub\" must be a string: --claim 'sub=\"…\"' makes it one",
            ),
            (json!({}), vec!["exp=soon"], None, "the claim \"exp\" must be a number of seconds since 1970"),
            (json!({"aud": [1]}), vec![], None, "the claim \"aud\" must be a string or a list of strings"),
            (json!({}), vec!["sub"], None, "--claim \"sub\": name=value would do"),
            (json!({}), vec!["=x"], None, "--claim \"=x\": name=value would do"),
        ] {
            assert_eq!(put(&payload, &given, ttl).unwrap_err().to_string(), message);
        }
    }
}
