//! `jwksd` issues JWTs to user accounts and publishes the keys that verify them as a JWKS.
//!
//! The layers, each of which uses only those below it:
//!
//! - [`cli`]: the commands; [`app`]: the wired server
//! - [`database`]: where the store is
//! - [`config`]: all settings, from flags, environment and `.env`
//! - [`telemetry`]: log lines
//!
//! Below them are crates: `jwksd-http`, `jwksd-store-sqlite`, `jwksd-store-postgres`, `jwksd-core` and `jwksd-jose`.
//!
//! `ARCHITECTURE.md` follows one request through them.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

pub mod app;
pub mod cli;
pub mod config;
pub mod database;
mod file_access;
pub mod shared_limit;
pub mod telemetry;
