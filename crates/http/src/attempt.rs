//! An attempt with a username and a password: what /auth and /password have in common.

use super::credentials::Credentials;
use super::error::ApiError;
use super::metrics::AttemptResult;
use jwksd_core::issuer::{IssuerError, RefusalReason, RefusedSignIn};
use jwksd_core::password::Password;

/// Runs `attempt` with both parts of the credentials, and passes its result to `count`.
///
/// # Errors
/// Missing credentials are refused in the same way as wrong ones.
pub(super) async fn attempt<T>(
    credentials: Credentials,
    count: impl FnOnce(AttemptResult),
    attempt: impl AsyncFnOnce(String, Password) -> Result<T, IssuerError>,
) -> Result<T, ApiError> {
    let basic_was_used = credentials.basic_was_used;
    let (Some(username), Some(password)) = (credentials.username, credentials.password) else {
        count(AttemptResult::Refused);
        let refused = RefusedSignIn::without_account(RefusalReason::MissingCredentials);
        return Err(ApiError::InvalidCredentials { basic_was_used, refused });
    };
    let result = attempt(username, password).await;
    count(outcome(&result));
    // The issuer does not know whether the client used Basic.
    result.map_err(|error| match error.into() {
        ApiError::InvalidCredentials { refused, .. } => {
            ApiError::InvalidCredentials { basic_was_used, refused }
        }
        other => other,
    })
}

fn outcome<T>(result: &Result<T, IssuerError>) -> AttemptResult {
    match result {
        Ok(_) => AttemptResult::Accepted,
        Err(IssuerError::InvalidChoice(_) | IssuerError::InvalidCredentials(_)) => AttemptResult::Refused,
        Err(IssuerError::TooManyFailures { .. }) => AttemptResult::Throttled,
        Err(_) => AttemptResult::Failed,
    }
}
