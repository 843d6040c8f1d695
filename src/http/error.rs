//! The only place where failures become status codes, and the one shape they have:
//! `{"error": "<sentence>", "code": "<stable_snake_case>"}`.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::account::{InvalidEmail, InvalidUsername};
use crate::issuer::{IssuerError, NotReady, UploadError, WorkError};
use crate::store::{StoreError, Unique};

/// Seconds after which a client may find a store that did not answer answering again.
const RETRY_STORE: u64 = 1;

/// Why a request was not answered as it wished.
#[derive(Debug)]
pub(super) enum ApiError {
    AdminClosed,
    BodyTooLarge { most: usize },
    EmailTaken,
    FaultsClosed,
    Internal(Box<dyn Error + Send + Sync>),
    InvalidAdminToken { was_given: bool },
    InvalidBody(String),
    InvalidCredentials { basic_was_used: bool },
    InvalidEmail(InvalidEmail),
    InvalidExpired,
    InvalidFault,
    InvalidJwk(String),
    KidTaken(String),
    InvalidUsername(InvalidUsername),
    MethodNotAllowed,
    NoKeyToPublish,
    NoSuitableKey,
    NotFound,
    NotReady(NotReady),
    RateLimited { retry_after: u64 },
    RegistrationClosed,
    Unavailable { cause: Box<dyn Error + Send + Sync>, retry_after: u64 },
    UnknownKey(String),
    UnsupportedMediaType,
    UsernameTaken,
}

impl ApiError {
    /// The status, the code and the sentence.
    fn parts(&self) -> (StatusCode, &'static str, Cow<'static, str>) {
        use StatusCode as S;
        let (status, code, sentence) = match self {
            Self::AdminClosed => {
                (S::FORBIDDEN, "admin_closed", "The admin surface is closed: ADMIN_TOKEN is not set")
            }
            Self::BodyTooLarge { most } => {
                let sentence = format!("The body is longer than {} KiB", most / 1024);
                return (S::PAYLOAD_TOO_LARGE, "body_too_large", sentence.into());
            }
            Self::EmailTaken => (S::CONFLICT, "email_taken", "The email is taken"),
            Self::FaultsClosed => {
                (S::FORBIDDEN, "faults_closed", "Tokens with faults are issued in open mode alone")
            }
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side"),
            Self::InvalidAdminToken { .. } => {
                (S::UNAUTHORIZED, "invalid_admin_token", "The bearer token is missing or wrong")
            }
            Self::InvalidBody(why) => return (S::BAD_REQUEST, "invalid_body", why.clone().into()),
            Self::InvalidCredentials { .. } => {
                (S::UNAUTHORIZED, "invalid_credentials", "Invalid username or password")
            }
            Self::InvalidEmail(why) => return (S::BAD_REQUEST, "invalid_email", why.to_string().into()),
            Self::InvalidExpired => (
                S::BAD_REQUEST,
                "invalid_expired",
                "Invalid 'expired' query parameter. Must be 'true' or 'false'.",
            ),
            Self::InvalidFault => (
                S::BAD_REQUEST,
                "invalid_fault",
                "Invalid 'fault' query parameter: GET /faults lists what it may be; it does not go with 'expired'",
            ),
            Self::InvalidJwk(why) => {
                return (
                    S::BAD_REQUEST,
                    "invalid_jwk",
                    format!("The keys cannot be published: {why}").into(),
                );
            }
            Self::KidTaken(why) => {
                return (S::CONFLICT, "kid_taken", format!("The keys cannot be published: {why}").into());
            }
            Self::UnknownKey(why) => {
                return (S::NOT_FOUND, "unknown_key", format!("There is no such key: {why}").into());
            }
            Self::InvalidUsername(why) => {
                return (S::BAD_REQUEST, "invalid_username", why.to_string().into());
            }
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not know this method")
            }
            Self::NoKeyToPublish => (S::SERVICE_UNAVAILABLE, "no_key", "There is no key to publish"),
            Self::NoSuitableKey => (S::NOT_FOUND, "no_suitable_key", "No suitable key found"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is nothing at this path"),
            Self::NotReady(why) => {
                return (S::SERVICE_UNAVAILABLE, "not_ready", format!("Not ready: {why}").into());
            }
            Self::RateLimited { .. } => {
                (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests; wait as long as Retry-After says")
            }
            Self::RegistrationClosed => (S::FORBIDDEN, "registration_closed", "Registration is closed"),
            Self::Unavailable { .. } => {
                (S::SERVICE_UNAVAILABLE, "unavailable", "The service cannot answer just now")
            }
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be JSON, or a form where the path takes one",
            ),
            Self::UsernameTaken => (S::CONFLICT, "username_taken", "The username is taken"),
        };
        (status, code, sentence.into())
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            // A challenge is due with every 401 (RFC 9110, 15.5.2), but `Basic` would make browsers open a dialog.
            Self::InvalidCredentials { basic_was_used } => {
                let challenge = if *basic_was_used {
                    r#"Basic realm="jwksd", charset="UTF-8""#
                } else {
                    r#"Password realm="jwksd""#
                };
                Some((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
            }
            // RFC 6750, 3: no error code for a caller who gave no token.
            Self::InvalidAdminToken { was_given } => {
                let challenge = if *was_given {
                    r#"Bearer realm="jwksd", error="invalid_token""#
                } else {
                    r#"Bearer realm="jwksd""#
                };
                Some((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
            }
            Self::RateLimited { retry_after } | Self::Unavailable { retry_after, .. } => {
                Some((RETRY_AFTER, (*retry_after).max(1).into()))
            }
            Self::NoKeyToPublish | Self::NotReady(_) => Some((RETRY_AFTER, RETRY_STORE.into())),
            _ => None,
        }
    }

    fn cause(self) -> Option<Failure> {
        match self {
            Self::Internal(cause) | Self::Unavailable { cause, .. } => Some(Failure(Arc::from(cause))),
            // Probes ask again and again, and the body says the reason.
            Self::NotReady(NotReady::Store(cause)) => Some(Failure(Arc::new(cause))),
            Self::NoKeyToPublish => Some(Failure(Arc::new(NotReady::NoSigner))),
            _ => None,
        }
    }
}

/// What lies behind a 5xx. It travels beside the response to the log, and never into the body.
#[derive(Clone, Debug)]
pub(super) struct Failure(pub(super) Arc<dyn Error + Send + Sync>);

impl Failure {
    /// Whether it was the store that failed.
    pub(super) fn is_of_the_store(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = cause {
            if error.is::<StoreError>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

#[derive(Serialize)]
struct Body {
    error: Cow<'static, str>,
    code: &'static str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, error) = self.parts();
        let mut response = json(&Body { error, code });
        *response.status_mut() = status;
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        if let Some(failure) = self.cause() {
            response.extensions_mut().insert(failure);
        }
        response
    }
}

impl From<IssuerError> for ApiError {
    fn from(error: IssuerError) -> Self {
        match error {
            IssuerError::InvalidCredentials => Self::InvalidCredentials { basic_was_used: false },
            IssuerError::NoSuitableKey => Self::NoSuitableKey,
            IssuerError::Upload(error @ UploadError::Unknown(_)) => Self::UnknownKey(error.to_string()),
            IssuerError::Upload(error @ UploadError::Taken(_)) => Self::KidTaken(error.to_string()),
            IssuerError::Upload(error @ UploadError::Seal(_)) => Self::Internal(error.into()),
            IssuerError::Upload(error) => Self::InvalidJwk(error.to_string()),
            error @ IssuerError::TtlTooLong { .. } => {
                Self::InvalidBody(format!("`ttl` is too long: {error}"))
            }
            IssuerError::Store(StoreError::Conflict(Unique::Email)) => Self::EmailTaken,
            IssuerError::Store(StoreError::Conflict(Unique::Username)) => Self::UsernameTaken,
            IssuerError::Store(error) => Self::Unavailable { cause: error.into(), retry_after: RETRY_STORE },
            IssuerError::Worker(WorkError::Busy { retry_after }) => {
                Self::Unavailable { cause: error.into(), retry_after: whole_seconds(retry_after) }
            }
            error @ (IssuerError::Hash(_) | IssuerError::Worker(_)) => {
                Self::Unavailable { cause: error.into(), retry_after: RETRY_STORE }
            }
            error @ (IssuerError::Key(_) | IssuerError::NoSuchAccount | IssuerError::Operation(_)) => {
                Self::Internal(error.into())
            }
        }
    }
}

impl From<InvalidUsername> for ApiError {
    fn from(why: InvalidUsername) -> Self {
        Self::InvalidUsername(why)
    }
}

impl From<InvalidEmail> for ApiError {
    fn from(why: InvalidEmail) -> Self {
        Self::InvalidEmail(why)
    }
}

impl From<NotReady> for ApiError {
    fn from(why: NotReady) -> Self {
        Self::NotReady(why)
    }
}

/// `Retry-After` counts in seconds (RFC 9110, 10.2.3); rounded up, so that nobody comes too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Whether this is the answer of [`ApiError::RateLimited`].
pub(super) fn was_rate_limited(response: &Response) -> bool {
    response.status() == StatusCode::TOO_MANY_REQUESTS
}

/// Whether this is the status of a body that is too long.
pub(super) fn is_too_large(status: StatusCode) -> bool {
    status == StatusCode::PAYLOAD_TOO_LARGE
}

/// A JSON body.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(body.into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Keeps caches from answering in our place: passwords and tokens are for one client.
pub(super) async fn never_stored(mut response: Response) -> Response {
    forbid_storing(&mut response);
    response
}

/// The same, of an answer that comes from the front.
pub(super) fn forbid_storing(response: &mut Response) {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
