//! Rows of `auth_logs`, and which of them are wanted.

use std::net::IpAddr;

use crate::domain::account::UserId;
use crate::domain::clock::Timestamp;

/// A row of `auth_logs`.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// Where it stands.
    pub cursor: Cursor,
    /// When; nothing if another program wrote something that is no time.
    pub at: Option<Timestamp>,
    /// From which address.
    pub from: String,
    /// Who.
    pub user: Option<UserId>,
    /// The name of that account now.
    pub username: Option<String>,
}

/// A place in `auth_logs`, in the order of time.
#[derive(Clone, Debug)]
pub struct Cursor {
    pub(crate) time: String,
    /// The number of the row.
    pub id: i64,
}

/// Which rows of `auth_logs` are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignInFilter {
    /// Of one account.
    pub user: Option<UserId>,
    /// From one address.
    pub from: Option<IpAddr>,
    /// Not older than this; [`Page::NewerThan`] does not ask.
    pub since: Option<Timestamp>,
}

/// A part of `auth_logs`.
#[derive(Clone, Debug)]
pub enum Page {
    /// In the order of time, from behind this place on.
    After {
        /// From the first on, if nothing is said.
        cursor: Option<Cursor>,
        /// The greatest number that still counts.
        up_to: i64,
    },
    /// In the order in which they came, those with greater numbers than this.
    NewerThan(i64),
}
