//! The OpenAPI document: all endpoints, their schemas and their errors.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::operation::{ADMIN, BASIC, error_responses};
use super::types::Types;
use crate::http::config::AuthMode;
use crate::http::error::ErrorCode;

const ABOUT: &str = "Every error has the shape of `Error`. Every response has an `x-request-id`: the client's own, if \
                     it sent a valid one. Every GET also answers HEAD. A path that is not listed here is answered 404 \
                     `not_found`; a method that is not listed, 405 `method_not_allowed` with `Allow`.";

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
    // The errors of the router belong to no operation.
    let router_errors =
        error_responses(&[ErrorCode::MethodNotAllowed, ErrorCode::NotFound], false, &mut types);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "jwksd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "paths": paths,
        "components": {
            "responses": router_errors,
            "schemas": types.schemas(),
            "securitySchemes": {
                (ADMIN): {"type": "http", "scheme": "bearer", "description": "ADMIN_TOKEN"},
                (BASIC): {"type": "http", "scheme": "basic", "description": "An account's username and password"},
            },
        },
    })
}
