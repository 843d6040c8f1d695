//! What pages in browsers may do: not every page that a user opens may use the jwksd of this machine or network.
//!
//! A browser adds `Host`, `Origin` and `Sec-Fetch-Site`, and a page cannot change them. Other clients send what they like,
//! so nothing here replaces a credential.

mod config;
mod cors;
mod known_hosts;
mod origin;
mod policy;

pub use self::config::BrowserConfig;
pub use self::config::{ALLOWED_HOSTS, ALLOWED_ORIGINS};
pub(super) use self::cors::{Grant, is_preflight, meant_method, preflight};
pub use self::origin::AllowedOrigins;
pub(super) use self::policy::BrowserPolicy;
