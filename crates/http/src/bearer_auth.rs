//! Authentication by a secret bearer token: of the admin surface, and of introspection. Both are closed without a token.
//!
//! Requests with a right token are never counted for the limit: clients behind the operator's address could use it up.

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
use jwksd_core::rate_limit::Decision;

/// A secret bearer token (RFC 6750) from the settings. Only its digest is kept.
#[derive(Clone)]
pub struct SecretToken {
    digest: Digest,
    is_short: bool,
}

/// Fewest characters that make a token hard to guess.
const MIN_LENGTH: usize = 16;

impl SecretToken {
    /// Takes the text of the token.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let is_short = text.chars().count() < MIN_LENGTH;
        Self { digest: digest(&SHA256, text.as_bytes()), is_short }
    }

    /// True if the token is so short that it can be guessed.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Compares in constant time. Digests have one length, so that the token's length does not show either.
    fn matches(&self, given: &str) -> bool {
        let given = digest(&SHA256, given.as_bytes());
        verify_slices_are_equal(self.digest.as_ref(), given.as_ref()).is_ok()
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken")
    }
}

/// What a token opens.
#[derive(Clone, Copy)]
pub(super) enum Surface {
    Admin,
    Introspection,
}

/// What a surface requires.
pub(super) struct BearerAuth {
    surface: Surface,
    tokens: Vec<SecretToken>,
    /// Of requests without a right token.
    limit: Limit,
}

impl BearerAuth {
    /// Any of `tokens` opens the surface.
    pub(super) fn new(surface: Surface, tokens: impl IntoIterator<Item = SecretToken>, limit: Limit) -> Self {
        Self { surface, tokens: tokens.into_iter().collect(), limit }
    }

    /// The error of a request that does not have a right token.
    fn check(&self, given: Option<&str>) -> Result<(), ApiError> {
        if given.is_some_and(|given| self.tokens.iter().any(|token| token.matches(given))) {
            return Ok(());
        }
        let was_given = given.is_some();
        Err(match (self.surface, &self.tokens[..]) {
            // Without a token the surface is closed: a forgotten ADMIN_TOKEN must not open it to all.
            (Surface::Admin, []) => ApiError::AdminClosed,
            (Surface::Introspection, []) => ApiError::IntrospectionClosed,
            (Surface::Admin, _) => ApiError::InvalidAdminToken { was_given },
            (Surface::Introspection, _) => ApiError::InvalidIntrospectToken { was_given },
        })
    }
}

/// Middleware that admits only requests with the token, and limits all others.
pub(super) async fn require(
    State(auth): State<Arc<BearerAuth>>,
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

/// The bearer token of a request (RFC 6750 §2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    // With two, a proxy could have checked one and passed on both.
    let line = lines.next().filter(|_| lines.next().is_none())?;
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    // RFC 9110 §11.1: schemes are case-insensitive.
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
