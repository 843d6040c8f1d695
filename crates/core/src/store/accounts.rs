//! Accounts as data: what a sign-in needs to know, and the changes that an operator can make.

use crate::account::{Account, Email};
use crate::password::{HashCost, PasswordHash};

/// What is needed to check a password, whether or not the account exists.
#[derive(Debug)]
pub struct SignInCandidate {
    /// The account of that name, if it may sign in.
    pub account: Option<Account>,
    /// The name of the account if it exists, but may not sign in. Only for the log.
    pub disabled: Option<String>,
    /// The costs of all password hashes in the store.
    pub costs: Vec<HashCost>,
}

/// One change to an account.
#[derive(Debug)]
pub enum AccountChange {
    /// Erase everything except its number. Its name is never given out again.
    Delete,
    /// It may not sign in until it is enabled.
    Disable,
    /// It may sign in again.
    Enable,
    /// The tokens that it has until now are not accepted any more, where that is asked.
    SignOut,
    /// Another e-mail address, or none.
    SetEmail(Option<Email>),
    /// Another password.
    SetHash {
        /// The new hash.
        hash: PasswordHash,
        /// The hash that it must have until now, if the caller relies on one. Then it must not be disabled either.
        instead_of: Option<PasswordHash>,
    },
}
