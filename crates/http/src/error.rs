//! The only place where failures become status codes, with one body for all:
//! `{"error": "<sentence>", "code": "<stable_snake_case>"}`.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Extensions, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::response::json;
use jwksd_core::account::{InvalidEmail, InvalidUsername};
use jwksd_core::issuer::{ExternalKeyError, IssuerError, NotReady, RefusedSignIn, WorkError};
use jwksd_core::password::InvalidChoice;
use jwksd_core::store::{StoreError, Unique};

/// `Retry-After` in seconds while the store fails. The minimum, because most failures of the store are short.
const RETRY_STORE: u64 = 1;

/// Why a request failed.
#[derive(Debug)]
pub enum ApiError {
    /// `ADMIN_TOKEN` is not set.
    AdminClosed,
    /// The body is longer than `most` bytes.
    BodyTooLarge {
        /// The limit in bytes.
        most: usize,
    },
    /// The body did not arrive in time.
    BodyTooSlow,
    /// A page of another origin sent the request (see `browser`).
    CrossSite,
    /// Another account has the email address.
    EmailTaken,
    /// Fault tokens are issued only in open mode.
    FaultsClosed,
    /// The head of the request is too long, or has too many lines.
    HeadTooLarge,
    /// A bug, or a failure that no request can avoid.
    Internal(Box<dyn Error + Send + Sync>),
    /// The admin token is missing or wrong.
    InvalidAdminToken {
        /// Whether the request had a bearer token.
        was_given: bool,
    },
    /// The token of `/introspect` is missing or wrong.
    InvalidIntrospectToken {
        /// Whether the request had a bearer token.
        was_given: bool,
    },
    /// The token to check is missing or not valid.
    InvalidToken {
        /// Whether the request had a bearer token.
        was_given: bool,
    },
    /// Neither `INTROSPECT_TOKEN` nor `ADMIN_TOKEN` is set.
    IntrospectionClosed,
    /// `aud` is not an audience that a token can be for; the text is the whole sentence.
    InvalidAudience(String),
    /// The body is malformed; the text is the whole sentence.
    InvalidBody(String),
    /// Unknown username or wrong password; callers cannot tell which.
    InvalidCredentials {
        /// Whether the client used HTTP Basic, and is challenged with it.
        basic_was_used: bool,
        /// What the log says of it.
        refused: RefusedSignIn,
    },
    /// The email address is invalid.
    InvalidEmail(InvalidEmail),
    /// `?expired` has another value than true or false.
    InvalidExpired,
    /// `?fault` names no fault, or comes with `?expired`.
    InvalidFault,
    /// A user may not choose this password.
    InvalidNewPassword(InvalidChoice),
    /// `Host` is missing, repeated or malformed (RFC 9112 §3.2).
    InvalidHost,
    /// An uploaded key is invalid; the text says why.
    InvalidJwk(String),
    /// Another key has the `kid`.
    KidTaken(String),
    /// The username is invalid.
    InvalidUsername(InvalidUsername),
    /// The head of the request is not HTTP/1.
    MalformedRequest,
    /// The path does not support the method.
    MethodNotAllowed,
    /// The JWKS would be empty.
    NoKeyToPublish,
    /// No key can sign now.
    NoSigningKey,
    /// There is no expired or revoked key to sign with.
    NoSuitableKey,
    /// The path does not exist.
    NotFound,
    /// A change to the keys is stored but not published, for this reason.
    NotPublished(Box<dyn Error + Send + Sync>),
    /// The service is not ready, for this reason.
    NotReady(NotReady),
    /// Open mode issues no tokens, because the store has accounts.
    OpenModeClosed,
    /// The client sent too many requests.
    RateLimited {
        /// Seconds until the next request can pass.
        retry_after: u64,
    },
    /// `REGISTRATION` is closed.
    RegistrationClosed,
    /// The store or the hashing queue failed for now.
    Unavailable {
        /// The cause, for the log.
        cause: Box<dyn Error + Send + Sync>,
        /// Seconds after which the client can try again.
        retry_after: u64,
    },
    /// Too many passwords for one username were wrong.
    TooManyFailures {
        /// Seconds until the next try can be admitted.
        retry_after: u64,
    },
    /// Pages and the admin API are not served under this name.
    UnknownHost,
    /// No external key has the `kid`.
    UnknownKey(String),
    /// The body has an unknown format.
    UnsupportedMediaType,
    /// The username is or was assigned.
    UsernameTaken,
}

/// The stable code of an error, for programs. Each code has one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum ErrorCode {
    AdminClosed,
    BodyTooLarge,
    BodyTooSlow,
    CrossSite,
    EmailTaken,
    FaultsClosed,
    HeadTooLarge,
    Internal,
    InvalidAdminToken,
    InvalidAudience,
    InvalidBody,
    InvalidCredentials,
    InvalidEmail,
    InvalidExpired,
    InvalidFault,
    InvalidHost,
    InvalidIntrospectToken,
    InvalidJwk,
    InvalidNewPassword,
    InvalidToken,
    InvalidUsername,
    IntrospectionClosed,
    KidTaken,
    MalformedRequest,
    MethodNotAllowed,
    NoKey,
    NoSuitableKey,
    NotFound,
    NotReady,
    OpenModeClosed,
    RateLimited,
    RegistrationClosed,
    TooManyFailures,
    Unavailable,
    UnknownHost,
    UnknownKey,
    UnsupportedMediaType,
    UsernameTaken,
}

impl ErrorCode {
    /// The status of every response with this code.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::InvalidAudience
            | Self::InvalidBody
            | Self::InvalidEmail
            | Self::InvalidExpired
            | Self::InvalidFault
            | Self::InvalidHost
            | Self::InvalidJwk
            | Self::InvalidNewPassword
            | Self::InvalidUsername
            | Self::MalformedRequest => StatusCode::BAD_REQUEST,
            Self::InvalidAdminToken
            | Self::InvalidCredentials
            | Self::InvalidIntrospectToken
            | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::AdminClosed
            | Self::CrossSite
            | Self::FaultsClosed
            | Self::IntrospectionClosed
            | Self::OpenModeClosed
            | Self::RegistrationClosed => StatusCode::FORBIDDEN,
            Self::NoSuitableKey | Self::NotFound | Self::UnknownKey => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::EmailTaken | Self::KidTaken | Self::UsernameTaken => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimited | Self::TooManyFailures => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoKey | Self::NotReady | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The header of every response with this code.
    pub(super) const fn header(self) -> Option<HeaderName> {
        match self.status() {
            StatusCode::METHOD_NOT_ALLOWED => Some(ALLOW),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER),
            StatusCode::UNAUTHORIZED => Some(WWW_AUTHENTICATE),
            _ => None,
        }
    }
}

impl ApiError {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::AdminClosed => ErrorCode::AdminClosed,
            Self::BodyTooLarge { .. } => ErrorCode::BodyTooLarge,
            Self::BodyTooSlow => ErrorCode::BodyTooSlow,
            Self::CrossSite => ErrorCode::CrossSite,
            Self::EmailTaken => ErrorCode::EmailTaken,
            Self::FaultsClosed => ErrorCode::FaultsClosed,
            Self::HeadTooLarge => ErrorCode::HeadTooLarge,
            Self::Internal(_) => ErrorCode::Internal,
            Self::InvalidAdminToken { .. } => ErrorCode::InvalidAdminToken,
            Self::InvalidIntrospectToken { .. } => ErrorCode::InvalidIntrospectToken,
            Self::InvalidToken { .. } => ErrorCode::InvalidToken,
            Self::IntrospectionClosed => ErrorCode::IntrospectionClosed,
            Self::InvalidAudience(_) => ErrorCode::InvalidAudience,
            Self::InvalidBody(_) => ErrorCode::InvalidBody,
            Self::InvalidCredentials { .. } => ErrorCode::InvalidCredentials,
            Self::InvalidEmail(_) => ErrorCode::InvalidEmail,
            Self::InvalidExpired => ErrorCode::InvalidExpired,
            Self::InvalidFault => ErrorCode::InvalidFault,
            Self::InvalidHost => ErrorCode::InvalidHost,
            Self::InvalidJwk(_) => ErrorCode::InvalidJwk,
            Self::InvalidNewPassword(_) => ErrorCode::InvalidNewPassword,
            Self::InvalidUsername(_) => ErrorCode::InvalidUsername,
            Self::KidTaken(_) => ErrorCode::KidTaken,
            Self::MalformedRequest => ErrorCode::MalformedRequest,
            Self::MethodNotAllowed => ErrorCode::MethodNotAllowed,
            Self::NoKeyToPublish | Self::NoSigningKey => ErrorCode::NoKey,
            Self::NoSuitableKey => ErrorCode::NoSuitableKey,
            Self::NotFound => ErrorCode::NotFound,
            Self::NotPublished(_) | Self::NotReady(_) => ErrorCode::NotReady,
            Self::OpenModeClosed => ErrorCode::OpenModeClosed,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::RegistrationClosed => ErrorCode::RegistrationClosed,
            Self::TooManyFailures { .. } => ErrorCode::TooManyFailures,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::UnknownHost => ErrorCode::UnknownHost,
            Self::UnknownKey(_) => ErrorCode::UnknownKey,
            Self::UnsupportedMediaType => ErrorCode::UnsupportedMediaType,
            Self::UsernameTaken => ErrorCode::UsernameTaken,
        }
    }

    /// The error for a request to which hyper gives this status, because it cannot read its head.
    pub(super) fn from_parser(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG => Some(Self::MalformedRequest),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Self::HeadTooLarge),
            _ => None,
        }
    }

    /// The body of the response.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody { error: self.sentence(), code: self.code() }
    }

    fn sentence(&self) -> Cow<'static, str> {
        let sentence = match self {
            Self::AdminClosed => "The admin surface is closed: ADMIN_TOKEN is not set",
            Self::BodyTooLarge { most } => {
                return format!("The body is longer than {} KiB", most / 1024).into();
            }
            Self::BodyTooSlow => "The body did not come in time",
            Self::CrossSite => {
                "A page of another origin may not do this: add its origin to ALLOWED_ORIGINS, or the name of this server to ALLOWED_HOSTS"
            }
            Self::EmailTaken => "The email is taken",
            Self::FaultsClosed => "Tokens with faults are issued only in open mode",
            Self::HeadTooLarge => "The head of the request is longer than 32 KiB, or has more than 100 lines",
            Self::Internal(_) => "Internal error",
            Self::InvalidAdminToken { .. } | Self::InvalidIntrospectToken { .. } => {
                "The bearer token is missing or wrong"
            }
            Self::InvalidToken { .. } => "The token is missing or not valid",
            Self::IntrospectionClosed => {
                "Introspection is closed: neither INTROSPECT_TOKEN nor ADMIN_TOKEN is set"
            }
            Self::InvalidAudience(why) | Self::InvalidBody(why) => return why.clone().into(),
            Self::InvalidCredentials { .. } => "Invalid username or password",
            Self::InvalidEmail(why) => return why.to_string().into(),
            Self::InvalidExpired => "Invalid 'expired' query parameter. Must be 'true' or 'false'.",
            Self::InvalidFault => {
                "Invalid 'fault' query parameter: GET /faults lists what it may be; it does not go with 'expired'"
            }
            Self::InvalidHost => {
                "The request must have one Host header with a host, and a port if it needs one"
            }
            Self::InvalidJwk(why) | Self::KidTaken(why) => {
                return format!("The keys cannot be published: {why}").into();
            }
            Self::InvalidNewPassword(why) => return why.to_string().into(),
            Self::InvalidUsername(why) => return why.to_string().into(),
            Self::MalformedRequest => "The head of the request is not valid HTTP/1.1",
            Self::MethodNotAllowed => "Method not allowed",
            Self::NoKeyToPublish => "There is no key to publish",
            Self::NoSigningKey => "No key can sign a token now",
            Self::NoSuitableKey => "No suitable key found",
            Self::NotFound => "Not found",
            Self::NotPublished(_) => {
                "The change is stored, but the new keys are not published: they did not pass the self-check"
            }
            Self::NotReady(why) => return format!("Not ready: {why}").into(),
            Self::OpenModeClosed => "Open mode issues no tokens on a store with accounts",
            Self::RateLimited { .. } => "Too many requests; wait as long as Retry-After says",
            Self::RegistrationClosed => "Registration is closed",
            Self::TooManyFailures { .. } => {
                "Too many wrong passwords for this username; wait as long as Retry-After says"
            }
            Self::Unavailable { .. } => "The service cannot answer just now",
            Self::UnknownHost => {
                "This name of the server is unknown: use its IP address, or add the name to ALLOWED_HOSTS"
            }
            Self::UnknownKey(why) => return format!("There is no such key: {why}").into(),
            Self::UnsupportedMediaType => "The body must be JSON, or a form where the path takes one",
            Self::UsernameTaken => "The username is taken",
        };
        sentence.into()
    }

    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let value = match self {
            // Every 401 needs a challenge (RFC 9110 §15.5.2), but `Basic` would make browsers open a dialog.
            Self::InvalidCredentials { basic_was_used, .. } => HeaderValue::from_static(if *basic_was_used {
                r#"Basic realm="jwksd", charset="UTF-8""#
            } else {
                r#"Password realm="jwksd""#
            }),
            // RFC 6750 §3: no error code for a client that sent no token.
            Self::InvalidAdminToken { was_given }
            | Self::InvalidIntrospectToken { was_given }
            | Self::InvalidToken { was_given } => HeaderValue::from_static(if *was_given {
                r#"Bearer realm="jwksd", error="invalid_token""#
            } else {
                r#"Bearer realm="jwksd""#
            }),
            Self::RateLimited { retry_after }
            | Self::TooManyFailures { retry_after }
            | Self::Unavailable { retry_after, .. } => (*retry_after).max(1).into(),
            // When either ends is unknown, so clients retry at the shortest interval.
            Self::NoKeyToPublish | Self::NoSigningKey | Self::NotPublished(_) | Self::NotReady(_) => {
                RETRY_STORE.into()
            }
            // The router adds `Allow`.
            _ => return None,
        };
        Some((self.code().header()?, value))
    }

    /// Puts what the log needs next to the response.
    fn extend(self, extensions: &mut Extensions) {
        match self {
            Self::InvalidCredentials { refused, .. } => drop(extensions.insert(refused)),
            other => drop(other.cause().map(|failure| extensions.insert(failure))),
        }
    }

    fn cause(self) -> Option<Failure> {
        match self {
            Self::Internal(cause) | Self::NotPublished(cause) | Self::Unavailable { cause, .. } => {
                Some(Failure(Arc::from(cause)))
            }
            // Only the store's failure is logged: probes repeat, and the body gives the other reasons.
            Self::NotReady(NotReady::Store(cause)) => Some(Failure(Arc::new(cause))),
            Self::NotReady(NotReady::NotWritable(cause)) => Some(Failure(cause)),
            Self::NoKeyToPublish | Self::NoSigningKey => Some(Failure(Arc::new(NotReady::NoSigner))),
            _ => None,
        }
    }
}

/// The cause of a 5xx. An extension of the response carries it to the log; the body never shows it.
#[derive(Clone, Debug)]
pub(super) struct Failure(pub(super) Arc<dyn Error + Send + Sync>);

impl Failure {
    /// Whether the store failed.
    pub(super) fn is_from_store(&self) -> bool {
        // The store's error can be the source of an error of the issuer.
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

/// Why a request failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody {
    /// A sentence for people.
    error: Cow<'static, str>,
    /// A stable code for programs.
    code: ErrorCode,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = json(&body);
        *response.status_mut() = body.code.status();
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, value);
        }
        // Where a message without a valid host ends is not certain either.
        if matches!(self, Self::InvalidHost) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.extend(response.extensions_mut());
        response
    }
}

impl ApiError {
    /// What the store keeps from being answered for now.
    pub(super) fn without_store(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable { cause: Box::new(cause), retry_after: RETRY_STORE }
    }

    /// A registration that failed. In the database of another program, a rule may forbid some names and addresses.
    pub(super) fn of_registration(error: IssuerError) -> Self {
        match error {
            IssuerError::Store(StoreError::Forbidden(why)) => Self::InvalidBody(format!(
                "the database of this server does not accept such an account ({why})"
            )),
            other => other.into(),
        }
    }
}

impl From<IssuerError> for ApiError {
    fn from(error: IssuerError) -> Self {
        match error {
            // The handler knows whether Basic was used, and replaces this value.
            IssuerError::InvalidCredentials(refused) => {
                Self::InvalidCredentials { basic_was_used: false, refused }
            }
            IssuerError::InvalidChoice(why) => Self::InvalidNewPassword(why),
            error @ IssuerError::UnknownAudience { .. } => Self::InvalidAudience(error.to_string()),
            IssuerError::NoSigningKey => Self::NoSigningKey,
            IssuerError::NoSuitableKey => Self::NoSuitableKey,
            IssuerError::HasAccounts => Self::OpenModeClosed,
            IssuerError::ExternalKey(error @ ExternalKeyError::Unknown(_)) => {
                Self::UnknownKey(error.to_string())
            }
            IssuerError::ExternalKey(error @ ExternalKeyError::Taken(_)) => Self::KidTaken(error.to_string()),
            IssuerError::ExternalKey(error @ ExternalKeyError::Seal(_)) => Self::Internal(error.into()),
            IssuerError::ExternalKey(error) => Self::InvalidJwk(error.to_string()),
            error @ IssuerError::TtlTooLong { .. } => {
                Self::InvalidBody(format!("`ttl` is too long: {error}"))
            }
            // The store decides by its unique constraints. A check before the insert would be a race.
            IssuerError::Store(StoreError::Conflict(Unique::Email)) => Self::EmailTaken,
            IssuerError::Store(StoreError::Conflict(Unique::Username)) => Self::UsernameTaken,
            // Trying again would not help.
            error @ IssuerError::Store(StoreError::Forbidden(_)) => Self::Internal(error.into()),
            IssuerError::Store(error) => Self::Unavailable { cause: error.into(), retry_after: RETRY_STORE },
            IssuerError::TooManyFailures { retry_after } => {
                Self::TooManyFailures { retry_after: whole_seconds(retry_after) }
            }
            IssuerError::Worker(WorkError::Busy { retry_after }) => {
                Self::Unavailable { cause: error.into(), retry_after: whole_seconds(retry_after) }
            }
            error @ IssuerError::NotPublished(_) => Self::NotPublished(error.into()),
            error @ (IssuerError::Contention
            | IssuerError::Hash(_)
            | IssuerError::MasterKeyChanged
            | IssuerError::Worker(_)) => Self::Unavailable { cause: error.into(), retry_after: RETRY_STORE },
            error @ (IssuerError::Key(_) | IssuerError::NoSuchAccount | IssuerError::KeyCommand(_)) => {
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

/// `Retry-After` in seconds (RFC 9110 §10.2.3). Rounded up, so that clients do not retry too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Whether this is a response to [`ApiError::RateLimited`] or [`ApiError::TooManyFailures`].
pub(super) fn was_rate_limited(response: &Response) -> bool {
    response.status() == StatusCode::TOO_MANY_REQUESTS
}

/// Whether this is the status of a body that is too large.
pub(super) fn is_too_large(status: StatusCode) -> bool {
    status == StatusCode::PAYLOAD_TOO_LARGE
}
