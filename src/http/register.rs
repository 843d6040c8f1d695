//! `POST /register`: an account for anybody, with a random password that is shown this once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::body::Payload;
use super::error::{ApiError, json};
use super::{HttpSettings, Registration};
use crate::domain::account::{Email, Username};
use crate::issuer::Issuer;

const EXPECTED: &str = "an object with the texts `username` and `email`, and nothing else";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    username: String,
    email: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    password: &'a str,
}

pub(super) async fn post(
    State(issuer): State<Issuer>,
    State(settings): State<Arc<HttpSettings>>,
    payload: Payload,
) -> Result<Response, ApiError> {
    if settings.registration == Registration::Closed {
        return Err(ApiError::RegistrationClosed);
    }
    let wish: Wish = match &payload {
        Payload::Json(text) => text.json(EXPECTED)?,
        Payload::Empty => return Err(ApiError::InvalidBody(format!("The body must be {EXPECTED}"))),
        Payload::Form(_) => return Err(ApiError::UnsupportedMediaType),
    };
    let username = Username::parse(&wish.username)?;
    let email = Email::parse(&wish.email)?;
    let password = issuer.register(username, Some(email)).await?;
    Ok((StatusCode::CREATED, json(&Answer { password: password.reveal() })).into_response())
}
