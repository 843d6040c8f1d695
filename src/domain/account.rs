//! Accounts: who may sign in. Names and addresses are parsed once, here, and never checked again.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use thiserror::Error;

use super::clock::Timestamp;
use super::password::{HashCost, PasswordHash};

/// The most characters a username may have.
pub const USERNAME_MAX: usize = 64;

/// The most characters an e-mail address may have (RFC 5321, 4.5.3.1.3, less the angle brackets).
pub const EMAIL_MAX: usize = 254;

/// A name a new account may have: 1 to 64 ASCII letters, digits and `. _ - @ +`, kept as typed.
///
/// ASCII alone, so that two names that look alike are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Reads a name.
    ///
    /// # Errors
    /// [`InvalidUsername`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidUsername> {
        if text.is_empty() {
            return Err(InvalidUsername::Empty);
        }
        if text.chars().count() > USERNAME_MAX {
            return Err(InvalidUsername::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@+".contains(&b)) {
            return Err(InvalidUsername::Character);
        }
        Ok(Self(text.to_owned()))
    }
}

impl AsRef<str> for Username {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`Username`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidUsername {
    /// A character outside of the allowed ones.
    #[error("A username may have only ASCII letters, digits and . _ - @ +")]
    Character,
    /// Nothing at all.
    #[error("The username is empty")]
    Empty,
    /// More than [`USERNAME_MAX`] characters.
    #[error("A username may have at most 64 characters")]
    TooLong,
}

/// An e-mail address, kept as typed; two that differ only by case are the same to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Reads an ASCII address of the form `local@domain` (RFC 5321, 4.1.2) without quotes, whose domain has a dot and
    /// is no IP literal. ASCII alone, because the store tells no case of other letters.
    ///
    /// # Errors
    /// [`InvalidEmail`] for everything else.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
        // No blank, because behind one the library takes an address in brackets, with whatever is around it.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if text.len() > EMAIL_MAX || !is_plain || EmailAddress::parse_with_options(text, options).is_err() {
            return Err(InvalidEmail);
        }
        Ok(Self(text.to_owned()))
    }
}

impl AsRef<str> for Email {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The text is no e-mail address.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("The email is not an e-mail address")]
pub struct InvalidEmail;

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// `users.id`, and the `uid` claim of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An account that is about to be made.
#[derive(Debug)]
pub struct NewAccount {
    /// Its name.
    pub username: Username,
    /// Its address, if it has one.
    pub email: Option<Email>,
    /// What its password is checked against.
    pub password_hash: PasswordHash,
}

/// An account as the store knows it.
///
/// The name is plain text: a store that was taken over may hold names that [`Username`] would refuse today.
#[derive(Debug)]
pub struct Account {
    /// Its number.
    pub id: UserId,
    /// Its name, spelled as at registration.
    pub username: String,
    /// What its password is checked against.
    pub password_hash: PasswordHash,
}

/// An account as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountReport {
    /// Its number.
    pub id: UserId,
    /// Its name, spelled as at registration.
    pub username: String,
    /// Its address, if it has one.
    pub email: Option<String>,
    /// When it was made, if the store says so in a form that can be read.
    pub registered: Option<Timestamp>,
    /// When it last signed in.
    pub last_login: Option<Timestamp>,
    /// Whether it may sign in.
    pub state: AccountState,
    /// What checking its password costs; nothing if it has none that could match.
    pub cost: Option<HashCost>,
}

/// Whether an account may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It may.
    Active,
    /// It may not, and will never again: its name is used up.
    Deleted,
    /// It may not until it is enabled.
    Disabled,
}

impl AccountState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
            Self::Disabled => "disabled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_of_64_allowed_characters_is_kept_as_typed() {
        let name = format!("Ab9._-@+{}", "x".repeat(56));
        assert_eq!(Username::parse(&name).unwrap().as_ref(), name);
    }

    #[test]
    fn a_username_outside_of_the_rules_is_refused_with_the_rule() {
        assert_eq!(Username::parse(""), Err(InvalidUsername::Empty));
        assert_eq!(Username::parse(&"é".repeat(65)), Err(InvalidUsername::TooLong));
        for name in ["a b", "a\0b", "a\nb", "caf\u{e9}", "cafe\u{301}", "a'b", "a/b", "<a>", " a", "a "] {
            assert_eq!(Username::parse(name), Err(InvalidUsername::Character), "{name:?}");
        }
    }

    #[test]
    fn an_email_needs_a_local_part_and_a_dotted_domain() {
        for good in ["a@example.com", "First.Last+tag@sub.example.org"] {
            assert_eq!(Email::parse(good).unwrap().as_ref(), good);
        }
        let long = format!("a@{}.com", "d".repeat(260));
        let bad = [
            "",
            "a",
            "a@",
            "@example.com",
            "a@localhost",
            "a@@example.com",
            "a b@example.com",
            "a@exa mple.com",
            "A <a@example.com>",
            " <a@example.com>",
            "  < a@example.com>  ",
            "<a@example.com>",
            "a@[127.0.0.1]",
            "a@example.com\n",
            "a\0@example.com",
            "é@example.com",
            "a@exämple.com",
            "\"a b\"@example.com",
            &long,
        ];
        for text in bad {
            assert_eq!(Email::parse(text), Err(InvalidEmail), "{text:?}");
        }
    }
}
