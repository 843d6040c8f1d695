//! The store in one SQLite file. All SQL text is in this crate.
//!
//! One connection writes and runs its transactions one after the other; a few others only read (WAL mode). Keys and
//! accounts are on disk before they are answered (`synchronous = FULL`). Sign-ins reach the disk with the next sync
//! (`NORMAL`).

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

mod account_watch;
mod accounts;
mod backup;
mod check;
mod compatibility;
mod course_tables;
pub mod directory;
mod error;
mod file;
mod keys;
mod merge;
mod pool;
mod probe;
mod references;
mod rehearsal;
mod restore;
mod schema;
mod schema_check;
mod serving_mode;
mod sign_in_batch;
mod sign_ins;
mod store;
mod text;
mod thumbprints;
mod transfer;
mod unique_indexes;
mod write_probe;

pub use self::check::{Counts, Depth, Inspection};
pub use self::file::{DatabaseFile, InvalidDatabaseUrl};
pub use self::merge::MergeOutcome;
pub use self::probe::{Contents, Probe};
pub use self::restore::ExclusiveLock;
pub use self::schema::newest_schema;
pub use self::schema_check::SchemaFault;
pub use self::store::SqliteStore;
pub use self::transfer::{FileContent, FileTarget};
