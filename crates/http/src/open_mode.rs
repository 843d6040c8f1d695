//! What a client of open mode can choose for its token, as JSON or as a form.

use std::time::Duration;

use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::body::RequestBody;
use super::credentials::Credentials;
use super::error::ApiError;
use jwksd_core::token::{Audience, ExtraClaims, RESERVED_CLAIMS, TokenOverrides};

const EXPECTED: &str = "an object with any of `sub` or `username` (texts), `aud` (a text or a list of texts), `ttl` \
                        (seconds, or a text such as 15m), `claims` (an object), and nothing else";
const EXPECTED_FORM: &str = "a form with any of `sub` or `username`, `aud`, `ttl` (such as 90 or 15m), `claims` (a \
                             JSON object), each once, and nothing else";

/// The subject of a token if the request names none.
const ANONYMOUS: &str = "anonymous";

/// Maximum length of a subject in characters.
const SUBJECT_MAX: usize = 255;

/// The pattern of subjects: no control characters.
const SUBJECT: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The documented pattern of lifetimes. The parser accepts more.
const DURATION: &str = "^[1-9][0-9]*(s|m|h|d)$";

/// The claims of a token. A password is accepted and ignored, because clients of password mode send one.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenOverrides")]
pub(super) struct OpenTokenFields {
    /// The subject of the token.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT))]
    sub: Option<String>,
    /// The subject if there is no `sub`.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT))]
    username: Option<String>,
    #[serde(rename = "password")]
    #[schemars(with = "Option<Value>")]
    _password: Option<IgnoredAny>,
    /// The audience, instead of `AUDIENCE`.
    #[schemars(with = "Option<Value>", extend("type" = ["array", "null", "string"], "items" = {"type": "string"}))]
    aud: Option<Audience>,
    /// The lifetime, instead of `TOKEN_TTL`: seconds, or a text such as 15m. A token never outlives its key.
    #[schemars(extend("type" = ["integer", "null", "string"], "minimum" = 1, "pattern" = DURATION))]
    ttl: Option<Value>,
    /// Further claims, except those that the issuer sets.
    #[schemars(extend("properties" = {"nbf": {"type": "number"}}, "propertyNames" = {"not": {"enum": RESERVED_CLAIMS}}))]
    claims: Option<Map<String, Value>>,
}

/// The claims of a token, as a form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenOverridesForm")]
pub(super) struct OpenTokenForm {
    /// The subject of the token.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT), extend("type" = "string"))]
    sub: Option<String>,
    /// The subject if there is no `sub`.
    #[schemars(length(max = SUBJECT_MAX), regex(pattern = SUBJECT), extend("type" = "string"))]
    username: Option<String>,
    #[serde(rename = "password")]
    #[schemars(with = "Option<Value>", extend("type" = "string"))]
    _password: Option<IgnoredAny>,
    /// The audience, instead of `AUDIENCE`.
    #[schemars(extend("type" = "string"))]
    aud: Option<String>,
    /// The lifetime, instead of `TOKEN_TTL`: seconds, or a text such as 15m. A token never outlives its key.
    #[schemars(extend("type" = ["integer", "string"], "minimum" = 1, "pattern" = DURATION))]
    ttl: Option<String>,
    /// Further claims, except those that the issuer sets: a JSON object.
    #[schemars(extend("type" = "string", "contentMediaType" = "application/json"))]
    claims: Option<String>,
}

/// Reads the subject of the token and its overrides.
///
/// # Errors
/// [`ApiError::InvalidBody`] if the body has other fields or invalid values.
pub fn read_token_overrides(
    headers: &HeaderMap,
    body: &RequestBody,
) -> Result<(String, TokenOverrides), ApiError> {
    let fields = match body {
        RequestBody::Empty => OpenTokenFields::default(),
        RequestBody::Form(text) => text.form::<OpenTokenForm>(EXPECTED_FORM)?.into_fields()?,
        RequestBody::Json(text) => text.json(EXPECTED)?,
    };
    let basic = Credentials::from_basic(headers).and_then(|basic| basic.username);
    // All three are validated, also those that are not used.
    let [sub, username, basic] =
        [fields.sub, fields.username, basic].map(|name| name.map(valid_subject).transpose());
    // An empty name counts as none.
    let named = sub?.or(username?).or(basic?).filter(|name| !name.is_empty());
    let subject = named.unwrap_or_else(|| ANONYMOUS.to_owned());
    let ttl = fields.ttl.as_ref().map(ttl).transpose()?;
    let extra = ExtraClaims::parse(fields.claims.unwrap_or_default())
        .map_err(|error| ApiError::InvalidBody(format!("`claims` cannot be taken: {error}")))?;
    Ok((subject, TokenOverrides { audience: fields.aud, ttl, extra }))
}

impl OpenTokenForm {
    fn into_fields(self) -> Result<OpenTokenFields, ApiError> {
        let claims = self.claims.map(|text| serde_json::from_str(&text)).transpose();
        Ok(OpenTokenFields {
            sub: self.sub,
            username: self.username,
            _password: None,
            aud: self.aud.map(Audience::One),
            // A form has only text: a number in it means seconds, as in JSON.
            ttl: self.ttl.map(|text| text.parse::<u64>().map_or(Value::String(text), Value::from)),
            claims: claims.map_err(|_| ApiError::InvalidBody(format!("The body must be {EXPECTED_FORM}")))?,
        })
    }
}

fn ttl(value: &Value) -> Result<Duration, ApiError> {
    let duration = match value {
        // JSON does not tell 90 from 90.0, and some clients write the second.
        Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs).or_else(|| {
            let whole = seconds.as_f64().filter(|seconds| seconds.fract() == 0.0)?;
            Duration::try_from_secs_f64(whole).ok()
        }),
        Value::String(text) => humantime::parse_duration(text).ok(),
        _ => None,
    };
    // Claims are whole seconds (RFC 7519 §2), so a fraction could not be honoured.
    duration.filter(|duration| duration.as_secs() > 0 && duration.subsec_nanos() == 0).ok_or_else(|| {
        ApiError::InvalidBody("`ttl` must be a number of seconds, or a text such as 90s or 15m".to_owned())
    })
}

fn valid_subject(subject: String) -> Result<String, ApiError> {
    if subject.chars().count() > SUBJECT_MAX || subject.chars().any(char::is_control) {
        let why = format!("The subject may have at most {SUBJECT_MAX} characters, and no control characters");
        return Err(ApiError::InvalidBody(why));
    }
    Ok(subject)
}
