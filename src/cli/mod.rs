//! The command line: one file for each command, and what they share.
//!
//! `command` has the commands and runs them; `bootstrap` opens the store for them; `exit` has their errors and exit
//! statuses; `output` prints.

mod argon2_tune;
mod backup;
mod bootstrap;
mod command;
mod confirm;
mod doctor;
mod exit;
mod fetch;
mod files;
mod jwk;
mod jwt;
mod keys;
mod logs;
mod man;
mod master_key;
mod move_store;
mod open_mode;
mod output;
mod process_limits;
mod progress;
mod rekey;
mod restore;
mod serve;
mod shutdown_signal;
mod store_copy;
mod systemd;
mod text;
mod upload;
mod users;

pub use self::command::main;
