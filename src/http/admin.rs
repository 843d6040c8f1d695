//! The admin surface's one rule: closed without `ADMIN_TOKEN`, and open only to whoever has it.

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
use super::rate_limit::{MovingWindow, refusal};

/// Requests of one client in any span of one second: plenty for people and scrapers, few for guessing.
const LIMIT: u32 = 10;

/// The bearer token (RFC 6750) of the admin surface: its digest, so that comparing tells nothing of its length.
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

    /// In the same time, whatever was given.
    fn is(&self, given: &str) -> bool {
        let given = digest(&SHA256, given.as_bytes());
        verify_slices_are_equal(self.digest.as_ref(), given.as_ref()).is_ok()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// What stands before every route of the admin surface.
pub(super) struct Gate {
    token: Option<AdminToken>,
    window: MovingWindow,
}

impl Gate {
    pub(super) fn new(token: Option<AdminToken>) -> Self {
        Self { token, window: MovingWindow::new(LIMIT) }
    }
}

/// Lets through whoever has the token. Every request counts for the limit, whatever becomes of it.
pub(super) async fn admit(
    State(gate): State<Arc<Gate>>,
    Extension(ClientIp(client)): Extension<ClientIp>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(wait) = gate.window.check(client) {
        return refusal(wait);
    }
    let Some(token) = &gate.token else {
        return ApiError::AdminClosed.into_response();
    };
    match bearer(request.headers()) {
        Some(given) if token.is(given) => next.run(request).await,
        given => ApiError::InvalidAdminToken { was_given: given.is_some() }.into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
