//! The table of all routes. The router and `/openapi.json` are made from it.

use super::route::{Route, delete, get, post};
use super::{
    discovery, faults, health, introspect, jwks, keys, metrics, openapi, password, register, token, verify,
};
use crate::openapi::Access::{Account, Admin, Bearer, Introspection, Probe, Public};
use jwksd_core::rate_limit::Bucket;

/// Method, path, handler, OpenAPI operation, limit and access of each route.
pub(crate) fn table() -> Vec<Route> {
    let admin = Some(Bucket::Admin);
    vec![
        get(jwks::PATH, jwks::get, jwks::operation, None, Public),
        get(jwks::ALIAS, jwks::get, jwks::alias_operation, None, Public),
        get("/.well-known/openid-configuration", discovery::get, discovery::openid_operation, None, Public),
        get(
            "/.well-known/oauth-authorization-server",
            discovery::get,
            discovery::oauth_operation,
            None,
            Public,
        ),
        get("/faults", faults::get, faults::operation, None, Public),
        get("/keys", keys::list, keys::list_operation, None, Public),
        get("/openapi.json", openapi::get, openapi::operation, None, Public),
        get("/healthz", health::alive, health::alive_operation, None, Probe),
        get("/readyz", health::ready, health::ready_operation, None, Probe),
        post("/auth", token::post, token::operation, Some(Bucket::SignIn), Account),
        post("/password", password::post, password::operation, Some(Bucket::SignIn), Account),
        post("/register", register::post, register::operation, Some(Bucket::Registration), Account),
        get("/verify", verify::get, verify::operation, None, Bearer),
        post("/introspect", introspect::post, introspect::operation, admin, Introspection),
        get("/metrics", metrics::get, metrics::operation, admin, Admin),
        post("/upload", keys::upload, keys::upload_operation, admin, Admin),
        delete("/keys/{kid}", keys::withdraw, keys::withdraw_operation, admin, Admin),
    ]
}
