//! `POST /register`: an account for anybody, with a random password that is shown this once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::RequestBody;
use super::error::{ApiError, json};
use super::{HttpConfig, Registration};
use crate::domain::account::{EMAIL_MAX, Email, USERNAME_MAX, Username};
use crate::issuer::Issuer;

const EXPECTED: &str = "an object with the texts `username` and `email`, and nothing else";

/// Who wants an account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Registration")]
pub(super) struct RegisterRequest {
    /// Kept as typed, unique regardless of case.
    #[schemars(length(min = 1, max = USERNAME_MAX), regex(pattern = r"^[A-Za-z0-9._@+-]+$"))]
    username: String,
    /// An ASCII address without quotes, whose domain has a dot. Unique regardless of case.
    #[schemars(email, length(max = EMAIL_MAX))]
    email: String,
}

/// The password of a new account.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Password")]
pub(super) struct Answer<'a> {
    /// A UUID (version 4), shown this once.
    #[schemars(extend("format" = "uuid"))]
    password: &'a str,
}

pub(super) async fn post(
    State(issuer): State<Issuer>,
    State(settings): State<Arc<HttpConfig>>,
    body: RequestBody,
) -> Result<Response, ApiError> {
    if settings.registration == Registration::Closed {
        return Err(ApiError::RegistrationClosed);
    }
    let wanted: RegisterRequest = match &body {
        RequestBody::Json(text) => text.json(EXPECTED)?,
        RequestBody::Empty => return Err(ApiError::InvalidBody(format!("The body must be {EXPECTED}"))),
        RequestBody::Form(_) => return Err(ApiError::UnsupportedMediaType),
    };
    let username = Username::parse(&wanted.username)?;
    let email = Email::parse(&wanted.email)?;
    let password = issuer.register(username, Some(email)).await?;
    Ok((StatusCode::CREATED, json(&Answer { password: password.reveal() })).into_response())
}
