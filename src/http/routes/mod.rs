//! Every route, in one table. A file per resource holds the handlers and, next to each, its OpenAPI operation.

mod discovery;
mod faults;
mod health;
pub(super) mod jwks;
mod keys;
mod metrics;
mod openapi;
mod register;
mod route;
mod token;

pub(super) use self::route::Route;

use self::route::{delete, get, post};
use super::openapi::Access::{Admin, Private, Public};
use crate::rate_limit::Bucket;

/// Method, path, handler, OpenAPI operation, limit and access of each route.
pub(super) fn table() -> Vec<Route> {
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
        get("/healthz", health::alive, health::alive_operation, None, Private),
        get("/readyz", health::ready, health::ready_operation, None, Private),
        post("/auth", token::post, token::operation, Some(Bucket::SignIn), Private),
        post("/register", register::post, register::operation, Some(Bucket::Registration), Private),
        get("/metrics", metrics::get, metrics::operation, admin, Admin),
        post("/upload", keys::upload, keys::upload_operation, admin, Admin),
        delete("/keys/{kid}", keys::withdraw, keys::withdraw_operation, admin, Admin),
    ]
}
