//! HTTP: bytes to meanings and back. Every route is on this screen; failures become status codes in `error` alone.

mod admin;
mod auth;
mod body;
mod client_ip;
pub(crate) mod config;
mod credentials;
mod discovery;
mod error;
mod failures;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod jwks;
mod keys;
pub(crate) mod listener;
mod metrics;
mod open;
mod openapi;
mod rate_limit;
mod register;
mod server;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{delete, get, post};

use self::admin::Gate;
use self::error::ApiError;
use crate::issuer::Issuer;

pub use self::admin::AdminToken;
pub use self::client_ip::{ClientIpHeader, ClientIpPolicy};
pub use self::config::{AuthMode, HttpConfig, Registration};
pub use self::front::Front;
pub use self::listener::ListenConfig;
pub use self::metrics::Metrics;
pub use self::server::serve;

/// Where the JWKS is.
const JWKS: [&str; 2] = ["/.well-known/jwks.json", "/jwks"];

/// Where tokens are.
const AUTH: &str = "/auth";

/// All routes over one issuer, behind the front, which counts what POST /auth may be asked.
#[must_use]
pub fn front(issuer: Issuer, settings: HttpConfig, metrics: Metrics) -> Front {
    let (settings, metrics) = (Arc::new(settings), Arc::new(metrics));
    let routes = router(issuer.clone(), &settings, &metrics);
    Front::new(routes, issuer, settings, &metrics)
}

fn router(issuer: Issuer, settings: &Arc<HttpConfig>, metrics: &Arc<Metrics>) -> Router {
    let gate = Arc::new(Gate::new(settings.admin_token.clone()));
    let state = AppState { issuer, settings: Arc::clone(settings), metrics: Arc::clone(metrics) };
    let identify = from_fn_with_state(Arc::clone(settings), client_ip::identify);

    let published = Router::new()
        .route(JWKS[0], get(jwks::get))
        .route(JWKS[1], get(jwks::get))
        .route("/.well-known/openid-configuration", get(discovery::get))
        .route("/.well-known/oauth-authorization-server", get(discovery::get))
        .route("/faults", get(open::faults))
        .route("/keys", get(keys::list))
        .route("/openapi.json", get(openapi::get));
    let health = Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready));
    let accounts = Router::new()
        .route(AUTH, post(auth::post))
        .route(
            "/register",
            rate_limit::bucket(post(register::post), settings.register_rate_limit)
                .route_layer(identify.clone()),
        )
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(error::never_stored));

    let admin = Router::new()
        .route("/metrics", get(metrics::get))
        .route("/upload", post(keys::upload).layer(DefaultBodyLimit::max(keys::UPLOAD_MAX)))
        .route("/keys/{kid}", delete(keys::withdraw))
        .route_layer(from_fn_with_state(gate, admin::admit))
        .route_layer(identify)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(error::never_stored));

    Router::new()
        .merge(published)
        .merge(health)
        .merge(accounts)
        .merge(admin)
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(metrics), metrics::measure))
        .with_state(state)
}

async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

#[derive(Clone)]
struct AppState {
    issuer: Issuer,
    settings: Arc<HttpConfig>,
    metrics: Arc<Metrics>,
}

impl FromRef<AppState> for Issuer {
    fn from_ref(state: &AppState) -> Self {
        state.issuer.clone()
    }
}

impl FromRef<AppState> for Arc<HttpConfig> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.settings)
    }
}

impl FromRef<AppState> for Arc<Metrics> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.metrics)
    }
}
