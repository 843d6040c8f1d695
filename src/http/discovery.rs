//! Discovery (OpenID Connect Discovery 1.0, 3; RFC 8414, 2): what a verifier needs to configure itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::HttpConfig;
use super::error::json;
use super::jwks::cached_for;
use crate::issuer::Issuer;

/// There is no OAuth flow here: no grant, no authorization endpoint, and the lists that say so are empty or minimal.
#[derive(Serialize, JsonSchema)]
pub(super) struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    response_types_supported: [&'a str; 1],
    grant_types_supported: [&'a str; 0],
    subject_types_supported: [&'a str; 1],
    id_token_signing_alg_values_supported: [&'a str; 1],
    token_endpoint_auth_methods_supported: [&'a str; 0],
    claims_supported: [&'a str; 7],
}

pub(super) async fn get(State(issuer): State<Issuer>, State(settings): State<Arc<HttpConfig>>) -> Response {
    let issuer = issuer.url();
    let mut response = json(&Metadata {
        issuer,
        jwks_uri: format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')),
        response_types_supported: ["token"],
        grant_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
        token_endpoint_auth_methods_supported: [],
        claims_supported: ["iss", "sub", "uid", "aud", "iat", "exp", "jti"],
    });
    response.headers_mut().insert(CACHE_CONTROL, cached_for(settings.max_age));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
