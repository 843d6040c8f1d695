//! What a caller of open mode may say of his token, in JSON or as a form; and `GET /faults`.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::Payload;
use super::credentials::Credentials;
use super::error::{ApiError, json};
use crate::domain::token::fault::Fault;
use crate::domain::token::{Audience, ExtraClaims, Wish};

const EXPECTED: &str = "an object with any of `sub` or `username` (texts), `aud` (a text or a list of texts), `ttl` \
                        (seconds, or a text such as 15m), `claims` (an object), and nothing else";
const EXPECTED_FORM: &str = "a form with any of `sub` or `username`, `aud`, `ttl` (such as 90 or 15m), `claims` (a \
                             JSON object), each once, and nothing else";

/// Whom a token is about when nobody is named.
const NOBODY: &str = "anonymous";

/// The longest `sub` that is given out, in characters.
const SUBJECT_MAX: usize = 255;

/// Everything that may be said, whatever it is said in. A password is let pass: the callers of password mode send one.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    sub: Option<String>,
    username: Option<String>,
    #[serde(rename = "password")]
    _password: Option<IgnoredAny>,
    aud: Option<Audience>,
    ttl: Option<Value>,
    claims: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    sub: Option<String>,
    username: Option<String>,
    #[serde(rename = "password")]
    _password: Option<IgnoredAny>,
    aud: Option<String>,
    ttl: Option<String>,
    claims: Option<String>,
}

/// Whom the token is to be about, and what it is to say.
pub(super) fn read(headers: &HeaderMap, payload: &Payload) -> Result<(String, Wish), ApiError> {
    let fields = match payload {
        Payload::Empty => Fields::default(),
        Payload::Form(text) => text.form::<Form>(EXPECTED_FORM)?.fields()?,
        Payload::Json(text) => text.json(EXPECTED)?,
    };
    let basic = Credentials::of_basic(headers).and_then(|basic| basic.username);
    let subject = fields.sub.or(fields.username).or(basic).unwrap_or_default();
    let ttl = fields.ttl.as_ref().map(ttl).transpose()?;
    let extra = ExtraClaims::parse(fields.claims.unwrap_or_default())
        .map_err(|unfit| ApiError::InvalidBody(format!("`claims` cannot be taken: {unfit}")))?;
    Ok((named(subject)?, Wish { audience: fields.aud, ttl, extra }))
}

impl Form {
    fn fields(self) -> Result<Fields, ApiError> {
        let claims = self.claims.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Fields {
            sub: self.sub,
            username: self.username,
            _password: None,
            aud: self.aud.map(Audience::One),
            ttl: self.ttl.map(|text| text.parse::<u64>().map_or(Value::String(text), Value::from)),
            claims: claims.map_err(|_| ApiError::InvalidBody(format!("The body must be {EXPECTED_FORM}")))?,
        })
    }
}

fn ttl(value: &Value) -> Result<Duration, ApiError> {
    let duration = match value {
        Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs),
        Value::String(text) => humantime::parse_duration(text).ok(),
        _ => None,
    };
    duration.filter(|duration| duration.as_secs() > 0 && duration.subsec_nanos() == 0).ok_or_else(|| {
        ApiError::InvalidBody("`ttl` must be a number of seconds, or a text such as 90s or 15m".to_owned())
    })
}

fn named(subject: String) -> Result<String, ApiError> {
    if subject.chars().count() > SUBJECT_MAX || subject.chars().any(char::is_control) {
        let why = format!("The subject may have at most {SUBJECT_MAX} characters, and no control characters");
        return Err(ApiError::InvalidBody(why));
    }
    Ok(if subject.is_empty() { NOBODY.to_owned() } else { subject })
}

#[derive(Serialize)]
struct Listing {
    faults: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    description: &'static str,
    reference: &'static str,
}

/// What `?fault=` knows.
pub(super) async fn faults() -> Response {
    let line = |fault: Fault| Line {
        name: fault.name(),
        description: fault.description(),
        reference: fault.reference(),
    };
    json(&Listing { faults: Fault::ALL.into_iter().map(line).collect() })
}
