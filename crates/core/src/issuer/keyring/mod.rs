//! The keys: what is published and which key signs, kept up to date tick by tick.
//!
//! Requests read one immutable snapshot, which is swapped in one step. What to change in the store is decided in
//! `rotation`; what an operator can ask for is in `commands`, `external_keys` and `rekey`.

mod anchors;
mod commands;
mod deletion;
mod duplicates;
mod error;
mod external_keys;
mod inspect;
mod last_pulse;
mod lost;
mod master_key;
mod open_mode;
mod policy;
mod published_set;
mod readiness;
mod rekey;
mod rotation;
mod self_check_log;
mod snapshot;
mod state;
mod successor;
mod thumbprints;

pub use self::error::{ExternalKeyError, KeyCommandError};
pub use self::external_keys::{PublishedKey, Uploaded};
pub use self::inspect::{Remedy, UnreadableRow};
pub use self::inspect::{opened_external_keys, rows_left_out, unreadable_rows};
pub use self::master_key::{MasterKey, MasterKeyError, initialize, unlock};
pub use self::policy::differences;
pub use self::published_set::{PublishedSet, published_set};
pub use self::readiness::NotReady;
pub use self::rekey::{RekeyError, RekeyReport, rekey};
pub use self::snapshot::Publication;
pub use self::state::Keyring;
