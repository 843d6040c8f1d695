//! `GET /openapi.json`: what this server takes, answers and refuses, as an OpenAPI 3.1 document.
//!
//! It is made from the code: the schemas from the types that are read and written, the refusals from `error::ErrorCode`.
//! Which route has which of them stands in `routes`. The two modes of /auth have a document each.

mod jwk;
mod operation;
mod routes;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use self::operation::{ADMIN, BASIC, Types, refusals};
use super::error::ErrorCode;
use super::jwks::cached_for;
use super::{AuthMode, HttpConfig};

const ABOUT: &str = "Every error has the shape of `Error`, and every answer an `x-request-id`: the caller's, if it \
                     sent a sane one. Every GET may be a HEAD. A path that is not here is answered 404 `not_found`; a \
                     method that is not here, 405 `method_not_allowed` with `Allow`.";

/// Finished bytes. They are made when they are first asked for: the start is not to wait for them.
pub(super) async fn get(State(settings): State<Arc<HttpConfig>>) -> Response {
    static OPEN: LazyLock<Bytes> = LazyLock::new(|| document(AuthMode::Open).to_string().into());
    static PASSWORD: LazyLock<Bytes> = LazyLock::new(|| document(AuthMode::Password).to_string().into());
    let document = match settings.auth_mode {
        AuthMode::Open => &OPEN,
        AuthMode::Password => &PASSWORD,
    };
    let mut response = Bytes::clone(document).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, cached_for(settings.max_age));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn document(mode: AuthMode) -> Value {
    let mut types = Types::default();
    let mut paths: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for (path, method, operation) in routes::all(mode, &mut types) {
        paths.entry(path).or_default().insert(method, operation.value(&mut types));
    }
    // These belong to no operation.
    let elsewhere = refusals(&[ErrorCode::MethodNotAllowed, ErrorCode::NotFound], false, &mut types);
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
            "responses": elsewhere,
            "schemas": types.schemas(),
            "securitySchemes": {
                (ADMIN): {"type": "http", "scheme": "bearer", "description": "ADMIN_TOKEN"},
                (BASIC): {"type": "http", "scheme": "basic", "description": "An account's name and password"},
            },
        },
    })
}
