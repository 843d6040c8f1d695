//! Accounts, usernames and e-mail addresses. They are validated only here, when they are parsed.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use thiserror::Error;

use super::clock::Timestamp;
use super::password::{HashCost, PasswordHash};

/// Maximum length of a username in characters.
pub const USERNAME_MAX: usize = 64;

/// Maximum length of an e-mail address in bytes (RFC 5321 §4.5.3.1.3, without the angle brackets).
pub const EMAIL_MAX: usize = 254;

/// The username of a new account: 1 to 64 ASCII letters, digits and `. _ - @ +`, in the spelling of the user.
///
/// Only ASCII, because different Unicode names can look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Parses a username.
    ///
    /// # Errors
    /// [`InvalidUsername`] names the rule that the text breaks.
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

/// Why a text is not a [`Username`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidUsername {
    /// A character that is not allowed.
    #[error("A username may have only ASCII letters, digits and . _ - @ +")]
    Character,
    /// An empty text.
    #[error("The username is empty")]
    Empty,
    /// More than [`USERNAME_MAX`] characters.
    #[error("A username may have at most 64 characters")]
    TooLong,
}

/// An e-mail address in the spelling of the user. The store ignores case when it compares addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Parses an ASCII address `local@domain` (RFC 5321 §4.1.2) without quotes. The domain must contain a dot and must
    /// not be an IP literal. Only ASCII, because the store ignores case only for ASCII letters.
    ///
    /// # Errors
    /// [`InvalidEmail`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
        // No spaces: after one, the library accepts an address in brackets and ignores the text around it.
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

/// The text is not an e-mail address.
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

/// An account to create.
#[derive(Debug)]
pub struct NewAccount {
    /// The username.
    pub username: Username,
    /// The e-mail address, if any.
    pub email: Option<Email>,
    /// The hash of its password.
    pub password_hash: PasswordHash,
}

/// An account in the store.
///
/// The username is a plain string: a store of another implementation may contain names that [`Username`] rejects.
#[derive(Debug)]
pub struct Account {
    /// The ID.
    pub id: UserId,
    /// The username, in the spelling of the registration.
    pub username: String,
    /// The hash of its password.
    pub password_hash: PasswordHash,
    /// When an operator last signed it out.
    pub signed_out_at: Option<Timestamp>,
}

/// The account that a token is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// The username, in the spelling of the registration.
    pub username: String,
    /// Whether it may sign in.
    pub state: AccountState,
    /// When an operator last signed it out.
    pub signed_out_at: Option<Timestamp>,
}

impl TokenHolder {
    /// Whether a token about this account is accepted that was issued at this time, in whole seconds, to this username.
    #[must_use]
    pub fn accepts(&self, username: &str, issued_at: Timestamp) -> bool {
        let is_signed_out = self.signed_out_at.is_some_and(|at| issued_at.as_secs() <= at.as_secs());
        self.state == AccountState::Active && self.username == username && !is_signed_out
    }
}

/// An account as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountReport {
    /// The ID.
    pub id: UserId,
    /// The username, in the spelling of the registration.
    pub username: String,
    /// The e-mail address, if any.
    pub email: Option<String>,
    /// When it was registered; `None` if the stored text is not a time.
    pub registered: Option<Timestamp>,
    /// The last sign-in.
    pub last_login: Option<Timestamp>,
    /// Whether it may sign in.
    pub state: AccountState,
    /// When an operator last signed it out.
    pub signed_out_at: Option<Timestamp>,
    /// The cost of verifying its password; `None` if no password can match.
    pub cost: Option<HashCost>,
}

/// Whether an account may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It may sign in.
    Active,
    /// It may never sign in again. Its username is not reused.
    Deleted,
    /// It may not sign in until it is enabled.
    Disabled,
}

impl AccountState {
    /// The name of the state.
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
    fn a_username_of_64_allowed_characters_keeps_its_spelling() {
        let name = format!("Ab9._-@+{}", "x".repeat(56));
        assert_eq!(Username::parse(&name).unwrap().as_ref(), name);
    }

    #[test]
    fn an_invalid_username_is_rejected_with_the_broken_rule() {
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
