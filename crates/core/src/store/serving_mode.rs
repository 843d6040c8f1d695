//! The mode that a store is served in, by all processes on it at a time.

use std::fmt;

/// Whether the tokens of a store are issued to those who know a password, or to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingMode {
    /// To anyone.
    Open,
    /// To those who know the password of an account.
    Password,
}

impl ServingMode {
    /// The name that the store records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Password => "password",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Password].into_iter().find(|mode| mode.name() == name)
    }
}

impl fmt::Display for ServingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
