//! Discovery (OpenID Connect Discovery 1.0 §3, RFC 8414 §2): what a verifier needs to configure itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::AuthMode;
use crate::openapi::{Operation, Success, Types};
use crate::response::{json, set_cacheable};
use crate::state::MaxAge;
use jwksd_core::issuer::{Issuer, Keyring};

/// There is no OAuth flow here: no grant and no authorization endpoint. The lists that say so are empty or minimal.
#[derive(Serialize, JsonSchema)]
struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    response_types_supported: [&'a str; 1],
    grant_types_supported: [&'a str; 0],
    subject_types_supported: [&'a str; 1],
    id_token_signing_alg_values_supported: Vec<&'a str>,
    token_endpoint_auth_methods_supported: [&'a str; 0],
    claims_supported: [&'a str; 7],
}

pub(super) async fn get(
    State(issuer): State<Issuer>,
    State(keyring): State<Arc<Keyring>>,
    State(MaxAge(max_age)): State<MaxAge>,
) -> Response {
    let issuer = issuer.url();
    let mut response = json(&Metadata {
        issuer,
        // ISSUER is published as configured, with or without a trailing slash.
        jwks_uri: format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')),
        // Required by both standards, although no flow here uses it.
        response_types_supported: ["token"],
        grant_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: keyring.published_algorithms(),
        token_endpoint_auth_methods_supported: [],
        claims_supported: ["iss", "sub", "uid", "aud", "iat", "exp", "jti"],
    });
    set_cacheable(response.headers_mut(), keyring.limit_freshness(max_age));
    response
}

pub(super) fn openid_operation(_: AuthMode, types: &mut Types) -> Operation {
    describe("openidConfiguration", types)
}

pub(super) fn oauth_operation(_: AuthMode, types: &mut Types) -> Operation {
    describe("oauthAuthorizationServer", types)
}

fn describe(id: &'static str, types: &mut Types) -> Operation {
    let metadata = types.written::<Metadata<'static>>();
    Operation {
        successes: vec![Success::json(metadata, "The issuer, and where its keys are").cacheable()],
        ..Operation::new(
            id,
            "What a verifier needs to configure itself (OpenID Connect Discovery 1.0; RFC 8414)",
        )
    }
}
