//! What jwksd does, without HTTP, SQL and files.
//!
//! - [`account`], [`client`], [`clock`], [`key`], [`password`], [`token`]: what things are. They do no I/O; time and
//!   randomness are parameters.
//! - [`store`]: the trait of the seam to what is stored
//! - [`issuer`]: the use cases
//! - [`setting`]: what a setting is; [`rate_limit`]: limits per client; [`outage`]: failures that last

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

pub mod account;
pub mod client;
pub mod clock;
pub mod issuer;
pub mod key;
pub mod outage;
pub mod password;
pub mod rate_limit;
pub mod setting;
pub mod store;
pub mod token;
pub mod trim;
