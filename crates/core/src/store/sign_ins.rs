//! Sign-ins: recording one, and reading `auth_logs`.

use std::net::IpAddr;

use crate::account::UserId;
use crate::clock::Timestamp;
use crate::key::Kid;
use crate::password::PasswordHash;

/// A sign-in that is about to be answered with a token.
#[derive(Clone, Debug)]
pub struct NewSignIn {
    /// Who signs in.
    pub user: UserId,
    /// The hash that the password was checked against.
    pub checked: PasswordHash,
    /// The latest sign-out that the token takes account of.
    pub signed_out_at: Option<Timestamp>,
    /// The key that signed the token. Without one (a token that is made expired) no key is checked.
    pub signed_by: Option<Kid>,
    /// The address of the client.
    pub from: IpAddr,
    /// When.
    pub at: Timestamp,
}

/// Whether a sign-in was recorded. Only then may its token leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SignInOutcome {
    /// The account may not sign in any more, its password hash has changed, or it was signed out.
    AccountChanged,
    /// The key that signed the token was revoked, or has expired.
    KeyEnded,
    /// It is stored.
    Recorded,
}

/// A row of `auth_logs`.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// Where to continue reading after this row.
    pub cursor: Cursor,
    /// When; nothing if another program wrote a value that is not a time.
    pub at: Option<Timestamp>,
    /// The address of the client.
    pub from: String,
    /// Who.
    pub user: Option<UserId>,
    /// The name that the account has now.
    pub username: Option<String>,
}

/// A place in `auth_logs`, ordered by time.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The time of the row, in the form that the store sorts by. Only the store reads it.
    pub position: String,
    /// The number of the row.
    pub id: i64,
}

/// Which rows of `auth_logs` to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignInFilter {
    /// Only those of this account.
    pub user: Option<UserId>,
    /// Only those from this address.
    pub from: Option<IpAddr>,
    /// Only those since this time. [`Page::NewerThan`] ignores it.
    pub since: Option<Timestamp>,
}

/// A part of `auth_logs`.
#[derive(Clone, Debug)]
pub enum Page {
    /// Ordered by time, after this cursor.
    After {
        /// Without one, from the first row.
        cursor: Option<Cursor>,
        /// The greatest row number to include.
        up_to: i64,
    },
    /// Ordered by row number, those with a greater number than this.
    NewerThan(i64),
}
