//! `POST /auth`: a token for whoever knows the password of an account, or in open mode for anybody.

use std::sync::Arc;

use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::body::Payload;
use super::client_ip::ClientIp;
use super::credentials::Credentials;
use super::error::{ApiError, json};
use super::metrics::{Metrics, Outcome};
use super::{AuthMode, HttpSettings};
use crate::domain::token::{Token, TokenKind};
use crate::issuer::{Issuer, IssuerError};

/// Whom a token of open mode is about when nobody is named.
const NOBODY: &str = "anonymous";

/// The longest `sub` that open mode gives out, in characters.
const SUBJECT_MAX: usize = 255;

#[derive(Serialize)]
struct Answer {
    token: Token,
}

pub(super) async fn post(
    State(issuer): State<Issuer>,
    State(settings): State<Arc<HttpSettings>>,
    State(metrics): State<Arc<Metrics>>,
    Extension(ClientIp(from)): Extension<ClientIp>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, ApiError> {
    let kind = kind(query.as_deref().unwrap_or_default())?;
    let credentials = Credentials::read(&headers, &payload)?;
    let token = match settings.auth_mode {
        AuthMode::Open => {
            let name = credentials.username.as_deref().unwrap_or(NOBODY);
            issuer.issue_to_anybody(subject(name)?, kind)?
        }
        AuthMode::Password => {
            let refusal = ApiError::InvalidCredentials { basic_was_used: credentials.basic_was_used };
            let (Some(username), Some(password)) = (credentials.username, credentials.password) else {
                return Err(refusal);
            };
            let signed_in = issuer.sign_in(&username, password, from, kind).await;
            metrics.count_sign_in(outcome(&signed_in));
            signed_in.map_err(|error| match error.into() {
                ApiError::InvalidCredentials { .. } => refusal,
                other => other,
            })?
        }
    };
    Ok(json(&Answer { token }))
}

fn outcome(signed_in: &Result<Token, IssuerError>) -> Outcome {
    match signed_in {
        Ok(_) => Outcome::Accepted,
        Err(IssuerError::InvalidCredentials) => Outcome::Refused,
        Err(_) => Outcome::Failed,
    }
}

/// Reads `?expired`, `?expired=true` and `?expired=false`; other parameters are left to others.
fn kind(query: &str) -> Result<TokenKind, ApiError> {
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query).map_err(|_| ApiError::InvalidExpired)?;
    let mut values = pairs.iter().filter(|(name, _)| name == "expired").map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (None | Some("false"), None) => Ok(TokenKind::Fresh),
        (Some("" | "true"), None) => Ok(TokenKind::Expired),
        _ => Err(ApiError::InvalidExpired),
    }
}

fn subject(name: &str) -> Result<&str, ApiError> {
    if name.chars().count() > SUBJECT_MAX || name.chars().any(char::is_control) {
        let why =
            format!("The username may have at most {SUBJECT_MAX} characters, and no control characters");
        return Err(ApiError::InvalidBody(why));
    }
    Ok(if name.is_empty() { NOBODY } else { name })
}
