//! `jwksd` issues RS256 JWTs to user accounts and publishes the keys that verify them as a JWKS.
//!
//! The floors, each of which knows only those below it:
//!
//! - [`cli`]: the commands, wiring; [`config`] and [`telemetry`] stand beside it
//! - [`http`]: bytes to meanings and back
//! - [`issuer`]: the use cases
//! - [`store`]: what is remembered
//! - [`domain`]: keys, passwords, tokens, accounts, time
//!
//! `ARCHITECTURE.md` walks through one request.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

pub mod cli;
pub mod config;
mod directory;
pub mod domain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod issuer;
pub mod store;
pub mod telemetry;
