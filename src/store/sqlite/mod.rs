//! The SQLite store. All SQL text is in this folder.
//!
//! One connection writes and runs its transactions one after the other; a few others only read (WAL mode). Keys and
//! accounts are on disk before they are answered (`synchronous = FULL`). Sign-ins reach the disk with the next sync
//! (`NORMAL`).

mod account_watch;
mod accounts;
mod backup;
mod check;
mod compatibility;
mod course_tables;
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
mod sign_in_batcher;
mod sign_ins;
mod store;
mod text;
mod thumbprints;
mod unique_indexes;
mod write_probe;

pub(crate) use self::check::{Counts, Depth, Inspection};
pub use self::file::{DatabaseFile, InvalidDatabaseUrl};
pub(crate) use self::merge::MergeOutcome;
pub use self::probe::{Contents, Probe};
pub(crate) use self::restore::ExclusiveLock;
pub(crate) use self::schema::newest_schema;
pub use self::schema_check::SchemaFault;
pub use self::store::SqliteStore;
