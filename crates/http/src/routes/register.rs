//! `POST /register`: creates an account with a random password, which is shown only once.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::password::GeneratedPassword;
use crate::body::RequestBody;
use crate::client_ip::ClientIp;
use crate::config::{AuthMode, Registration};
use crate::error::{ApiError, ErrorCode};
use crate::openapi::{Operation, RequestContent, Success, Types};
use crate::response::json as json_response;
use jwksd_core::account::{EMAIL_MAX, Email, USERNAME_MAX, Username};
use jwksd_core::issuer::{Accounts, Requester};

const EXPECTED: &str = "an object with the texts `username` and `email`, and nothing else";

/// The account to create.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Registration")]
struct RegisterRequest {
    /// Kept as typed, unique regardless of case.
    #[schemars(length(min = 1, max = USERNAME_MAX), regex(pattern = r"^[A-Za-z0-9._@+-]+$"))]
    username: String,
    /// An ASCII address without quotes, whose domain has a dot. Unique regardless of case.
    #[schemars(email, length(max = EMAIL_MAX))]
    email: String,
}

pub(super) async fn post(
    State(accounts): State<Accounts>,
    State(registration): State<Registration>,
    Extension(ClientIp(client)): Extension<ClientIp>,
    body: RequestBody,
) -> Result<Response, ApiError> {
    // Checked before anything that could tell whether a name is taken.
    if registration == Registration::Closed {
        return Err(ApiError::RegistrationClosed);
    }
    let request: RegisterRequest = match &body {
        RequestBody::Json(text) => text.json(EXPECTED)?,
        RequestBody::Empty => return Err(ApiError::InvalidBody(format!("The body must be {EXPECTED}"))),
        RequestBody::Form(_) => return Err(ApiError::UnsupportedMediaType),
    };
    let username = Username::parse(&request.username)?;
    let email = Email::parse(&request.email)?;
    let password = accounts.register(username, Some(email), Requester::Other(client.into())).await;
    let password = password.map_err(ApiError::of_registration)?;
    let response = json_response(&GeneratedPassword::new(&password));
    Ok((StatusCode::CREATED, response).into_response())
}

pub(super) fn operation(mode: AuthMode, types: &mut Types) -> Operation {
    let mut success = Success::json(types.written::<GeneratedPassword<'static>>(), "The account was created");
    success.status = StatusCode::CREATED;
    if mode == AuthMode::Password {
        // In open mode there is no operation of that name.
        success.links.push(("signIn", sign_in_link()));
    }
    let example = json!({"username": "alice", "email": "alice@example.com"});
    let request = json!({"schema": types.read::<RegisterRequest>(), "example": example});
    Operation {
        body: Some(RequestContent { is_required: true, content: vec![("application/json", request)] }),
        successes: vec![success],
        errors: vec![
            ErrorCode::InvalidBody,
            ErrorCode::InvalidUsername,
            ErrorCode::InvalidEmail,
            ErrorCode::RegistrationClosed,
            ErrorCode::UsernameTaken,
            ErrorCode::EmailTaken,
            ErrorCode::BodyTooLarge,
            ErrorCode::BodyTooSlow,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::Internal,
            ErrorCode::Unavailable,
        ],
        ..Operation::new("register", "Creates an account with a random password, which is shown only once")
    }
}

fn sign_in_link() -> Value {
    json!({
        "operationId": "signIn",
        "requestBody": {"username": "$request.body#/username", "password": "$response.body#/password"},
    })
}
