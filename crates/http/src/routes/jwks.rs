//! The JWKS (RFC 7517 §5): bytes that are ready, with headers for caches and browsers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;
use thiserror::Error;

use crate::config::{AuthMode, HttpConfig};
use crate::error::{ApiError, ErrorCode};
use crate::openapi::{Operation, Parameter, ParameterLocation, Success, Types, jwk_schema};
use crate::response::{set_cacheable, set_readable};
use jwksd_core::issuer::{Keyring, Publication};

/// The standard path, and a short one.
pub(crate) const PATH: &str = "/.well-known/jwks.json";
pub(crate) const ALIAS: &str = "/jwks";

/// Handles GET on both paths, for requests that the fast path leaves to the router.
pub(super) async fn get(
    State(keyring): State<Arc<Keyring>>,
    State(config): State<Arc<HttpConfig>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    respond(&keyring, &config, &headers)
}

/// What is published may have been revoked by another process.
#[derive(Debug, Error)]
#[error("the store has been silent for {0:?}, longer than JWKS_MAX_SILENCE")]
struct Silent(Duration);

/// The response to a request with these headers.
pub(crate) fn respond(
    keyring: &Keyring,
    config: &HttpConfig,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let silence = keyring.store_silence();
    if !config.max_silence.is_zero() && silence > config.max_silence {
        return Err(ApiError::without_store(Silent(silence)));
    }
    let Publication { body, etag, fresh_for } = keyring.publication().ok_or(ApiError::NoKeyToPublish)?;
    let is_current = has_version(headers, &etag);
    let etag = HeaderValue::from_maybe_shared(etag).map_err(|error| ApiError::Internal(error.into()))?;
    let mut response = Response::new(if is_current { Body::empty() } else { Body::from(body) });
    if is_current {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    // No cache may keep a key past its expiry.
    set_cacheable(response.headers_mut(), config.max_age.min(fresh_for));
    response.headers_mut().insert(ETAG, etag);
    // The fast path applies no grant.
    set_readable(response.headers_mut());
    Ok(response)
}

/// Whether the client has this version: weak comparison of `If-None-Match` (RFC 9110 §13.1.2).
fn has_version(headers: &HeaderMap, etag: &[u8]) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}

pub(super) fn operation(_: AuthMode, _: &mut Types) -> Operation {
    describe("jwks")
}

pub(super) fn alias_operation(_: AuthMode, _: &mut Types) -> Operation {
    describe("jwksAlias")
}

fn describe(id: &'static str) -> Operation {
    let mut complete = Success::json(jwk_schema::published_set(), "All keys that verify now").cacheable();
    complete.headers.push(ETAG);
    let not_modified = Success {
        status: StatusCode::NOT_MODIFIED,
        about: "The client has this version",
        content: None,
        headers: complete.headers.clone(),
        links: Vec::new(),
    };
    let if_none_match = Parameter {
        name: "If-None-Match",
        location: ParameterLocation::Header,
        about: "Entity tags of the versions that the client has",
        schema: json!({"type": "string"}),
    };
    Operation {
        parameters: vec![if_none_match],
        successes: vec![complete, not_modified],
        errors: vec![ErrorCode::NoKey, ErrorCode::Unavailable, ErrorCode::Internal],
        ..Operation::new(id, "The public keys of all unexpired signing keys (RFC 7517)")
    }
}
