//! `GET /metrics`: the metrics in the Prometheus text format.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::config::AuthMode;
use crate::error::{ApiError, ErrorCode};
use crate::metrics::{Exposition, Metrics};
use crate::openapi::{Operation, Success, Types};
use jwksd_core::issuer::{Accounts, Keyring};

pub(super) async fn get(
    State(accounts): State<Accounts>,
    State(keyring): State<Arc<Keyring>>,
    State(metrics): State<Arc<Metrics>>,
) -> Result<Response, ApiError> {
    let Exposition { media_type, text } =
        metrics.export(&accounts, &keyring).map_err(|error| ApiError::Internal(Box::new(error)))?;
    Ok(([(CONTENT_TYPE, media_type)], text).into_response())
}

pub(super) fn operation(_: AuthMode, _: &mut Types) -> Operation {
    let text = json!({"type": "string"});
    Operation {
        successes: vec![Success::ok("text/plain; version=0.0.4", text, "In the Prometheus text format")],
        errors: vec![ErrorCode::Internal],
        ..Operation::new("metrics", "The metrics of the service")
    }
}
