//! The store in PostgreSQL: any number of processes on any number of machines share it.
//!
//! Changes of keys compare and swap one row. Every act has an end: `DATABASE_TIMEOUT`, after which its connection is dropped. A few
//! connections serve requests, and one of its own serves the rotation, which must not wait behind sign-ins.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

mod accounts;
mod connections;
mod error;
mod inspect;
mod keys;
mod schema;
mod server;
mod sign_in_batch;
mod sign_ins;
mod store;
mod transfer;

pub use self::inspect::Inspection;
pub use self::schema::newest_schema;
pub use self::server::{InvalidServerUrl, ServerUrl};
pub use self::store::PostgresStore;
pub use self::transfer::{ServerContent, ServerSource, ServerTarget};
