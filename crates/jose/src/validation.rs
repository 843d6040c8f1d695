//! Validates the claims of a token (RFC 7519 §4.1) after its signature was verified.

use std::time::Duration;

use serde_json::{Map, Value};

use super::numeric_date::{numeric_date, relative};
use super::verify_error::{Reason, VerifyError};
use crate::timestamp::Timestamp;

/// What a token must say to be valid.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// The required issuer; not checked if `None`.
    pub issuer: Option<String>,
    /// The required audience; not checked if `None`.
    pub audience: Option<String>,
    /// Accepts a token that has expired or has no `exp`.
    pub ignore_exp: bool,
    /// Allowed difference between the clocks.
    pub leeway: Duration,
}

/// Validates claims. Returns notes on what was not checked, or is unusual.
///
/// # Errors
/// [`VerifyError`] for the first invalid claim.
pub fn validate(
    claims: &Map<String, Value>,
    expected: &Validation,
    now: Timestamp,
) -> Result<Vec<String>, VerifyError> {
    let mut notes = Vec::new();
    // Their values are free, but a wrong type means a malformed token.
    for name in ["sub", "jti"] {
        text(claims, name)?;
    }
    notes.extend(check_issuer(claims, expected.issuer.as_deref())?);
    notes.extend(check_audience(claims, expected.audience.as_deref())?);
    notes.extend(check_exp(claims, expected, now)?);
    check_nbf(claims, expected.leeway, now)?;
    // A note only, because RFC 7519 §4.1.6 gives no reason to reject it.
    if let Some(iat) = time(claims, "iat")?.filter(|iat| *iat > now.plus(expected.leeway)) {
        notes.push(format!("the token says that it was issued in the future: {iat}, {}", relative(iat, now)));
    }
    Ok(notes)
}

/// RFC 8725 §3.8: the trusted keys belong to one issuer.
fn check_issuer(claims: &Map<String, Value>, expected: Option<&str>) -> Result<Option<String>, VerifyError> {
    // Read even if it is not compared, so that a wrong type is always an error.
    let issuer = text(claims, "iss")?;
    let Some(expected) = expected else {
        return Ok(Some("iss was not checked: use --issuer to check it".to_owned()));
    };
    match issuer {
        Some(issuer) if issuer == expected => Ok(None),
        Some(issuer) => {
            Err(VerifyError::new(Reason::WrongIssuer, format!("the issuer is {issuer:?}, not {expected:?}")))
        }
        None => Err(VerifyError::new(
            Reason::WrongIssuer,
            format!("the token has no \"iss\"; it must be {expected:?}"),
        )),
    }
}

/// RFC 8725 §3.9. `aud` is a string or a list of strings (RFC 7519 §4.1.3).
fn check_audience(
    claims: &Map<String, Value>,
    expected: Option<&str>,
) -> Result<Option<String>, VerifyError> {
    let wrong_type = || malformed("\"aud\" is neither a string nor a list of strings");
    let audience: Vec<&str> = match claims.get("aud") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => {
            many.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong_type)?
        }
        Some(_) => return Err(wrong_type()),
    };
    match expected {
        None if claims.contains_key("aud") => Ok(Some(format!(
            "aud was not checked: the token is for {audience:?}; use --audience to check it"
        ))),
        None => Ok(None),
        Some(expected) if audience.contains(&expected) => Ok(None),
        Some(expected) if audience.is_empty() => Err(VerifyError::new(
            Reason::WrongAudience,
            format!("the token has no \"aud\"; it must be for {expected:?}"),
        )),
        Some(expected) => Err(VerifyError::new(
            Reason::WrongAudience,
            format!("the token is for {audience:?}, not for {expected:?}"),
        )),
    }
}

fn check_exp(
    claims: &Map<String, Value>,
    expected: &Validation,
    now: Timestamp,
) -> Result<Option<String>, VerifyError> {
    let exp = time(claims, "exp")?;
    // RFC 7519 §4.1.4: the token is already invalid *at* `exp`.
    let is_past = exp.is_some_and(|exp| now >= exp.plus(expected.leeway));
    let message = match exp {
        None => "the token has no \"exp\": it never expires".to_owned(),
        Some(exp) => format!("the token expired at {exp}, {}", relative(exp, now)),
    };
    match (exp, is_past) {
        (Some(_), false) => Ok(None),
        _ if expected.ignore_exp => Ok(Some(format!("{message} (--ignore-exp)"))),
        (None, _) => Err(VerifyError::new(Reason::NoExp, message)),
        (Some(_), true) => Err(VerifyError::new(Reason::Expired, message)),
    }
}

fn check_nbf(claims: &Map<String, Value>, leeway: Duration, now: Timestamp) -> Result<(), VerifyError> {
    match time(claims, "nbf")?.filter(|nbf| *nbf > now.plus(leeway)) {
        None => Ok(()),
        Some(nbf) => {
            let message = format!("the token is not valid before {nbf}, {}", relative(nbf, now));
            Err(VerifyError::new(Reason::NotYetValid, message))
        }
    }
}

fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, VerifyError> {
    let time = |value| {
        numeric_date(value).ok_or_else(|| malformed(format!("{name:?} is not a time in seconds since 1970")))
    };
    claims.get(name).map(time).transpose()
}

fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, VerifyError> {
    let text =
        |value: &'a Value| value.as_str().ok_or_else(|| malformed(format!("{name:?} is not a string")));
    claims.get(name).map(text).transpose()
}

fn malformed(message: impl Into<String>) -> VerifyError {
    VerifyError::new(Reason::Malformed, message)
}
