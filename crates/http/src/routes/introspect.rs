//! `POST /introspect`: whether a token is valid, and what it says (RFC 7662).

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body::RequestBody;
use crate::config::AuthMode;
use crate::error::{ApiError, ErrorCode};
use crate::openapi::{Operation, RequestContent, Success, Types};
use crate::response::json as json_response;
use jwksd_core::issuer::{CheckedToken, Issuer};

const EXPECTED: &str = "an object with the text `token`";
const EXPECTED_FORM: &str = "a form with `token`, once";

/// The token to check. Other parameters are ignored (RFC 6749 §3.2), also `token_type_hint`: there is one type of token.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Introspection")]
struct IntrospectionRequest {
    token: String,
    #[serde(rename = "token_type_hint")]
    _token_type_hint: Option<String>,
}

pub(super) async fn post(
    State(issuer): State<Issuer>,
    State(mode): State<AuthMode>,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let request: IntrospectionRequest = match &body {
        RequestBody::Empty => return Err(ApiError::InvalidBody(format!("The body must be {EXPECTED_FORM}"))),
        RequestBody::Form(text) => text.form(EXPECTED_FORM)?,
        RequestBody::Json(text) => text.json(EXPECTED)?,
    };
    let checked = issuer.check_token(&request.token, None, mode.into()).await?;
    // RFC 7662 §2.2: nothing about a token that is not active.
    Ok(json_response(&checked.map_or_else(|| json!({"active": false}), about)))
}

/// The claims, and what RFC 7662 §2.2 adds to them.
fn about(checked: CheckedToken) -> Value {
    let CheckedToken { mut claims, username, .. } = checked;
    // Last, because open mode lets clients choose claims of these names.
    claims.extend(Map::from_iter([
        ("active".to_owned(), true.into()),
        ("token_type".to_owned(), "Bearer".into()),
        ("username".to_owned(), username.into()),
    ]));
    claims.into()
}

pub(super) fn operation(_: AuthMode, types: &mut Types) -> Operation {
    let request = json!({"schema": types.read::<IntrospectionRequest>()});
    let content = vec![("application/x-www-form-urlencoded", request.clone()), ("application/json", request)];
    let state = json!({
        "type": "object", "required": ["active"], "properties": {
            "active": {"type": "boolean"}, "token_type": {"const": "Bearer"}, "username": {"type": "string"},
        },
    });
    Operation {
        body: Some(RequestContent { is_required: true, content }),
        successes: vec![Success::json(state, "Whether the token is valid, and its claims if it is")],
        errors: vec![
            ErrorCode::InvalidBody,
            ErrorCode::BodyTooLarge,
            ErrorCode::BodyTooSlow,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::Internal,
            ErrorCode::Unavailable,
        ],
        ..Operation::new("introspectToken", "Whether a token is valid, and what it says (RFC 7662)")
    }
}
