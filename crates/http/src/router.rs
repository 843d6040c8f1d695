//! From the table of routes to axum's router.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};

use super::bearer_auth::{self, BearerAuth, Surface};
use super::error::ApiError;
use super::metrics;
use super::openapi::Access;
use super::rate_limit::{self, Limit};
use super::register_guard;
use super::response::no_store;
use super::routes::Route;
use super::state::AppState;
use jwksd_core::rate_limit::{Bucket, RateLimiter};

/// Returns a router of all routes. Requests must carry the client's address.
pub(super) fn router(routes: Vec<Route>, state: AppState, limits: RouteLimits) -> Router {
    let limit = Limit { limiter: Arc::clone(&limits.limiter), bucket: Bucket::Admin };
    let (admin, introspect) = (&state.config.admin_token, &state.config.introspect_token);
    let guards = Guards {
        admin: Arc::new(BearerAuth::new(Surface::Admin, admin.clone(), limit.clone())),
        introspection: Arc::new(BearerAuth::new(
            Surface::Introspection,
            admin.iter().chain(introspect).cloned(),
            limit,
        )),
        limits,
    };
    let (public, private): (Vec<_>, Vec<_>) =
        routes.into_iter().partition(|route| route.endpoint.access == Access::Public);
    let group = |routes: Vec<Route>| {
        let add = |router: Router<AppState>, route: Route| add(router, route, &guards);
        // Set here, so that the responses to wrong methods pass the layers of the group as well.
        routes.into_iter().fold(Router::new(), add).method_not_allowed_fallback(method_not_allowed)
    };
    group(public)
        .merge(group(private).layer(map_response(no_store)))
        .fallback(not_found)
        // Outermost, so that 404 and 405 are counted too.
        .layer(from_fn_with_state(Arc::clone(&state.metrics), metrics::measure))
        .with_state(state)
}

/// The limits that the router enforces.
pub(super) struct RouteLimits {
    pub(super) limiter: Arc<dyn RateLimiter>,
    /// Of the outer guard of /register.
    pub(super) registration: u32,
}

/// What stands in front of handlers.
struct Guards {
    admin: Arc<BearerAuth>,
    introspection: Arc<BearerAuth>,
    limits: RouteLimits,
}

fn add(router: Router<AppState>, route: Route, guards: &Guards) -> Router<AppState> {
    let Route { endpoint, mut handler } = route;
    let auth = match endpoint.access {
        Access::Admin => Some(&guards.admin),
        Access::Introspection => Some(&guards.introspection),
        _ => None,
    };
    if let Some(auth) = auth {
        // Also counts the requests that it refuses.
        handler = handler.route_layer(from_fn_with_state(Arc::clone(auth), bearer_auth::require));
    }
    if let Some(bucket @ Bucket::Registration) = endpoint.limit {
        let limit = Limit { limiter: Arc::clone(&guards.limits.limiter), bucket };
        handler = handler.route_layer(from_fn_with_state(limit, rate_limit::enforce));
        // The layer that is added last runs first.
        handler = register_guard::guard(handler, guards.limits.registration);
    }
    router.route(endpoint.path, handler)
}

/// Whether the fast path checks the limits of this bucket, because refusals must cost next to nothing.
pub(super) fn is_checked_before_routing(bucket: Bucket) -> bool {
    bucket == Bucket::SignIn
}

async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

async fn not_found() -> ApiError {
    ApiError::NotFound
}
