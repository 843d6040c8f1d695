//! HTTP: requests in, responses out.
//!
//! Every route stands in the table of [`routes`]; failures become status codes in `error` and nowhere else. Routes
//! know the files below them here, and no file knows the routes but [`router`] and [`fast_path`].

mod admin_auth;
mod body;
mod client_ip;
pub(crate) mod config;
mod credentials;
mod error;
mod fast_path;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod listener;
mod metrics;
mod open_mode;
mod openapi;
mod rate_limit;
mod register_guard;
mod request_log;
mod response;
mod router;
mod routes;
mod server;
mod state;
mod token_request;

pub use self::admin_auth::AdminToken;
pub use self::client_ip::{ClientIpHeader, ClientIpPolicy};
pub use self::config::{AuthMode, HttpConfig, Registration};
pub use self::fast_path::FastPath;
pub use self::listener::ListenConfig;
pub use self::metrics::Metrics;
pub use self::server::serve;
pub use self::state::Services;
