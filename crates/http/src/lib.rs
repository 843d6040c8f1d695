//! HTTP: requests in, responses out.
//!
//! The table in `routes/table.rs` lists every route; the router and /openapi.json are made from it. Failures become status
//! codes only in `error`. A request passes `server`, `fast_path`, `router` and the layers of its route, and reaches a
//! handler in `routes/`.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

mod activity;
mod attempt;
mod bearer_auth;
mod body;
mod browser;
mod client_ip;
mod client_share;
pub mod config;
mod connection;
mod connection_limit;
mod credentials;
mod error;
mod fast_path;
mod host;
mod issuer_path;
pub mod listener;
mod metrics;
mod open_mode;
mod openapi;
mod rate_limit;
mod refusal_log;
mod refused_connections;
mod register_guard;
mod request_log;
mod request_rest;
mod response;
mod router;
mod routes;
mod server;
mod state;
mod token_request;
mod unreadable;

pub use self::bearer_auth::SecretToken;
pub use self::body::RequestBody;
pub use self::browser::{ALLOWED_HOSTS, ALLOWED_ORIGINS, AllowedOrigins, BrowserConfig};
pub use self::client_ip::{ClientIpHeader, ClientIpPolicy};
pub use self::config::{AuthMode, HttpConfig, Registration};
pub use self::credentials::Credentials;
pub use self::error::ApiError;
pub use self::fast_path::FastPath;
pub use self::listener::ListenConfig;
pub use self::metrics::{Metrics, MetricsError};
pub use self::open_mode::read_token_overrides;
pub use self::server::serve;
pub use self::state::Services;
pub use self::token_request::TokenRequest;
