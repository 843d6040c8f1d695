//! The settings of the HTTP layer.

use std::time::Duration;

use super::admin_auth::AdminToken;
use super::client_ip::ClientIpPolicy;

/// The settings of the HTTP layer. The limits themselves belong to the rate limiter.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The issuer's URL, from which discovery derives the others.
    pub issuer_url: String,
    /// How long verifiers may cache the JWKS, discovery and the OpenAPI document.
    pub max_age: Duration,
    /// Whether /auth checks credentials.
    pub auth_mode: AuthMode,
    /// Whether /register creates accounts.
    pub registration: Registration,
    /// Requests per second and client that the outer guard of /register admits; 0 for no guard.
    pub register_rate_limit: u32,
    /// How the client's address is found.
    pub client_ip: ClientIpPolicy,
    /// The token of the admin surface; without one the surface is closed.
    pub admin_token: Option<AdminToken>,
}

/// Whether /auth checks credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Every client gets a token, for any name.
    Open,
    /// Only clients that know the password of an account get a token.
    Password,
}

/// Whether /register creates accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// /register answers 403.
    Closed,
    /// Every client can create an account.
    Open,
}
