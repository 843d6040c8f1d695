//! `GET /verify`: whether the bearer token of a request is valid, for proxies that ask before they pass a request on.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use crate::bearer_auth::bearer;
use crate::config::AuthMode;
use crate::error::{ApiError, ErrorCode};
use crate::openapi::{Operation, Parameter, ParameterLocation, Success, Types, X_AUTH_SUBJECT, X_AUTH_UID};
use jwksd_core::issuer::{CheckedToken, Issuer};

/// What a header cannot carry unchanged, and the sign of the encoding itself. Usernames of our own have none of these.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

pub(super) async fn get(
    State(issuer): State<Issuer>,
    State(mode): State<AuthMode>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let audience = audience(query.as_deref().unwrap_or_default())?;
    let token = bearer(&headers);
    let checked = match token {
        Some(token) => issuer.check_token(token, audience.as_deref(), mode.into()).await?,
        None => None,
    };
    match checked {
        Some(checked) => Ok((StatusCode::NO_CONTENT, about(&checked)).into_response()),
        None => Err(ApiError::InvalidToken { was_given: token.is_some() }),
    }
}

/// The audience that the token must be for; nothing for any of ours.
fn audience(query: &str) -> Result<Option<String>, ApiError> {
    let invalid = || ApiError::InvalidAudience("`aud` must be one audience, once".to_owned());
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(|_| invalid())?;
    let mut values = pairs.into_iter().filter(|(name, _)| name == "aud").map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(audience), None) if !audience.is_empty() => Ok(Some(audience)),
        // A proxy whose variable is empty must not accept the tokens of all services.
        _ => Err(invalid()),
    }
}

/// Whom the token is about.
fn about(checked: &CheckedToken) -> HeaderMap {
    let subject = utf8_percent_encode(&checked.username, ENCODED).to_string();
    let mut headers = HeaderMap::new();
    // Encoded, it has no character that a header refuses.
    headers.extend(HeaderValue::try_from(subject).ok().map(|subject| (X_AUTH_SUBJECT, subject)));
    headers.extend(checked.uid.map(|uid| (X_AUTH_UID, uid.0.into())));
    headers
}

pub(super) fn operation(mode: AuthMode, _: &mut Types) -> Operation {
    let mut success = Success::no_content("The token is valid");
    success.headers.push(X_AUTH_SUBJECT);
    if mode == AuthMode::Password {
        // Tokens of open mode are about no account.
        success.headers.push(X_AUTH_UID);
    }
    Operation {
        parameters: vec![Parameter {
            name: "aud",
            location: ParameterLocation::Query,
            about: "The audience that the token must be for. Without it: any of AUDIENCE",
            schema: json!({"type": "string", "minLength": 1}),
        }],
        successes: vec![success],
        errors: vec![
            ErrorCode::InvalidAudience,
            ErrorCode::InvalidToken,
            ErrorCode::Internal,
            ErrorCode::Unavailable,
        ],
        ..Operation::new("verifyToken", "Whether the bearer token is valid, and whom it is about")
    }
}
