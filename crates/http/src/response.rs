//! Parts of responses that several routes share.

use std::time::Duration;

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A 200 with a JSON body.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A 200 with a body that is JSON already.
pub(super) fn json_bytes(body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Lets caches keep the response for `max_age`.
pub(super) fn set_cacheable(headers: &mut HeaderMap, max_age: Duration) {
    // Whole seconds, rounded down: rounded up, a cache could keep a key past its expiry.
    let cache = HeaderValue::try_from(format!("public, max-age={}", max_age.as_secs()));
    headers.insert(CACHE_CONTROL, cache.unwrap_or(HeaderValue::from_static("no-cache")));
}

/// Lets pages of every origin read the response and the version of a document.
pub(super) fn set_readable(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag"));
}

/// Forbids caching: passwords, tokens and errors about them are for one client.
pub(super) async fn no_store(mut response: Response) -> Response {
    set_no_store(&mut response);
    response
}

/// [`no_store`] for responses that do not pass the router.
pub(super) fn set_no_store(response: &mut Response) {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
