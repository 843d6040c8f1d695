//! The ground floor: keys and their lifecycle, passwords, tokens, accounts, time.
//!
//! Nothing here does I/O or knows of axum, sqlx or tokio. Time and randomness come in as parameters.

pub mod account;
pub mod clock;
pub mod jose;
pub mod key;
pub mod password;
pub mod token;
