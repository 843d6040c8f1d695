//! The use cases: publish keys, issue tokens, register accounts, sign users in, rotate keys.
//!
//! [`Accounts`] and [`Keyring`] stand for themselves; an [`Issuer`] (RFC 7519 §4.1.1) has both and issues tokens. HTTP and
//! the command line only translate for them.

mod account_admin;
mod accounts;
mod blocking_pool;
mod change_password;
mod check_token;
pub mod config;
mod context;
mod error;
mod fair_queue;
mod guess;
mod guess_limit;
mod issue;
mod keyring;
mod known_clients;
mod mutex;
mod open_mode;
mod refused_sign_in;
mod retention;
mod sign_in;
mod write_probe;

pub use self::accounts::Accounts;
pub use self::blocking_pool::{BlockingPool, Record, WorkError};
pub use self::check_token::CheckedToken;
pub use self::config::{BackendChoice, GuessLimits, KeyConfig, PasswordConfig, TokenConfig};
pub use self::context::{Context, SharedRng};
pub use self::error::IssuerError;
pub use self::fair_queue::Requester;
pub use self::issue::Issuer;
pub use self::keyring::{
    ExternalKeyError, KeyCommandError, Keyring, MasterKey, MasterKeyError, NotReady, Publication,
    PublishedKey, RekeyError, RekeyReport, Remedy, UnreadableRow, Uploaded, initialize, rekey, unlock,
};
pub use self::keyring::{PublishedSet, published_set};
pub use self::keyring::{differences, opened_external_keys, rows_left_out, unreadable_rows};
pub use self::refused_sign_in::{RefusalReason, RefusedSignIn};
pub use self::retention::{Retention, Swept};
