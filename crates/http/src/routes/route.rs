//! One row of the table of routes.

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};

use crate::config::AuthMode;
use crate::openapi::{Access, Endpoint, Operation, Types};
use crate::state::AppState;
use jwksd_core::rate_limit::Bucket;

/// An endpoint and its handler.
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    pub(crate) handler: MethodRouter<AppState>,
}

type Describe = fn(AuthMode, &mut Types) -> Operation;

/// A row for GET, which also answers HEAD.
pub(super) fn get<H: Handler<T, AppState>, T: 'static>(
    path: &'static str,
    handler: H,
    operation: Describe,
    limit: Option<Bucket>,
    access: Access,
) -> Route {
    let endpoint = Endpoint { method: Method::GET, path, operation, limit, access };
    Route { endpoint, handler: routing::get(handler) }
}

/// A row for POST.
pub(super) fn post<H: Handler<T, AppState>, T: 'static>(
    path: &'static str,
    handler: H,
    operation: Describe,
    limit: Option<Bucket>,
    access: Access,
) -> Route {
    let endpoint = Endpoint { method: Method::POST, path, operation, limit, access };
    Route { endpoint, handler: routing::post(handler) }
}

/// A row for DELETE.
pub(super) fn delete<H: Handler<T, AppState>, T: 'static>(
    path: &'static str,
    handler: H,
    operation: Describe,
    limit: Option<Bucket>,
    access: Access,
) -> Route {
    let endpoint = Endpoint { method: Method::DELETE, path, operation, limit, access };
    Route { endpoint, handler: routing::delete(handler) }
}
