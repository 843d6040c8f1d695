//! Finds what is unusual about a token that was not verified.

use std::time::Duration;

use serde_json::{Map, Value};

use super::jws::{EMBEDDED, Jws};
use super::numeric_date::{MILLISECONDS, in_words, numeric_date, relative};
use crate::timestamp::Timestamp;

/// Lifetimes above this are reported as long, because tokens cannot be revoked one by one.
const LONG: Duration = Duration::from_hours(24);

/// Returns one sentence for each unusual property.
#[must_use]
pub fn inspect(jws: &Jws, now: Timestamp) -> Vec<String> {
    let mut odd = header_oddities(jws);
    match jws.unverified_claims() {
        Ok(claims) => odd.extend(claim_oddities(&claims, now)),
        // A token without readable claims is still shown, because its header may explain why.
        Err(invalid) => odd.push(invalid.message),
    }
    odd
}

fn header_oddities(jws: &Jws) -> Vec<String> {
    let header = jws.header();
    let mut odd = Vec::new();
    odd.extend(jws.algorithm().err().map(|invalid| invalid.message));
    for name in EMBEDDED.into_iter().filter(|name| header.contains_key(*name)) {
        odd.push(format!("the header brings its own key ({name:?}), which verifiers must not use"));
    }
    if header.contains_key("crit") {
        odd.push(
            "the header has \"crit\": only verifiers that support the listed extensions may accept the token"
                .to_owned(),
        );
    }
    match header.get("kid") {
        None => odd.push("the token names no key (no \"kid\")".to_owned()),
        Some(Value::String(_)) => {}
        Some(_) => odd.push("\"kid\" is not a string".to_owned()),
    }
    odd.extend(unusual_typ(header));
    odd
}

/// Describes a `typ` other than JWT and access token (RFC 8725 §3.11).
#[must_use]
pub fn unusual_typ(header: &Map<String, Value>) -> Option<String> {
    match header.get("typ") {
        None => None,
        Some(Value::String(typ)) => {
            // Media types ignore case and may omit `application/` (RFC 7515 §4.1.9).
            let lower = typ.to_ascii_lowercase();
            let kind = lower.strip_prefix("application/").unwrap_or(&lower);
            let is_common = ["jwt", "at+jwt"].contains(&kind);
            (!is_common)
                .then(|| format!("\"typ\" is {typ:?}: the token is for one purpose, which was not checked"))
        }
        Some(_) => Some("\"typ\" is not a string".to_owned()),
    }
}

fn claim_oddities(claims: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let mut odd = Vec::new();
    for name in ["iss", "aud", "exp"].into_iter().filter(|name| !claims.contains_key(*name)) {
        odd.push(match name {
            "iss" => "the token names no issuer (no \"iss\")".to_owned(),
            "aud" => "the token names no audience (no \"aud\")".to_owned(),
            _ => "the token never expires (no \"exp\")".to_owned(),
        });
    }
    for name in ["exp", "nbf", "iat"] {
        match claims.get(name) {
            Some(Value::Number(number)) if number.as_f64().is_some_and(|secs| secs >= MILLISECONDS) => {
                odd.push(format!("{name:?} looks like milliseconds: it must be in seconds"));
            }
            Some(value) if numeric_date(value).is_none() => {
                odd.push(format!("{name:?} is not a time in seconds since 1970"));
            }
            _ => {}
        }
    }
    odd.extend(time_oddities(claims, now));
    odd
}

fn time_oddities(claims: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let time = |name| claims.get(name).and_then(numeric_date);
    let (exp, nbf, iat) = (time("exp"), time("nbf"), time("iat"));
    let mut odd = Vec::new();
    if let Some(exp) = exp.filter(|exp| *exp <= now) {
        odd.push(format!("the token expired {}", relative(exp, now)));
    }
    if let Some(nbf) = nbf.filter(|nbf| *nbf > now) {
        odd.push(format!("the token is not valid yet: it becomes valid {}", relative(nbf, now)));
    }
    // Verifiers need not reject it (RFC 7519 §4.1.6), but it often means a wrong clock.
    if let Some(iat) = iat.filter(|iat| *iat > now) {
        odd.push(format!("the token says that it was issued in the future: {}", relative(iat, now)));
    }
    if let (Some(iat), Some(exp)) = (iat, exp) {
        if exp <= iat {
            odd.push("the token expired before it was issued".to_owned());
        } else if exp.since(iat) > LONG {
            odd.push(format!(
                "the token has a long lifetime: {} from \"iat\" to \"exp\"",
                in_words(exp.since(iat))
            ));
        }
    }
    if let (Some(nbf), Some(exp)) = (nbf, exp)
        && nbf >= exp
    {
        odd.push("the token is never valid: \"nbf\" is not before \"exp\"".to_owned());
    }
    odd
}
