//! The JWKS: finished bytes, with what caches and browsers need.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::HttpSettings;
use super::error::ApiError;
use crate::issuer::Issuer;

pub(super) async fn get(
    State(issuer): State<Issuer>,
    State(settings): State<Arc<HttpSettings>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let publication = issuer.publication().ok_or(ApiError::NoKeyToPublish)?;
    let is_known = knows(&headers, &publication.etag);
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { publication.body.into_response() };
    let answer = response.headers_mut();
    if !is_known {
        answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    answer.insert(CACHE_CONTROL, cached_for(settings.max_age.min(publication.fresh_for)));
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Ok(etag) = HeaderValue::try_from(publication.etag) {
        answer.insert(ETAG, etag);
    }
    Ok(response)
}

/// `Cache-Control` of what anybody may keep for a while; rounded down, so that no expired key is kept.
pub(super) fn cached_for(age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={}", age.as_secs()))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}

/// Whether the client has this version already: `If-None-Match` by weak comparison (RFC 9110, 13.1.2).
fn knows(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
