//! The JWKS: finished bytes, with what caches and browsers need.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use super::HttpConfig;
use super::error::ApiError;
use crate::issuer::{Issuer, Publication};

pub(super) async fn get(
    State(issuer): State<Issuer>,
    State(settings): State<Arc<HttpConfig>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&issuer, &settings, &headers)
}

pub(super) fn answer(
    issuer: &Issuer,
    settings: &HttpConfig,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let Publication { body, etag, fresh_for } = issuer.publication().ok_or(ApiError::NoKeyToPublish)?;
    let is_known = knows(headers, &etag);
    let etag = HeaderValue::from_maybe_shared(etag).map_err(|error| ApiError::Internal(error.into()))?;
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(body) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let answer = response.headers_mut();
    answer.insert(CACHE_CONTROL, cached_for(settings.max_age.min(fresh_for)));
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer.insert(ETAG, etag);
    Ok(response)
}

/// `Cache-Control` of what anybody may keep for a while; rounded down, so that no expired key is kept.
pub(super) fn cached_for(age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={}", age.as_secs()))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}

/// Whether the client has this version already: `If-None-Match` by weak comparison (RFC 9110, 13.1.2).
fn knows(headers: &HeaderMap, etag: &[u8]) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}
