//! The settings of the HTTP layer.

use std::time::Duration;

use super::{AdminToken, ClientIpPolicy};

/// What the HTTP floor is told by the settings.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The issuer's URL, from which discovery derives the others.
    pub issuer_url: String,
    /// How long verifiers may cache what is published.
    pub max_age: Duration,
    /// Whether /auth asks for credentials.
    pub auth_mode: AuthMode,
    /// Whether /register makes accounts.
    pub registration: Registration,
    /// /auth requests per second and client; 0 for no limit.
    pub auth_rate_limit: u32,
    /// /register requests per second and client; 0 for no limit.
    pub register_rate_limit: u32,
    /// Which address of a request counts.
    pub client_ip: ClientIpPolicy,
    /// Who may use the admin surface; nobody if there is none.
    pub admin_token: Option<AdminToken>,
}

/// Whether /auth asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Anybody gets a token for any name.
    Open,
    /// Only those who know the password of an account.
    Password,
}

/// Whether /register makes accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It answers 403.
    Closed,
    /// It makes an account for anybody.
    Open,
}
