//! How an operation is written in OpenAPI 3.1. What each operation is, stands next to its handler in `routes/`.

mod document;
mod endpoint;
pub(super) mod jwk_schema;
mod operation;
mod types;

pub(super) use self::document::LazyDocument;
pub(super) use self::endpoint::{Endpoint, changes_something};
pub(super) use self::operation::{
    Access, Operation, Parameter, ParameterLocation, RequestContent, Success, X_AUTH_SUBJECT, X_AUTH_UID,
};
pub(super) use self::types::Types;
