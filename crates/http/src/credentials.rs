//! Credentials as JSON, as a form or as HTTP Basic (RFC 7617). The body takes precedence over Basic.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::body::RequestBody;
use super::error::ApiError;
use jwksd_core::password::Password;

const EXPECTED: &str = "an object with the texts `username` and `password`, perhaps `aud`, and nothing else";
const EXPECTED_FORM: &str =
    "a form with `username` and `password`, perhaps `aud`, each once, and nothing else";

/// The credentials that a client sent; either part may be missing.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The username as the client sent it.
    pub username: Option<String>,
    /// The password as the client sent it.
    pub password: Option<Password>,
    /// The audience that the token is for, if the client chose one.
    pub audience: Option<String>,
    /// Whether the client used HTTP Basic.
    pub basic_was_used: bool,
}

/// The username and password of an account. HTTP Basic can carry them instead.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credentials")]
pub(super) struct CredentialFields {
    username: Option<String>,
    #[schemars(with = "Option<String>")]
    password: Option<Password>,
    /// The audience of the token: one of `AUDIENCE`, the first by default.
    aud: Option<String>,
}

impl Credentials {
    /// Reads only HTTP Basic.
    pub(super) fn from_basic(headers: &HeaderMap) -> Option<Self> {
        basic(headers)
    }

    /// Reads the body and HTTP Basic. Other schemes in `Authorization` are ignored.
    ///
    /// # Errors
    /// Fails if there is a body that is not credentials.
    pub fn read(headers: &HeaderMap, body: &RequestBody) -> Result<Self, ApiError> {
        let CredentialFields { username, password, aud } = match body {
            RequestBody::Empty => CredentialFields::default(),
            RequestBody::Form(text) => text.form(EXPECTED_FORM)?,
            RequestBody::Json(text) => text.json(EXPECTED)?,
        };
        Ok(Self { audience: aud, ..Self::from_parts(username, password, headers) })
    }

    /// The credentials of a body, or else those of HTTP Basic.
    pub(super) fn from_parts(
        username: Option<String>,
        password: Option<Password>,
        headers: &HeaderMap,
    ) -> Self {
        match (username, password, basic(headers)) {
            // A body without credentials does not hide those of Basic.
            (None, None, Some(basic)) => basic,
            // The challenge of a 401 depends on the header, also where the body wins.
            (username, password, basic) => {
                Self { username, password, audience: None, basic_was_used: basic.is_some() }
            }
        }
    }
}

/// Malformed Basic credentials count as used, but have neither username nor password.
fn basic(headers: &HeaderMap) -> Option<Credentials> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    // `Basic` without a value is still an attempt at Basic.
    let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // RFC 7617 §2: the first colon ends the username.
    let pair = STANDARD.decode(value.trim()).map(Zeroizing::new).ok();
    let (username, password) = pair
        .as_ref()
        .and_then(|pair| std::str::from_utf8(pair).ok()?.split_once(':'))
        .map(|(name, password)| (name.to_owned(), Password::typed(password.to_owned())))
        .unzip();
    Some(Credentials { username, password, audience: None, basic_was_used: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Basic YWxpY2U6aHVudGVyMg==".parse().unwrap());
        let credentials = Credentials::read(&headers, &RequestBody::Empty).unwrap();
        assert_eq!(credentials.password.as_ref().unwrap().reveal(), "hunter2");
        assert_eq!(
            format!("{credentials:?}"),
            r#"Credentials { username: Some("alice"), password: Some(Password), audience: None, basic_was_used: true }"#
        );
    }
}
