//! `GET /openapi.json`: this API as an OpenAPI 3.1 document, made from the table of routes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::config::AuthMode;
use crate::openapi::{LazyDocument, Operation, Success, Types};
use crate::response::{json_bytes, set_cacheable};
use crate::state::MaxAge;

pub(super) async fn get(
    State(document): State<Arc<LazyDocument>>,
    State(MaxAge(max_age)): State<MaxAge>,
) -> Response {
    let mut response = json_bytes(document.bytes());
    set_cacheable(response.headers_mut(), max_age);
    response
}

pub(super) fn operation(_: AuthMode, _: &mut Types) -> Operation {
    let document = json!({"type": "object", "required": ["openapi", "info", "paths", "components"]});
    let success = Success::json(document, "An OpenAPI 3.1 document").cacheable();
    Operation { successes: vec![success], ..Operation::new("openapi", "This document") }
}
