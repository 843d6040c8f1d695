//! The lowest layer: keys and their lifecycle, passwords, tokens, accounts, time.
//!
//! It does no I/O and does not use axum, sqlx or tokio. Time and randomness are parameters.

pub mod account;
pub mod client;
pub mod clock;
pub mod key;
pub mod password;
pub mod token;
