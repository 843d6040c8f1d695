//! What a caller of open mode may say of his token, in JSON or as a form; and `GET /faults`.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::RequestBody;
use super::credentials::Credentials;
use super::error::{ApiError, json};
use crate::domain::token::fault::Fault;
use crate::domain::token::{Audience, ExtraClaims, RESERVED_CLAIMS, TokenOverrides};

const EXPECTED: &str = "an object with any of `sub` or `username` (texts), `aud` (a text or a list of texts), `ttl` \
                        (seconds, or a text such as 15m), `claims` (an object), and nothing else";
const EXPECTED_FORM: &str = "a form with any of `sub` or `username`, `aud`, `ttl` (such as 90 or 15m), `claims` (a \
                             JSON object), each once, and nothing else";

/// Whom a token is about when nobody is named.
const NOBODY: &str = "anonymous";

/// The longest `sub` that is given out, in characters.
const SUBJECT_MAX: usize = 255;

/// Anything without control characters.
const SUBJECT: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// What is promised of times to live; more is understood.
const DURATION: &str = "^[1-9][0-9]*(s|m|h|d)$";

/// What a token is to say. A password is let pass: the callers of password mode send one.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenWish")]
pub(super) struct Fields {
    /// Whom the token is about.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT))]
    sub: Option<String>,
    /// The same, if there is no `sub`.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT))]
    username: Option<String>,
    #[serde(rename = "password")]
    #[schemars(with = "Option<Value>")]
    _password: Option<IgnoredAny>,
    /// For whom it is, instead of `AUDIENCE`.
    #[schemars(with = "Option<Value>", extend("type" = ["array", "null", "string"], "items" = {"type": "string"}))]
    aud: Option<Audience>,
    /// How long it lives, instead of `TOKEN_TTL`: seconds, or a text. It never outlives its key.
    #[schemars(extend("type" = ["integer", "null", "string"], "minimum" = 1, "pattern" = DURATION))]
    ttl: Option<Value>,
    /// Further claims, but none that the issuer sets.
    #[schemars(extend("properties" = {"nbf": {"type": "number"}}, "propertyNames" = {"not": {"enum": RESERVED_CLAIMS}}))]
    claims: Option<Map<String, Value>>,
}

/// What a token is to say, as a form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenWishForm")]
pub(super) struct Form {
    /// Whom the token is about.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT), extend("type" = "string"))]
    sub: Option<String>,
    /// The same, if there is no `sub`.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT), extend("type" = "string"))]
    username: Option<String>,
    #[serde(rename = "password")]
    #[schemars(with = "Option<Value>", extend("type" = "string"))]
    _password: Option<IgnoredAny>,
    /// For whom it is, instead of `AUDIENCE`.
    #[schemars(extend("type" = "string"))]
    aud: Option<String>,
    /// How long it lives, instead of `TOKEN_TTL`: seconds, or a text. It never outlives its key.
    #[schemars(extend("type" = ["integer", "string"], "minimum" = 1, "pattern" = DURATION))]
    ttl: Option<String>,
    /// Further claims, but none that the issuer sets: a JSON object.
    #[schemars(extend("type" = "string", "contentMediaType" = "application/json"))]
    claims: Option<String>,
}

/// Whom the token is to be about, and what it is to say.
pub(super) fn read(headers: &HeaderMap, body: &RequestBody) -> Result<(String, TokenOverrides), ApiError> {
    let fields = match body {
        RequestBody::Empty => Fields::default(),
        RequestBody::Form(text) => text.form::<Form>(EXPECTED_FORM)?.fields()?,
        RequestBody::Json(text) => text.json(EXPECTED)?,
    };
    let basic = Credentials::of_basic(headers).and_then(|basic| basic.username);
    // Each is looked at, also one that another is taken before.
    let [sub, username, basic] = [fields.sub, fields.username, basic].map(|name| name.map(fit).transpose());
    let named = sub?.or(username?).or(basic?).filter(|name| !name.is_empty());
    let subject = named.unwrap_or_else(|| NOBODY.to_owned());
    let ttl = fields.ttl.as_ref().map(ttl).transpose()?;
    let extra = ExtraClaims::parse(fields.claims.unwrap_or_default())
        .map_err(|unfit| ApiError::InvalidBody(format!("`claims` cannot be taken: {unfit}")))?;
    Ok((subject, TokenOverrides { audience: fields.aud, ttl, extra }))
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
        // 90 and 90.0 are one number to JSON, and some write the second.
        Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs).or_else(|| {
            let whole = seconds.as_f64().filter(|seconds| seconds.fract() == 0.0)?;
            Duration::try_from_secs_f64(whole).ok()
        }),
        Value::String(text) => humantime::parse_duration(text).ok(),
        _ => None,
    };
    duration.filter(|duration| duration.as_secs() > 0 && duration.subsec_nanos() == 0).ok_or_else(|| {
        ApiError::InvalidBody("`ttl` must be a number of seconds, or a text such as 90s or 15m".to_owned())
    })
}

fn fit(subject: String) -> Result<String, ApiError> {
    if subject.chars().count() > SUBJECT_MAX || subject.chars().any(char::is_control) {
        let why = format!("The subject may have at most {SUBJECT_MAX} characters, and no control characters");
        return Err(ApiError::InvalidBody(why));
    }
    Ok(subject)
}

/// The ways in which a token can be wrong.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Faults")]
pub(super) struct Listing {
    faults: Vec<Line>,
}

/// One of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Fault")]
struct Line {
    /// What `?fault=` calls it.
    name: &'static str,
    /// What is wrong with such a token.
    description: &'static str,
    /// Where it is written that a verifier must refuse it.
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
