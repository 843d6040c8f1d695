//! The outer guard of /register: `tower_governor`, as the course's design card names it there.
//!
//! It is coarse: a GCRA with a burst, which admits up to twice the limit in one second. The exact limit is the
//! registration bucket behind it. The two cannot be one, because `tower_governor`'s layer accepts no state store but its
//! own. A client that stays within the exact limit is refused only if
//! another one shares its counter. Both refuse with the same response.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use axum::response::IntoResponse as _;
use axum::routing::MethodRouter;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::client_ip::ClientIp;
use super::error::ApiError;
use jwksd_core::client::ClientKey;

/// Number of counters. Bounded, because `tower_governor`'s store never forgets a key.
const COUNTERS: u64 = 1 << 18;

/// Puts the guard in front of a route; a limit of 0 leaves the route as it is.
pub(super) fn guard<S>(route: MethodRouter<S>, limit: u32) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    // `per_second(n)` of the builder would mean one request every n seconds.
    let Some(period) = Duration::from_secs(1).checked_div(limit) else {
        return route;
    };
    let config = GovernorConfigBuilder::default()
        .key_extractor(HashedClient::default())
        .period(period.max(Duration::from_nanos(1)))
        .burst_size(limit)
        .finish();
    let Some(config) = config else {
        return route;
    };
    route.route_layer(GovernorLayer::new(config).error_handler(|error| match error {
        // tower_governor rounds the wait down to whole seconds.
        GovernorError::TooManyRequests { wait_time, .. } => {
            ApiError::RateLimited { retry_after: wait_time + 1 }.into_response()
        }
        other => ApiError::Internal(Box::new(other)).into_response(),
    }))
}

/// Maps clients to counters. The hash has a random key, so that clients cannot choose to share a counter.
#[derive(Clone, Debug, Default)]
struct HashedClient(RandomState);

impl KeyExtractor for HashedClient {
    type Key = u64;

    fn extract<T>(&self, request: &axum::http::Request<T>) -> Result<u64, GovernorError> {
        let ClientIp(client) = request.extensions().get().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(self.0.hash_one(ClientKey::from(*client)) % COUNTERS)
    }
}
