//! Authentication of the admin surface: closed without `ADMIN_TOKEN`, and open only to clients that send it.
//!
//! Requests with the right token are never counted for the limit: clients behind the operator's address could use it up.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::client_ip::ClientIp;
use super::error::ApiError;
use super::rate_limit::{Limit, refusal};
use crate::rate_limit::Decision;

/// The bearer token (RFC 6750) of the admin surface. Only its digest is kept.
#[derive(Clone)]
pub struct AdminToken {
    digest: Digest,
    is_short: bool,
}

/// Fewest characters that make a token hard to guess.
const MIN_LENGTH: usize = 16;

impl AdminToken {
    /// Takes the text of the token.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let is_short = text.chars().count() < MIN_LENGTH;
        Self { digest: digest(&SHA256, text.as_bytes()), is_short }
    }

    /// True if the token is so short that it can be guessed.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Compares in constant time. Digests have one length, so that the token's length does not show either.
    fn matches(&self, given: &str) -> bool {
        let given = digest(&SHA256, given.as_bytes());
        verify_slices_are_equal(self.digest.as_ref(), given.as_ref()).is_ok()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// What the admin surface requires.
pub(super) struct AdminAuth {
    token: Option<AdminToken>,
    /// Of requests without the right token.
    limit: Limit,
}

impl AdminAuth {
    pub(super) fn new(token: Option<AdminToken>, limit: Limit) -> Self {
        Self { token, limit }
    }

    /// The error of a request that does not have the right token.
    fn check(&self, given: Option<&str>) -> Result<(), ApiError> {
        // Without a token the surface is closed: a forgotten ADMIN_TOKEN must not open it to all.
        let token = self.token.as_ref().ok_or(ApiError::AdminClosed)?;
        if given.is_some_and(|given| token.matches(given)) {
            return Ok(());
        }
        Err(ApiError::InvalidAdminToken { was_given: given.is_some() })
    }
}

/// Middleware that admits only requests with the token, and limits all others.
pub(super) async fn require(
    State(auth): State<Arc<AdminAuth>>,
    Extension(ClientIp(client)): Extension<ClientIp>,
    request: Request,
    next: Next,
) -> Response {
    let Err(error) = auth.check(bearer(request.headers())) else {
        return next.run(request).await;
    };
    match auth.limit.limiter.check(auth.limit.bucket, client.into()).await {
        Decision::Admitted => error.into_response(),
        Decision::Refused { retry_after } => refusal(retry_after),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    // RFC 9110 §11.1: schemes are case-insensitive.
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
