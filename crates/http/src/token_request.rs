//! The query of `POST /auth`: which kind of token the client requests.

use super::error::ApiError;
use jwksd_core::token::TokenKind;
use jwksd_core::token::fault::Fault;

/// The token that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRequest {
    /// A token with this fault (`?fault=NAME`).
    Fault(Fault),
    /// A valid or an expired token.
    Token(TokenKind),
}

impl TokenRequest {
    /// Reads `?expired`, `?expired=true`, `?expired=false` and `?fault=NAME`. Other parameters are ignored.
    ///
    /// # Errors
    /// [`ApiError::InvalidExpired`] or [`ApiError::InvalidFault`] for an unknown value or a repeated parameter.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query).map_err(|_| ApiError::InvalidExpired)?;
        let values = |wanted: &str| {
            let values = pairs.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            values.collect::<Vec<_>>()
        };
        let kind = match values("expired")[..] {
            [] | ["false"] => TokenKind::Valid,
            // `?expired` without a value means true.
            ["" | "true"] => TokenKind::Expired,
            _ => return Err(ApiError::InvalidExpired),
        };
        match (&values("fault")[..], kind) {
            ([], kind) => Ok(Self::Token(kind)),
            ([name], TokenKind::Valid) => {
                Fault::from_name(name).map(Self::Fault).ok_or(ApiError::InvalidFault)
            }
            _ => Err(ApiError::InvalidFault),
        }
    }
}
