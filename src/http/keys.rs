//! The keys that are published: `GET /keys` lists them; on the admin surface, `POST /upload` adds keys of others and
//! `DELETE /keys/{kid}` takes them back.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest as _, Multipart, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

use super::body;
use super::error::{ApiError, json};
use crate::domain::clock::Timestamp;
use crate::domain::jose::external_key::ExternalKey;
use crate::domain::key::lifecycle::Phase;
use crate::issuer::{Issuer, PublishedKey, Uploaded};

/// The longest upload that is read, in bytes.
pub(super) const UPLOAD_MAX: usize = 256 * 1024;

/// The phase of a key of others.
const UPLOADED: &str = "uploaded";

/// The keys that are published.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Keys")]
pub(super) struct Listing {
    keys: Vec<Line>,
}

/// One of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublishedKey")]
struct Line {
    /// What tokens call it.
    kid: String,
    /// What it may do; `uploaded` is a key of others.
    #[schemars(extend("enum" = phases()))]
    phase: &'static str,
    /// When its publication ends, in seconds since 1970; null for a key that stays until it is withdrawn.
    exp: Option<i64>,
}

/// What was done.
#[derive(Serialize, JsonSchema)]
pub(super) struct Done {
    /// A sentence for people.
    message: String,
    /// How many keys are published now.
    keys_count: usize,
}

/// Every phase of a key that is published.
fn phases() -> [&'static str; 4] {
    [Phase::Next.name(), Phase::Current.name(), Phase::Retiring.name(), UPLOADED]
}

pub(super) async fn list(State(issuer): State<Issuer>) -> Response {
    let line = |key: PublishedKey| Line {
        kid: key.kid,
        phase: key.phase.map_or(UPLOADED, Phase::name),
        exp: key.exp.map(Timestamp::as_secs),
    };
    json(&Listing { keys: issuer.keyring().published().into_iter().map(line).collect() })
}

pub(super) async fn upload(State(issuer): State<Issuer>, request: Request) -> Result<Response, ApiError> {
    let text = read(request).await?;
    let uploads = ExternalKey::parse_all(&text).map_err(|why| ApiError::InvalidJwk(why.to_string()))?;
    let Uploaded { added, left, published } = issuer.keyring().upload(uploads).await?;
    for kid in &added {
        tracing::info!(kid, "the key {kid:?} of others is published");
    }
    let message = format!("{} added, {left} left as they are", added.len());
    Ok((StatusCode::CREATED, json(&Done { message, keys_count: published })).into_response())
}

pub(super) async fn withdraw(
    State(issuer): State<Issuer>,
    kid: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // What is no UTF-8 is no name of a key.
    let Path(kid) = kid.map_err(|error| ApiError::UnknownKey(error.to_string()))?;
    let keys_count = issuer.keyring().withdraw(&kid).await?;
    tracing::info!(kid, "the key {kid:?} of others is withdrawn");
    Ok(json(&Done { message: "1 withdrawn".to_owned(), keys_count }))
}

/// The text itself, or the one file of a form (RFC 7578).
async fn read(request: Request) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let label = request.headers().get(CONTENT_TYPE).and_then(|label| label.to_str().ok()).unwrap_or_default();
    if !label.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return body::read(request.into_body(), UPLOAD_MAX).await;
    }
    body::in_time(one_file(request)).await?
}

async fn one_file(request: Request) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let unfit = || ApiError::InvalidBody("The form must have one file, and nothing else".to_owned());
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| unfit())?;
    let mut file = None;
    while let Some(field) = form.next_field().await.map_err(|error| body::refused(&error, unfit()))? {
        let bytes = field.bytes().await.map_err(|error| body::refused(&error, unfit()))?;
        if file.replace(Zeroizing::new(bytes.to_vec())).is_some() {
            return Err(unfit());
        }
    }
    file.ok_or_else(unfit)
}
