//! What the log says of a sign-in that was refused. Clients see none of it.

use std::fmt;

/// A sign-in that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSignIn {
    /// The name of the account, if there is one. Never the text of a client, because that may be a password.
    pub account: Option<String>,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a sign-in was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The account is disabled or deleted.
    DisabledAccount,
    /// The request has no username or no password.
    MissingCredentials,
    /// There is no account of that name.
    UnknownAccount,
    /// No password matches what is stored as the hash of the account.
    UnusableHash,
    /// The password is wrong.
    WrongPassword,
}

impl RefusedSignIn {
    /// A refusal that concerns no account.
    #[must_use]
    pub const fn without_account(reason: RefusalReason) -> Self {
        Self { account: None, reason }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DisabledAccount => "disabled account",
            Self::MissingCredentials => "missing credentials",
            Self::UnknownAccount => "unknown account",
            Self::UnusableHash => "unusable password hash",
            Self::WrongPassword => "wrong password",
        })
    }
}
