//! Why a store did not do what was asked. No variant names a database.

use std::fmt;

use thiserror::Error;

/// What must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// An e-mail address.
    Email,
    /// A username, also that of a deleted account.
    Username,
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email => "email",
            Self::Username => "username",
        })
    }
}

/// Why the store did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Several accounts have that name, each in another spelling.
    #[error("the accounts {0:?} and {1:?} differ only by case: use the exact spelling of one of them")]
    Ambiguous(String, String),
    /// Another process holds the write lock. The same call may work a moment later.
    #[error("the store is busy: another process is writing")]
    Busy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A value that must be unique is taken.
    #[error("the {0} is taken")]
    Conflict(Unique),
    /// The data are not those of a jwksd store, or they are damaged.
    #[error("{0}")]
    Corrupt(String),
    /// A constraint or a trigger that jwksd has not made forbids it. Says which one. Nothing was changed.
    #[error("the database forbids it, by a rule that jwksd has not made ({0})")]
    Forbidden(String),
    /// The tables of another program are made or filled in a way that cannot be worked with. Says what to do.
    #[error("{0}")]
    Foreign(String),
    /// Another process has the store open.
    #[error("another process has it open")]
    InUse,
    /// What was opened is gone: the store was removed, or a restore has replaced it.
    #[error("the store was removed or replaced while it was open: restore it, or restart")]
    Replaced,
    /// The store does not answer: full, unreadable, out of reach.
    #[error("the store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why nothing can be written to the store now.
#[derive(Debug, Error)]
pub enum NotWritable {
    /// There is no space left.
    #[error("the store cannot be written: its disk is full")]
    Full(#[source] StoreError),
    /// Another process holds the write lock; without an error if it held it for the whole time limit.
    #[error("the store cannot be written: another process holds its write lock")]
    Locked(#[source] Option<StoreError>),
    /// The file, or what it is on, is read-only.
    #[error("the store cannot be written: it is read-only")]
    ReadOnly(#[source] StoreError),
    /// It fails for another reason.
    #[error("the store cannot be written")]
    Failed(#[source] StoreError),
}

impl StoreError {
    /// The store does not answer, because of this.
    pub fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Box::new(cause))
    }

    /// Whether the same call may work a moment later without an operator's help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Replaced)
    }
}
