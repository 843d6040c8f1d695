//! What handlers can ask for: each extracts only the parts that it needs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;

use super::config::{AuthMode, HttpConfig, Registration};
use super::metrics::Metrics;
use super::openapi::LazyDocument;
use jwksd_core::issuer::{Accounts, Issuer, Keyring};

/// The use cases behind the routes.
#[derive(Clone)]
pub struct Services {
    /// Accounts, for /register and /password.
    pub accounts: Accounts,
    /// Keys, for the JWKS and the admin surface.
    pub keyring: Arc<Keyring>,
    /// Tokens, for /auth.
    pub issuer: Issuer,
}

/// The state of the router.
#[derive(Clone)]
pub(super) struct AppState {
    pub(super) services: Services,
    pub(super) config: Arc<HttpConfig>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) openapi: Arc<LazyDocument>,
}

/// How long published documents may be cached.
#[derive(Clone, Copy)]
pub(super) struct MaxAge(pub(super) Duration);

impl FromRef<AppState> for Arc<HttpConfig> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.config)
    }
}

impl FromRef<AppState> for Issuer {
    fn from_ref(state: &AppState) -> Self {
        state.services.issuer.clone()
    }
}

impl FromRef<AppState> for Accounts {
    fn from_ref(state: &AppState) -> Self {
        state.services.accounts.clone()
    }
}

impl FromRef<AppState> for Arc<Keyring> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.services.keyring)
    }
}

impl FromRef<AppState> for Arc<Metrics> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.metrics)
    }
}

impl FromRef<AppState> for Arc<LazyDocument> {
    fn from_ref(state: &AppState) -> Self {
        Arc::clone(&state.openapi)
    }
}

impl FromRef<AppState> for AuthMode {
    fn from_ref(state: &AppState) -> Self {
        state.config.auth_mode
    }
}

impl FromRef<AppState> for Registration {
    fn from_ref(state: &AppState) -> Self {
        state.config.registration
    }
}

impl FromRef<AppState> for MaxAge {
    fn from_ref(state: &AppState) -> Self {
        Self(state.config.max_age)
    }
}
