//! The routes: one [`mod@table`] of all of them, and a file per resource with its handlers and their OpenAPI operations.

mod discovery;
mod faults;
mod health;
mod introspect;
pub(super) mod jwks;
mod keys;
mod metrics;
mod openapi;
mod password;
mod register;
mod route;
mod table;
mod token;
mod verify;

pub(super) use self::route::Route;
pub(super) use self::table::table;
