//! Why the issuer did not do what was asked.

use std::time::Duration;

use thiserror::Error;

use super::blocking_pool::WorkError;
use super::keyring::{ExternalKeyError, KeyCommandError};
use super::refused_sign_in::RefusedSignIn;
use crate::key::KeyError;
use crate::key::self_check::SelfCheckError;
use crate::password::{HashError, InvalidChoice};
use crate::store::StoreError;

/// Why the issuer did not do what was asked.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// Other processes changed the keys at the same time, several times in a row.
    #[error("other processes keep changing the keys at the same time: try again")]
    Contention,
    /// An external key cannot be published or withdrawn.
    #[error(transparent)]
    ExternalKey(#[from] ExternalKeyError),
    /// Open mode issues no tokens on a store with accounts.
    #[error(
        "the store has accounts, so open mode issues no tokens: set AUTH_MODE=password, or OPEN_AUTH_ANYWAY=true"
    )]
    HasAccounts,
    /// A password hash could not be computed.
    #[error("a password could not be hashed")]
    Hash(#[from] HashError),
    /// A user may not choose this password.
    #[error(transparent)]
    InvalidChoice(#[from] InvalidChoice),
    /// Unknown username or wrong password; clients cannot tell which, but the log says it.
    #[error("the username or the password is wrong")]
    InvalidCredentials(RefusedSignIn),
    /// A key could not be used.
    #[error("a key failed")]
    Key(#[from] KeyError),
    /// An operator's command cannot be carried out on these keys.
    #[error(transparent)]
    KeyCommand(#[from] KeyCommandError),
    /// The store is sealed under another master key than the one of this process.
    #[error("the master key of the store has changed: restart with the new NOT_MY_KEY")]
    MasterKeyChanged,
    /// There is no account of that name, or it is deleted.
    #[error("there is no account of that name")]
    NoSuchAccount,
    /// No key can sign now: every key has ended, and the rotation has not made another yet.
    #[error("no key can sign a token now")]
    NoSigningKey,
    /// There is no expired or revoked key, of the kind that was asked for.
    #[error("there is no suitable key")]
    NoSuitableKey,
    /// The change is stored, but this process does not publish the new key set.
    #[error("the change is stored, but the new key set is not published: {0}")]
    NotPublished(SelfCheckError),
    /// No token is issued for the audience that was asked for.
    #[error("`aud` {}", audiences(known))]
    UnknownAudience {
        /// Those that tokens can be for.
        known: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many passwords for one name were wrong, and the client is new to its account.
    #[error("too many passwords for this name were wrong")]
    TooManyFailures {
        /// Time until the next try can be admitted.
        retry_after: Duration,
    },
    /// No key lives long enough for such a token.
    #[error("a token may live for at most {} s now, because it never outlives its key", most.as_secs())]
    TtlTooLong {
        /// The longest lifetime that is possible now.
        most: Duration,
    },
    /// A slow computation was not done.
    #[error("a computation was not done")]
    Worker(#[from] WorkError),
}

fn audiences(known: &[String]) -> String {
    match known {
        [] => "cannot be chosen, because AUDIENCE is not set: leave it out".to_owned(),
        [one] => format!("must be {one}, or left out"),
        [first, ..] => format!("must be one of {}, or left out for {first}", known.join(", ")),
    }
}
