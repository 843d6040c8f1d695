//! What is odd about a token, for somebody who looks at it: nothing here verifies anything.

use std::time::Duration;

use serde_json::{Map, Value};

use super::jws::{EMBEDDED, Jws};
use super::numeric_date::{numeric_date, relative, spelled};
use crate::domain::clock::Timestamp;

/// A life beyond this is long for a token that nobody can call back.
const LONG: Duration = Duration::from_hours(24);

/// The year 5138 in seconds, which is the year 1973 in milliseconds.
const MILLISECONDS: i64 = 100_000_000_000;

/// What is odd, a sentence each.
#[must_use]
pub fn inspect(jws: &Jws, now: Timestamp) -> Vec<String> {
    let mut odd = of_header(jws);
    match jws.unverified_claims() {
        Ok(claims) => odd.extend(of_claims(&claims, now)),
        Err(invalid) => odd.push(invalid.message),
    }
    odd
}

fn of_header(jws: &Jws) -> Vec<String> {
    let header = jws.header();
    let mut odd = Vec::new();
    odd.extend(jws.algorithm().err().map(|invalid| invalid.message));
    for name in EMBEDDED.into_iter().filter(|name| header.contains_key(*name)) {
        odd.push(format!("its header brings its own key ({name:?}), which nobody should take"));
    }
    if header.contains_key("crit") {
        odd.push(
            "it has a \"crit\": it may be used by those alone who understand what that names".to_owned(),
        );
    }
    match header.get("kid") {
        None => odd.push("it names no key (no \"kid\")".to_owned()),
        Some(Value::String(_)) => {}
        Some(_) => odd.push("its \"kid\" is no string".to_owned()),
    }
    odd.extend(of_typ(header));
    odd
}

/// What a header says of the token's kind, when that is not a plain JWT or an access token (RFC 8725, 3.11).
#[must_use]
pub fn of_typ(header: &Map<String, Value>) -> Option<String> {
    match header.get("typ") {
        None => None,
        Some(Value::String(typ)) => {
            let lower = typ.to_ascii_lowercase();
            let kind = lower.strip_prefix("application/").unwrap_or(&lower);
            let is_usual = ["jwt", "at+jwt"].contains(&kind);
            (!is_usual)
                .then(|| format!("its \"typ\" is {typ:?}: it is for one purpose, which was not checked"))
        }
        Some(_) => Some("its \"typ\" is no string".to_owned()),
    }
}

fn of_claims(claims: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let mut odd = Vec::new();
    for name in ["iss", "aud", "exp"].into_iter().filter(|name| !claims.contains_key(*name)) {
        odd.push(match name {
            "iss" => "it does not say whose it is (no \"iss\")".to_owned(),
            "aud" => "it is for nobody in particular (no \"aud\")".to_owned(),
            _ => "it would be valid for ever (no \"exp\")".to_owned(),
        });
    }
    for name in ["exp", "nbf", "iat"] {
        match claims.get(name) {
            Some(Value::Number(number)) if number.as_i64().is_some_and(|secs| secs >= MILLISECONDS) => {
                odd.push(format!("its {name:?} looks like milliseconds: it is in seconds"));
            }
            Some(value) if numeric_date(value).is_none() => {
                odd.push(format!("its {name:?} is not a time in seconds since 1970"));
            }
            _ => {}
        }
    }
    odd.extend(of_times(claims, now));
    odd
}

fn of_times(claims: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let time = |name| claims.get(name).and_then(numeric_date);
    let (exp, nbf, iat) = (time("exp"), time("nbf"), time("iat"));
    let mut odd = Vec::new();
    if let Some(exp) = exp.filter(|exp| *exp <= now) {
        odd.push(format!("it expired {}", relative(exp, now)));
    }
    if let Some(nbf) = nbf.filter(|nbf| *nbf > now) {
        odd.push(format!("it is not valid yet: {}", relative(nbf, now)));
    }
    if let Some(iat) = iat.filter(|iat| *iat > now) {
        odd.push(format!("it says that it was issued in the future: {}", relative(iat, now)));
    }
    if let (Some(iat), Some(exp)) = (iat, exp) {
        if exp <= iat {
            odd.push("it expired before it was issued".to_owned());
        } else if exp.since(iat) > LONG {
            odd.push(format!("it lives long: {} from \"iat\" to \"exp\"", spelled(exp.since(iat))));
        }
    }
    if let (Some(nbf), Some(exp)) = (nbf, exp)
        && nbf >= exp
    {
        odd.push("it is never valid: \"nbf\" is not before \"exp\"".to_owned());
    }
    odd
}
