//! `POST /password`: changes the password of an account, for clients that know the old one.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::attempt::attempt;
use crate::body::RequestBody;
use crate::client_ip::ClientIp;
use crate::config::AuthMode;
use crate::credentials::Credentials;
use crate::error::{ApiError, ErrorCode};
use crate::metrics::Metrics;
use crate::openapi::{Operation, RequestContent, Success, Types};
use crate::response::json as json_response;
use jwksd_core::issuer::Accounts;
use jwksd_core::password::{CHOSEN_MAX, CHOSEN_MIN, Password};

const EXPECTED: &str = "an object with the texts `username`, `password` and, if you choose one, `new_password`, and nothing else";
const EXPECTED_FORM: &str =
    "a form with `username`, `password` and, if you choose one, `new_password`, each once, and nothing else";

/// The documented pattern of chosen passwords: no control characters.
const CHOSEN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The account, its password and the one that replaces it. HTTP Basic can carry the first two instead.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PasswordChange")]
struct PasswordChange {
    username: Option<String>,
    #[schemars(with = "Option<String>")]
    password: Option<Password>,
    /// Without it, a password is generated. Not the username in any case, nor a common password, nor the old one.
    #[schemars(with = "Option<String>", length(min = CHOSEN_MIN, max = CHOSEN_MAX), regex(pattern = CHOSEN))]
    new_password: Option<Password>,
}

/// A generated password.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Password")]
pub(super) struct GeneratedPassword<'a> {
    /// A UUID (version 4), shown only once.
    #[schemars(extend("format" = "uuid"))]
    password: &'a str,
}

impl<'a> GeneratedPassword<'a> {
    pub(super) fn new(password: &'a Password) -> Self {
        Self { password: password.reveal() }
    }
}

pub(super) async fn post(
    State(accounts): State<Accounts>,
    State(metrics): State<Arc<Metrics>>,
    Extension(ClientIp(client)): Extension<ClientIp>,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let PasswordChange { username, password, new_password } = match &body {
        RequestBody::Empty => PasswordChange::default(),
        RequestBody::Form(text) => text.form(EXPECTED_FORM)?,
        RequestBody::Json(text) => text.json(EXPECTED)?,
    };
    let credentials = Credentials::from_parts(username, password, &headers);
    let count = |result| metrics.count_password_change(result);
    let generated = attempt(credentials, count, async |username, password| {
        accounts.change_password(&username, &password, new_password.as_ref(), client.into()).await
    });
    Ok(match generated.await? {
        Some(password) => json_response(&GeneratedPassword::new(&password)),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The same in both modes: accounts have passwords, whether or not /auth checks them.
pub(super) fn operation(_: AuthMode, types: &mut Types) -> Operation {
    let change = json!({"schema": types.read::<PasswordChange>()});
    let content = vec![("application/json", change.clone()), ("application/x-www-form-urlencoded", change)];
    let generated = types.written::<GeneratedPassword<'static>>();
    Operation {
        accepts_basic: true,
        body: Some(RequestContent { is_required: false, content }),
        successes: vec![
            Success::json(generated, "The generated password, if the request has no `new_password`"),
            Success::no_content("The account has the new password"),
        ],
        errors: vec![
            ErrorCode::InvalidBody,
            ErrorCode::InvalidCredentials,
            ErrorCode::InvalidNewPassword,
            ErrorCode::TooManyFailures,
            ErrorCode::BodyTooLarge,
            ErrorCode::BodyTooSlow,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::Internal,
            ErrorCode::Unavailable,
        ],
        ..Operation::new(
            "changePassword",
            "Changes the password of an account, for a client that knows the old one",
        )
    }
}
