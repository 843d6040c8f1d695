//! Checking tokens for services that do not verify them themselves, or must know more than a signature tells: whether the
//! account is still enabled, and was not signed out since.

use serde_json::{Map, Value};

use super::error::IssuerError;
use super::issue::Issuer;
use crate::account::UserId;
use crate::store::ServingMode;
use jwksd_jose::numeric_date::numeric_date;
use jwksd_jose::validation::{self, Validation};
use jwksd_jose::verify_error::{Reason, VerifyError};

/// A token that is valid now.
#[derive(Debug)]
pub struct CheckedToken {
    /// Its claims.
    pub claims: Map<String, Value>,
    /// The username of its account; in open mode any subject.
    pub username: String,
    /// The number of its account; in open mode there may be none.
    pub uid: Option<UserId>,
}

impl Issuer {
    /// Checks a token that one of our published keys signed. It must be for this audience, or else for any of ours.
    ///
    /// Returns nothing for every token that is not valid: also for one of an account that is disabled, deleted, or was signed
    /// out since. Only open mode accepts tokens that are about no account.
    ///
    /// # Errors
    /// [`IssuerError::Store`] when the store fails.
    pub async fn check_token(
        &self,
        token: &str,
        audience: Option<&str>,
        mode: ServingMode,
    ) -> Result<Option<CheckedToken>, IssuerError> {
        match self.verified(token, audience) {
            Ok(claims) => self.of_account(claims, mode).await,
            Err(invalid) => {
                tracing::debug!(reason = invalid.reason.code(), "a token was refused");
                Ok(None)
            }
        }
    }

    /// What each verifier checks: the signature, and the claims that need nothing but a clock.
    fn verified(&self, token: &str, audience: Option<&str>) -> Result<Map<String, Value>, VerifyError> {
        let claims = self.keyring.verify(token)?;
        // The audience is checked below, because several can be right.
        let expected = Validation { issuer: Some(self.url().to_owned()), ..Validation::default() };
        validation::validate(&claims, &expected, self.now())?;
        let (named, ours) = (audiences(&claims), &self.tokens.audiences);
        let is_for_us = match audience {
            Some(expected) => named.contains(&expected),
            // RFC 7519 §4.1.3: a service that no audience names must reject a token that has one.
            None if ours.is_empty() => !claims.contains_key("aud"),
            None => ours.iter().any(|own| named.contains(&own.as_str())),
        };
        if is_for_us {
            Ok(claims)
        } else {
            Err(VerifyError::new(Reason::WrongAudience, "the token is for another audience"))
        }
    }

    /// What only the store knows: whether the account of the token still stands behind it.
    async fn of_account(
        &self,
        claims: Map<String, Value>,
        mode: ServingMode,
    ) -> Result<Option<CheckedToken>, IssuerError> {
        let Some(username) = claims.get("sub").and_then(Value::as_str).map(str::to_owned) else {
            return Ok(None);
        };
        let uid = claims.get("uid").map(|uid| uid.as_i64().map(UserId));
        match (uid, claims.get("iat").and_then(numeric_date)) {
            (Some(Some(uid)), Some(issued_at)) => {
                let holder = self.context.store.token_holder(uid).await?;
                let accepts = holder.is_some_and(|holder| holder.accepts(&username, issued_at));
                Ok(accepts.then_some(CheckedToken { claims, username, uid: Some(uid) }))
            }
            (None, Some(_)) if mode == ServingMode::Open => {
                Ok(Some(CheckedToken { claims, username, uid: None }))
            }
            _ => Ok(None),
        }
    }
}

fn audiences(claims: &Map<String, Value>) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => Vec::new(),
    }
}
