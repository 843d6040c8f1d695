//! An endpoint: one method of one path, and what holds for it whatever its handler does.

use axum::http::Method;
use serde_json::Value;

use super::operation::{Access, Operation};
use super::types::Types;
use crate::config::AuthMode;
use crate::error::ErrorCode;
use jwksd_core::rate_limit::Bucket;

/// Whether requests of this method can change something, so that pages of other origins may not send them.
pub(crate) fn changes_something(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

/// One method of one path.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// Describes the operation in this mode.
    pub(crate) operation: fn(AuthMode, &mut Types) -> Operation,
    /// What its requests count for, if they are limited.
    pub(crate) limit: Option<Bucket>,
    pub(crate) access: Access,
}

impl Endpoint {
    /// Whether a request of this method to this path is for this endpoint. Not for paths with parameters.
    pub(crate) fn is_at(&self, method: &Method, path: &str) -> bool {
        self.method == *method && self.path == path
    }

    /// Whether this endpoint answers requests with this method.
    pub(crate) fn serves(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::GET && *method == Method::HEAD)
    }

    /// Whether a request to this path is for this endpoint, or for another method of its path. Also for paths with
    /// parameters.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        if !self.path.contains('{') {
            return self.path == path;
        }
        let (mut given, mut wanted) = (path.split('/'), self.path.split('/'));
        loop {
            match (given.next(), wanted.next()) {
                (None, None) => return true,
                (Some(given), Some(wanted)) if given == wanted => {}
                (Some(given), Some(wanted)) if wanted.starts_with('{') && !given.is_empty() => {}
                _ => return false,
            }
        }
    }

    /// The Operation Object of this endpoint.
    pub(super) fn describe(&self, mode: AuthMode, types: &mut Types) -> Value {
        let mut operation = (self.operation)(mode, types);
        operation.errors.extend(self.layer_errors());
        operation.value(self.access, types)
    }

    /// The errors of the layers in front of the handler.
    fn layer_errors(&self) -> Vec<ErrorCode> {
        let mut errors = Vec::new();
        if self.access == Access::Admin {
            errors.extend([ErrorCode::AdminClosed, ErrorCode::InvalidAdminToken, ErrorCode::UnknownHost]);
        }
        if self.access == Access::Introspection {
            errors.extend([
                ErrorCode::IntrospectionClosed,
                ErrorCode::InvalidIntrospectToken,
                ErrorCode::UnknownHost,
            ]);
        }
        if changes_something(&self.method) {
            errors.push(ErrorCode::CrossSite);
        }
        // The 429 comes from a layer or from the fast path, never from the handler.
        if self.limit.is_some() {
            errors.push(ErrorCode::RateLimited);
        }
        errors
    }
}
