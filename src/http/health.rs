//! `/healthz`: the process answers. `/readyz`: it can do its work.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::{ApiError, json};
use crate::issuer::Issuer;

/// That all is well.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct Answer {
    status: &'static str,
}

pub(super) async fn alive() -> Response {
    fresh(&Answer { status: "alive" })
}

pub(super) async fn ready(State(issuer): State<Issuer>) -> Result<Response, ApiError> {
    issuer.readiness().await?;
    Ok(fresh(&Answer { status: "ready" }))
}

fn fresh(answer: &Answer) -> Response {
    let mut response = json(answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
