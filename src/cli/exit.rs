//! How a command ends: the errors of commands, and the exit status of each.

use std::ffi::OsString;
use std::process::ExitCode;

use thiserror::Error;

use super::output;
use super::text::without_secrets;
use jwksd_core::issuer::{ExternalKeyError, IssuerError, KeyCommandError};
use jwksd_core::setting::ConfigError;
use jwksd_core::store::StoreError;

/// The part of `--help` about exit statuses.
pub(super) const HELP: &str = "Exit status:
  0  done
  1  failed; doctor: there are warnings; jwt verify: the token is invalid
  2  nothing was done: invalid setting, invalid command line or unusable store; doctor: there are errors
  3  account, key or store not found
  4  username or email address taken
";

/// A failure without a status of its own.
const FAILED: u8 = 1;

/// The setting, the command line or the store is invalid, and nothing was done.
pub(super) const REFUSED: u8 = 2;

/// The account, the key or the store does not exist.
const NOT_FOUND: u8 = 3;

/// The username or the email address is taken.
const TAKEN: u8 = 4;

/// The command cannot run as it was called. The text says why, and what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// The store that a command needs does not exist.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct NotFound(pub(super) String);

/// An end with this status and no message, because the command has already printed what it found.
#[derive(Clone, Copy, Debug, Error)]
#[error("ended with status {0}")]
pub(super) struct Status(pub(super) u8);

/// Prints the error, if there is one, and returns the exit status. The error may quote these arguments of the command line.
pub(super) fn finish(result: anyhow::Result<()>, args: &[OsString]) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if let Some(Status(status)) = error.downcast_ref() {
        return ExitCode::from(*status);
    }
    let args = args.iter().map(|arg| arg.to_string_lossy());
    output::message(&without_secrets(format!("jwksd: {error:#}"), args));
    ExitCode::from(status(&error))
}

fn status(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<UsageError>() {
        return REFUSED;
    }
    if error.is::<NotFound>() {
        return NOT_FOUND;
    }
    // The whole chain, because commands add context above the error that decides.
    match error.chain().find_map(|cause| cause.downcast_ref()) {
        Some(
            IssuerError::NoSuchAccount
            | IssuerError::KeyCommand(KeyCommandError::Unknown(_) | KeyCommandError::UnknownName(_))
            | IssuerError::ExternalKey(ExternalKeyError::Unknown(_)),
        ) => NOT_FOUND,
        Some(IssuerError::Store(StoreError::Conflict(_))) => TAKEN,
        Some(IssuerError::Store(StoreError::Forbidden(_))) => REFUSED,
        _ => FAILED,
    }
}
