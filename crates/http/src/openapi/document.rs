//! The OpenAPI document: all endpoints, their schemas and their errors.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::operation::{ADMIN, BASIC, INTROSPECTION, TOKEN, error_responses};
use super::types::Types;
use crate::config::AuthMode;
use crate::error::ErrorCode;

const SUMMARY: &str = "Issues JWTs to user accounts and publishes the keys that verify them as a JWKS: one binary, one SQLite file.";

const ABOUT: &str = "Every error has the shape of `Error`. Every response has an `x-request-id`: the client's own, if \
                     it sent a valid one. Every GET also answers HEAD. A path that is not listed here is answered 404 \
                     `not_found`; a method that is not listed, 405 `method_not_allowed` with `Allow`. A request without a \
                     valid `Host` is answered 400 `invalid_host`, one that is not HTTP 400 `malformed_request`, one with \
                     a head of more than 32 KiB or 100 lines 431 `head_too_large`. A preflight (CORS) is answered 204 \
                     for the GETs that pages of every origin may read, and for /auth, /register and /password if its `Origin` is one of \
                     ALLOWED_ORIGINS, to which their responses then grant access, with `Vary: Origin`.";

/// The document as bytes, made at the first request: the start of the server does not wait for it.
pub(crate) struct LazyDocument(LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>);

impl LazyDocument {
    pub(crate) fn new(endpoints: Vec<Endpoint>, mode: AuthMode) -> Self {
        Self(LazyLock::new(Box::new(move || document(&endpoints, mode).to_string().into())))
    }

    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::clone(&self.0)
    }
}

fn document(endpoints: &[Endpoint], mode: AuthMode) -> Value {
    let mut types = Types::default();
    let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let method = endpoint.method.as_str().to_ascii_lowercase();
        paths.entry(endpoint.path).or_default().insert(method, endpoint.describe(mode, &mut types));
    }
    // What is answered before routing, or by the router, belongs to no operation.
    let mut common = error_responses(
        &[
            ErrorCode::CrossSite,
            ErrorCode::HeadTooLarge,
            ErrorCode::InvalidHost,
            ErrorCode::MalformedRequest,
            ErrorCode::MethodNotAllowed,
            ErrorCode::NotFound,
            ErrorCode::UnknownHost,
        ],
        None,
        &mut types,
    );
    common.insert("204".to_owned(), preflight_response());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "jwksd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": SUMMARY,
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "paths": paths,
        "components": {
            "responses": common,
            "schemas": types.schemas(),
            "securitySchemes": {
                (ADMIN): {"type": "http", "scheme": "bearer", "description": "ADMIN_TOKEN"},
                (INTROSPECTION): {"type": "http", "scheme": "bearer", "description": "INTROSPECT_TOKEN"},
                (TOKEN): {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of /auth",
                },
                (BASIC): {"type": "http", "scheme": "basic", "description": "An account's username and password"},
            },
        },
    })
}

/// What every preflight that is granted has in common.
fn preflight_response() -> Value {
    let headers = [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ];
    let text = json!({"required": true, "schema": {"type": "string"}});
    let headers: BTreeMap<_, _> = headers.iter().map(|name| (name.as_str(), text.clone())).collect();
    json!({"description": "A preflight that is granted", "headers": headers})
}
