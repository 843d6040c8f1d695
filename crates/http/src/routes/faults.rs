//! `GET /faults`: the ways in which a token of `?fault=` can be wrong.

use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::AuthMode;
use crate::openapi::{Operation, Success, Types};
use crate::response::json;
use jwksd_core::token::fault::Fault;

/// The ways in which a token can be wrong.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Faults")]
struct FaultList {
    faults: Vec<FaultEntry>,
}

/// One way in which a token can be wrong.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Fault")]
struct FaultEntry {
    /// The value of `?fault=`.
    name: &'static str,
    /// What is wrong with such a token.
    description: &'static str,
    /// The standard by which a verifier must refuse it.
    reference: &'static str,
}

pub(super) async fn get() -> Response {
    let entry = |fault: Fault| FaultEntry {
        name: fault.name(),
        description: fault.description(),
        reference: fault.reference(),
    };
    json(&FaultList { faults: Fault::ALL.into_iter().map(entry).collect() })
}

pub(super) fn operation(_: AuthMode, types: &mut Types) -> Operation {
    let faults = Success::json(types.written::<FaultList>(), "Every value of `?fault=`");
    Operation {
        successes: vec![faults],
        ..Operation::new("faults", "The ways in which a token can be wrong")
    }
}
