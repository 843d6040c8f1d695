//! A signed token.

use std::fmt;

use serde::Serialize;

use super::claims::Claims;
use crate::key::{KeyError, SigningKey};
use jwksd_jose::jws;

/// A signed JWT in compact form.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Signs claims with a key.
    ///
    /// # Errors
    /// [`KeyError::Signature`] if aws-lc-rs fails.
    pub fn sign(key: &SigningKey, claims: &Claims<'_>) -> Result<Self, KeyError> {
        Self::assemble(key.header(claims.typ), claims, |message| key.sign(message))
    }

    /// Joins an encoded header, claims, and the signature that `sign` makes of both.
    pub(super) fn assemble(
        header: &str,
        claims: &Claims<'_>,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
    ) -> Result<Self, KeyError> {
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Signature)?;
        jws::compact(header, &claims, sign).map(Self)
    }

    /// The compact form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token is a credential, so it is not printed.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
