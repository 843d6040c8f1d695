//! `POST /auth`: a token for clients that know the password of an account, or in open mode for every client.

use std::sync::Arc;

use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::attempt::attempt;
use crate::body::RequestBody;
use crate::client_ip::ClientIp;
use crate::config::AuthMode;
use crate::credentials::{CredentialFields, Credentials};
use crate::error::{ApiError, ErrorCode};
use crate::metrics::Metrics;
use crate::open_mode::{OpenTokenFields, OpenTokenForm, read_token_overrides};
use crate::openapi::{Operation, Parameter, ParameterLocation, RequestContent, Success, Types};
use crate::response::json as json_response;
use crate::token_request::TokenRequest;
use jwksd_core::issuer::Issuer;
use jwksd_core::token::Token;
use jwksd_core::token::fault::Fault;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct TokenResponse {
    /// A JWT (RFC 7519) in the compact serialisation. Only a token requested without a signature has none.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$"))]
    token: Token,
}

pub(super) async fn post(
    State(issuer): State<Issuer>,
    State(mode): State<AuthMode>,
    State(metrics): State<Arc<Metrics>>,
    Extension(ClientIp(client)): Extension<ClientIp>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let request = TokenRequest::parse(query.as_deref().unwrap_or_default())?;
    let token = match (mode, request) {
        (AuthMode::Open, request) => issue(&issuer, request, &headers, &body).await?,
        // Some of these tokens are signed by a published key: a server with accounts must not issue them.
        (AuthMode::Password, TokenRequest::Fault(_)) => return Err(ApiError::FaultsClosed),
        (AuthMode::Password, TokenRequest::Token(kind)) => {
            let mut credentials = Credentials::read(&headers, &body)?;
            // Before the password, because the error says nothing of the account and costs no hash.
            let audience = issuer.audience(credentials.audience.take())?;
            let count = |result| metrics.count_sign_in(result);
            attempt(credentials, count, async |username, password| {
                issuer.sign_in(&username, password, client, kind, audience).await
            })
            .await?
        }
    };
    Ok(json_response(&TokenResponse { token }))
}

/// Open mode: nothing is verified.
async fn issue(
    issuer: &Issuer,
    request: TokenRequest,
    headers: &HeaderMap,
    body: &RequestBody,
) -> Result<Token, ApiError> {
    let (subject, overrides) = read_token_overrides(headers, body)?;
    Ok(match request {
        TokenRequest::Token(kind) => issuer.issue_unchecked(&subject, kind, overrides).await?,
        TokenRequest::Fault(fault) => issuer.issue_faulty(&subject, fault, overrides).await?,
    })
}

pub(super) fn operation(mode: AuthMode, types: &mut Types) -> Operation {
    match mode {
        AuthMode::Open => open_operation(types),
        AuthMode::Password => sign_in_operation(types),
    }
}

fn sign_in_operation(types: &mut Types) -> Operation {
    let credentials = json!({"schema": types.read::<CredentialFields>()});
    let content = vec![(JSON, credentials.clone()), (FORM, credentials)];
    let mut errors = vec![
        ErrorCode::InvalidCredentials,
        ErrorCode::FaultsClosed,
        ErrorCode::InvalidAudience,
        ErrorCode::TooManyFailures,
    ];
    errors.extend(COMMON_ERRORS);
    Operation {
        accepts_basic: true,
        parameters: vec![expired()],
        body: Some(RequestContent { is_required: false, content }),
        successes: vec![Success::json(types.written::<TokenResponse>(), "A token")],
        errors,
        ..Operation::new("signIn", "A token for a client that knows the password of an account")
    }
}

fn open_operation(types: &mut Types) -> Operation {
    let example =
        json!({"sub": "alice", "aud": "https://api.example", "ttl": "5m", "claims": {"roles": ["admin"]}});
    let object = json!({"schema": types.read::<OpenTokenFields>(), "example": example});
    let form = json!({"schema": types.read::<OpenTokenForm>()});
    let fault = Parameter {
        name: "fault",
        location: ParameterLocation::Query,
        about: "The fault of the token; see GET /faults. Cannot be combined with `expired`",
        schema: json!({"type": "string", "enum": Fault::ALL.map(Fault::name)}),
    };
    let mut errors = COMMON_ERRORS.to_vec();
    errors.push(ErrorCode::OpenModeClosed);
    Operation {
        accepts_basic: true,
        parameters: vec![expired(), fault],
        body: Some(RequestContent { is_required: false, content: vec![(JSON, object), (FORM, form)] }),
        successes: vec![Success::json(types.written::<TokenResponse>(), "A token")],
        errors,
        ..Operation::new(
            "issueToAnybody",
            "A token for every client, about any subject; also one that a correct verifier refuses",
        )
    }
}

/// The errors of both modes.
const COMMON_ERRORS: [ErrorCode; 10] = [
    ErrorCode::InvalidBody,
    ErrorCode::InvalidExpired,
    ErrorCode::InvalidFault,
    ErrorCode::NoKey,
    ErrorCode::NoSuitableKey,
    ErrorCode::BodyTooLarge,
    ErrorCode::BodyTooSlow,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Internal,
    ErrorCode::Unavailable,
];

fn expired() -> Parameter {
    Parameter {
        name: "expired",
        location: ParameterLocation::Query,
        about: "Whether the token is already expired, and signed by an expired key. Without a value: true",
        schema: json!({"type": "string", "enum": ["", "true", "false"]}),
    }
}
