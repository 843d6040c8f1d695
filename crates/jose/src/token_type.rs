//! The type of a token: the `typ` of its header (RFC 7515 §4.1.9).

/// The types of the tokens that we sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenType {
    /// A JWT for any use (RFC 7519 §5.1).
    #[default]
    Jwt,
    /// An access token (RFC 9068 §2.1).
    AccessToken,
}

impl TokenType {
    /// The value of `typ`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jwt => "JWT",
            Self::AccessToken => "at+jwt",
        }
    }
}
