//! What a command ends with: the exit status that scripts go by.

use std::process::ExitCode;

use thiserror::Error;

use super::opening::{Missing, Refused};
use super::say;
use crate::issuer::{ExternalKeyError, IssuerError, KeyCommandError};
use crate::setting::ConfigError;
use crate::store::StoreError;

/// What `--help` says of them.
pub(super) const HELP: &str = "Exit status:
  0  done
  1  not done; of doctor: there are warnings; of jwt verify: the token is not valid
  2  refused before anything was done: a setting, the command line or the store cannot work; of doctor: there are errors
  3  the account, the key or the store is not there
  4  the name or the address was given out before
";

/// Not done, for a reason that has no status of its own.
const FAILED: u8 = 1;

/// Refused before anything was done: a setting, the command line or the store cannot work.
pub(super) const REFUSED: u8 = 2;

/// What was named is not there.
const MISSING: u8 = 3;

/// A name or an address was given out before.
const TAKEN: u8 = 4;

/// An end with a status of its own and nothing to say: what was found has been told already.
#[derive(Clone, Copy, Debug, Error)]
#[error("ended with status {0}")]
pub(super) struct Status(pub(super) u8);

/// Says what went wrong, and gives the status.
pub(super) fn finish(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if let Some(Status(status)) = error.downcast_ref() {
        return ExitCode::from(*status);
    }
    say(&format!("jwksd: {error:#}"));
    ExitCode::from(status(&error))
}

fn status(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<Refused>() {
        return REFUSED;
    }
    if error.is::<Missing>() {
        return MISSING;
    }
    match error.chain().find_map(|cause| cause.downcast_ref()) {
        Some(
            IssuerError::NoSuchAccount
            | IssuerError::KeyCommand(KeyCommandError::Unknown(_))
            | IssuerError::ExternalKey(ExternalKeyError::Unknown(_)),
        ) => MISSING,
        Some(IssuerError::Store(StoreError::Conflict(_))) => TAKEN,
        _ => FAILED,
    }
}
