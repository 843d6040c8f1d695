//! Where the rate limits meet requests: 429 for clients over their limit.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::client_ip::ClientIp;
use super::error::{ApiError, whole_seconds};
use jwksd_core::rate_limit::{Bucket, Decision, RateLimiter};

/// The limiter and the bucket of one route.
#[derive(Clone)]
pub(super) struct Limit {
    pub(super) limiter: Arc<dyn RateLimiter>,
    pub(super) bucket: Bucket,
}

/// Middleware that counts every request of a route, successful or not.
pub(super) async fn enforce(
    State(limit): State<Limit>,
    Extension(ClientIp(client)): Extension<ClientIp>,
    request: Request,
    next: Next,
) -> Response {
    // Before the handler: a refused request costs neither its body nor the store anything.
    match limit.limiter.check(limit.bucket, client.into()).await {
        Decision::Admitted => next.run(request).await,
        Decision::Refused { retry_after } => refusal(retry_after),
    }
}

/// The response to a client over its limit.
pub(super) fn refusal(retry_after: Duration) -> Response {
    ApiError::RateLimited { retry_after: whole_seconds(retry_after) }.into_response()
}
