//! Published keys: `GET /keys` lists them. On the admin surface, `POST /upload` publishes external keys and
//! `DELETE /keys/{kid}` withdraws one.

use std::sync::Arc;

use axum::extract::multipart::MultipartError;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::body;
use crate::config::AuthMode;
use crate::error::{ApiError, ErrorCode, is_too_large};
use crate::openapi::{Operation, Parameter, ParameterLocation, RequestContent, Success, Types, jwk_schema};
use crate::response::json as json_response;
use jwksd_core::clock::Timestamp;
use jwksd_core::issuer::{Keyring, PublishedKey, Uploaded};
use jwksd_core::key::lifecycle::Phase;
use jwksd_core::key::uploaded_set::UploadedSet;
use jwksd_jose::jwk_set::SkippedKey;

/// Maximum size of an upload in bytes.
const MAX_LEN: usize = 256 * 1024;

/// The phase of an external key.
const UPLOADED: &str = "uploaded";

/// The published keys.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Keys")]
struct KeyList {
    keys: Vec<KeyEntry>,
}

/// A published key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublishedKey")]
struct KeyEntry {
    /// The `kid` in the header of tokens.
    kid: String,
    /// The algorithm of all signatures of the key.
    alg: Option<&'static str>,
    /// The phase of the key's life; `uploaded` is an external key.
    #[schemars(extend("enum" = phases()))]
    phase: &'static str,
    /// End of its publication in seconds since 1970; null for a key that stays until it is withdrawn.
    exp: Option<i64>,
}

/// The outcome of a change.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Done")]
struct ChangeResponse {
    /// A sentence for people.
    message: String,
    /// Number of keys that are published now.
    keys_count: usize,
}

/// The outcome of an upload.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Uploaded")]
struct UploadResponse {
    /// A sentence for people.
    message: String,
    /// Number of keys that are published now.
    keys_count: usize,
    /// The keys of the set that are not signing keys of a supported type (RFC 7517 §5). Missing if every key was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedEntry>,
}

/// A key of an uploaded set that is not published.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SkippedKey")]
struct SkippedEntry {
    /// The position of the key in the set, starting at 1.
    key: usize,
    /// The `kid`; null if it has none.
    kid: Option<String>,
    /// Why it was skipped.
    reason: String,
}

impl SkippedEntry {
    fn new(key: SkippedKey) -> Self {
        Self { key: key.number, kid: key.kid, reason: key.why.to_string() }
    }
}

/// The phases of published keys.
fn phases() -> [&'static str; 4] {
    [Phase::Next.name(), Phase::Current.name(), Phase::Retiring.name(), UPLOADED]
}

pub(super) async fn list(State(keyring): State<Arc<Keyring>>) -> Response {
    let entry = |key: PublishedKey| KeyEntry {
        kid: key.kid,
        alg: key.alg,
        phase: key.phase.map_or(UPLOADED, Phase::name),
        exp: key.exp.map(Timestamp::as_secs),
    };
    json_response(&KeyList { keys: keyring.published().into_iter().map(entry).collect() })
}

pub(super) async fn upload(
    State(keyring): State<Arc<Keyring>>,
    request: Request,
) -> Result<Response, ApiError> {
    let text = read_upload(request).await?;
    // All keys are checked before the first is stored.
    let upload = UploadedSet::parse(&text).map_err(|why| ApiError::InvalidJwk(why.to_string()))?;
    let Uploaded { added, left, published } = keyring.upload(upload.keys).await?;
    for kid in &added {
        tracing::info!(kid, "the external key {kid:?} is published");
    }
    let skipped: Vec<_> = upload.skipped.into_iter().map(SkippedEntry::new).collect();
    let message = match skipped.len() {
        0 => format!("{} added, {left} left as they are", added.len()),
        count => format!("{} added, {left} left as they are, {count} skipped", added.len()),
    };
    let response = UploadResponse { message, keys_count: published, skipped };
    Ok((StatusCode::CREATED, json_response(&response)).into_response())
}

pub(super) async fn withdraw(
    State(keyring): State<Arc<Keyring>>,
    kid: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // A path that is not UTF-8 cannot name a key.
    let Path(kid) = kid.map_err(|error| ApiError::UnknownKey(error.to_string()))?;
    let keys_count = keyring.withdraw(&kid).await?;
    tracing::info!(kid, "the external key {kid:?} is withdrawn");
    Ok(json_response(&ChangeResponse { message: "1 withdrawn".to_owned(), keys_count }))
}

/// The body itself, or the one file of a multipart form (RFC 7578).
async fn read_upload(request: Request) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let label = request.headers().get(CONTENT_TYPE).and_then(|label| label.to_str().ok()).unwrap_or_default();
    if !label.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return body::read(request.into_body(), MAX_LEN).await;
    }
    body::within_time_limit(read_file(request)).await?
}

async fn read_file(mut request: Request) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let invalid = || ApiError::InvalidBody("The form must have one file, and nothing else".to_owned());
    let read_error = |error: MultipartError| {
        if is_too_large(error.status()) { ApiError::BodyTooLarge { most: MAX_LEN } } else { invalid() }
    };
    // axum's own limit for forms is 2 MB.
    DefaultBodyLimit::max(MAX_LEN).apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| invalid())?;
    let mut file = None;
    while let Some(field) = form.next_field().await.map_err(read_error)? {
        let bytes = field.bytes().await.map_err(read_error)?;
        // Of two files one would be ignored without a word.
        if file.replace(Zeroizing::new(bytes.to_vec())).is_some() {
            return Err(invalid());
        }
    }
    file.ok_or_else(invalid)
}

/// A key for the example of an upload (RFC 8037 §A.2).
const EXAMPLE_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

pub(super) fn list_operation(_: AuthMode, types: &mut Types) -> Operation {
    let keys = Success::json(types.written::<KeyList>(), "Keys of this issuer and external keys");
    Operation {
        successes: vec![keys],
        ..Operation::new("listKeys", "The published keys: kid, alg, phase, exp")
    }
}

pub(super) fn upload_operation(_: AuthMode, types: &mut Types) -> Operation {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": EXAMPLE_X, "kid": "example"});
    let keys = json!({"schema": jwk_schema::upload(), "example": key});
    let form = json!({"schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "contentMediaType": "application/json"}},
        "additionalProperties": false,
    }});
    let content = vec![
        ("application/json", keys.clone()),
        ("application/jwk-set+json", keys),
        ("multipart/form-data", form),
    ];
    let mut success = Success::json(types.written::<UploadResponse>(), "The keys are published");
    success.status = StatusCode::CREATED;
    let kid = json!({"kid": "$request.body#/kid"});
    success.links.push(("withdraw", json!({"operationId": "withdrawKey", "parameters": kid})));
    Operation {
        body: Some(RequestContent { is_required: true, content }),
        successes: vec![success],
        errors: vec![
            ErrorCode::InvalidBody,
            ErrorCode::InvalidJwk,
            ErrorCode::KidTaken,
            ErrorCode::BodyTooLarge,
            ErrorCode::BodyTooSlow,
            ErrorCode::Internal,
            ErrorCode::NotReady,
            ErrorCode::Unavailable,
        ],
        ..Operation::new("upload", "Publishes external public keys next to the issuer's own")
    }
}

pub(super) fn withdraw_operation(_: AuthMode, types: &mut Types) -> Operation {
    let kid = Parameter {
        name: "kid",
        location: ParameterLocation::Path,
        about: "The `kid` of the external key",
        schema: json!({"type": "string", "minLength": 1}),
    };
    Operation {
        parameters: vec![kid],
        successes: vec![Success::json(types.written::<ChangeResponse>(), "The key is withdrawn")],
        errors: vec![ErrorCode::UnknownKey, ErrorCode::Internal, ErrorCode::NotReady, ErrorCode::Unavailable],
        ..Operation::new("withdrawKey", "Withdraws an external key")
    }
}
