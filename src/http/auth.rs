//! `POST /auth`: a token for whoever knows the password of an account, or in open mode for anybody.

use std::sync::Arc;

use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::body::Payload;
use super::client_ip::ClientIp;
use super::credentials::Credentials;
use super::error::{ApiError, json};
use super::metrics::{Metrics, Outcome};
use super::{AuthMode, HttpConfig, open};
use crate::domain::token::fault::Fault;
use crate::domain::token::{Token, TokenKind};
use crate::issuer::{Issuer, IssuerError};

/// A token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(super) struct Answer {
    /// A JWT (RFC 7519) in the compact serialisation. Only one that was asked to have no signature has none.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$"))]
    token: Token,
}

pub(super) async fn post(
    State(issuer): State<Issuer>,
    State(settings): State<Arc<HttpConfig>>,
    State(metrics): State<Arc<Metrics>>,
    Extension(ClientIp(from)): Extension<ClientIp>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, ApiError> {
    let asked = Asked::read(query.as_deref().unwrap_or_default())?;
    let token = match (settings.auth_mode, asked) {
        (AuthMode::Open, asked) => {
            let (subject, overrides) = open::read(&headers, &payload)?;
            match asked {
                Asked::Token(kind) => issuer.issue_to_anybody(&subject, kind, overrides)?,
                Asked::Fault(fault) => issuer.issue_faulty(&subject, fault, overrides).await?,
            }
        }
        (AuthMode::Password, Asked::Fault(_)) => return Err(ApiError::FaultsClosed),
        (AuthMode::Password, Asked::Token(kind)) => {
            let credentials = Credentials::read(&headers, &payload)?;
            let refusal = ApiError::InvalidCredentials { basic_was_used: credentials.basic_was_used };
            let (Some(username), Some(password)) = (credentials.username, credentials.password) else {
                metrics.count_sign_in(Outcome::Refused);
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

/// What the query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Fault(Fault),
    Token(TokenKind),
}

impl Asked {
    /// Reads `?expired`, `?expired=true`, `?expired=false` and `?fault=NAME`; other parameters are left to others.
    pub(super) fn read(query: &str) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query).map_err(|_| ApiError::InvalidExpired)?;
        let values = |wanted: &str| {
            let values = pairs.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            values.collect::<Vec<_>>()
        };
        let kind = match values("expired")[..] {
            [] | ["false"] => TokenKind::Valid,
            ["" | "true"] => TokenKind::Expired,
            _ => return Err(ApiError::InvalidExpired),
        };
        match (&values("fault")[..], kind) {
            ([], kind) => Ok(Self::Token(kind)),
            ([name], TokenKind::Valid) => {
                Fault::from_name(name).map(Self::Fault).ok_or(ApiError::InvalidFault)
            }
            _ => Err(ApiError::InvalidFault),
        }
    }
}
