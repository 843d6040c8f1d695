//! `/healthz`: the process answers. `/readyz`: the service can issue tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::AuthMode;
use crate::error::{ApiError, ErrorCode};
use crate::openapi::{Operation, Success, Types};
use crate::response::json;
use jwksd_core::issuer::{Issuer, Keyring, NotReady};

/// All is well.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
struct HealthResponse {
    status: &'static str,
}

pub(super) async fn alive() -> Response {
    json(&HealthResponse { status: "alive" })
}

pub(super) async fn ready(
    State(keyring): State<Arc<Keyring>>,
    State(issuer): State<Issuer>,
    State(mode): State<AuthMode>,
) -> Result<Response, ApiError> {
    keyring.readiness().await?;
    // Open mode records nothing.
    if mode == AuthMode::Password {
        issuer.can_record_sign_ins().await.map_err(NotReady::from)?;
    }
    Ok(json(&HealthResponse { status: "ready" }))
}

pub(super) fn alive_operation(_: AuthMode, types: &mut Types) -> Operation {
    describe("alive", "Whether the process answers", Vec::new(), types)
}

pub(super) fn ready_operation(_: AuthMode, types: &mut Types) -> Operation {
    describe("ready", "Whether the service can issue tokens", vec![ErrorCode::NotReady], types)
}

fn describe(id: &'static str, summary: &'static str, errors: Vec<ErrorCode>, types: &mut Types) -> Operation {
    let success = Success::json(types.written::<HealthResponse>(), "All is well");
    Operation { successes: vec![success], errors, ..Operation::new(id, summary) }
}
