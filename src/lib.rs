//! `jwksd` issues JWTs to user accounts and publishes the keys that verify them as a JWKS.
//!
//! The layers, each of which uses only those below it:
//!
//! - [`cli`]: the commands; [`app`]: the wired server
//! - [`config`]: all settings, from flags, environment and `.env`
//! - [`http`]: routes, and the JSON of requests and responses
//! - [`issuer`]: the use cases
//! - [`store`]: the database
//! - [`domain`]: keys, passwords, tokens, accounts, time
//! - [`setting`], [`telemetry`], [`rate_limit`]: settings, logs and limits; every layer above `domain` may use them
//!
//! `ARCHITECTURE.md` follows one request through them.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

pub mod app;
pub mod cli;
pub mod config;
mod directory;
pub mod domain;
mod file_access;
pub mod http;
pub mod issuer;
pub mod rate_limit;
pub mod setting;
pub mod store;
pub mod telemetry;
mod trim;
