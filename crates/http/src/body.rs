//! Request bodies: bounded in size and time, and recognised by their content rather than only by their label.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::error::ApiError;
use jwksd_jose::text_encoding::without_bom;

/// Maximum size of a body in bytes.
const MAX_LEN: usize = 16 * 1024;

/// Maximum size of a body that is read to its end although it is too large. Many clients send everything before they
/// read the response; without draining they see a closed connection instead of the 413.
const MAX_DRAINED: usize = 4 * 1024 * 1024;

/// Time limit for sending a body.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A body in a known format.
#[derive(Debug)]
pub enum RequestBody {
    /// No body, or only white space.
    Empty,
    /// A form (`application/x-www-form-urlencoded`).
    Form(Text),
    /// JSON.
    Json(Text),
}

/// The text of a body. It can hold a password, so it is zeroised when dropped.
pub struct Text(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Text")
    }
}

impl<S: Send + Sync> FromRequest<S> for RequestBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let label = media_type(request.headers());
        let text = Text::new(read(request.into_body(), MAX_LEN).await?);
        let first = text.first();
        match (first, label.as_deref()) {
            // Whatever the label: `curl -d` labels JSON as a form.
            (Some(b'{'), _) => Ok(Self::Json(text)),
            (None, _) => Ok(Self::Empty),
            (_, Some("application/x-www-form-urlencoded")) => Ok(Self::Form(text)),
            // Reaches the JSON reader only to be refused there with a reason.
            (_, Some(label)) if label == "application/json" || label.ends_with("+json") => {
                Ok(Self::Json(text))
            }
            _ => Err(ApiError::UnsupportedMediaType),
        }
    }
}

impl Text {
    /// Without its byte order mark, which PowerShell and Windows editors write (RFC 8259 §8.1).
    fn new(mut text: Zeroizing<Vec<u8>>) -> Self {
        let mark = text.len() - without_bom(&text).len();
        text.drain(..mark);
        Self(text)
    }

    fn first(&self) -> Option<u8> {
        self.0.iter().copied().find(|byte| !byte.is_ascii_whitespace())
    }

    /// Reads a JSON object. Errors name no value, because it could be a password.
    pub(super) fn json<T: DeserializeOwned>(&self, expected: &str) -> Result<T, ApiError> {
        // serde would also accept an array for a struct.
        if self.first() != Some(b'{') && serde_json::from_slice::<IgnoredAny>(&self.0).is_ok() {
            return Err(ApiError::InvalidBody(format!("The body must be {expected}")));
        }
        serde_json::from_slice(&self.0).map_err(|error| {
            ApiError::InvalidBody(match error.classify() {
                Category::Data => format!("The body must be {expected}"),
                // serde_json gives positions, and never the text that stands there.
                _ => format!("The body is not valid JSON (line {}, column {})", error.line(), error.column()),
            })
        })
    }

    /// Reads a form, which must be UTF-8: replacement characters would make different passwords equal.
    pub(super) fn form<T: DeserializeOwned>(&self, expected: &str) -> Result<T, ApiError> {
        if percent_decode(&self.0).decode_utf8().is_err() {
            return Err(ApiError::InvalidBody("The form is not UTF-8".to_owned()));
        }
        serde_urlencoded::from_bytes(&self.0)
            .map_err(|_| ApiError::InvalidBody(format!("The body must be {expected}")))
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let label = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    // Parameters such as `charset` change nothing: JSON and forms are UTF-8.
    Some(label.split(';').next()?.trim().to_ascii_lowercase())
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    within_time_limit(collect(body, limit)).await?
}

/// Bounds the time in which a client must send its body.
pub(super) async fn within_time_limit<T>(reading: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(TIMEOUT, reading).await.map_err(|_| ApiError::BodyTooSlow)
}

async fn collect(mut body: Body, limit: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // Not worth waiting for: the client says that it sends more than is drained.
    if body.size_hint().lower() > MAX_DRAINED as u64 {
        return Err(ApiError::BodyTooLarge { most: limit });
    }
    // Credentials fit into this, so the buffer rarely grows: growing leaves a copy behind that is not
    // zeroised.
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::InvalidBody("The body was cut off".to_owned()))?;
        // Trailers carry no data.
        let data: Bytes = frame.into_data().unwrap_or_default();
        seen += data.len();
        if seen <= limit {
            text.extend_from_slice(&data);
        } else if seen > MAX_DRAINED {
            break;
        }
    }
    if seen > limit { Err(ApiError::BodyTooLarge { most: limit }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_body() {
        let body = RequestBody::Json(Text(Zeroizing::new(br#"{"password":"hunter2"}"#.to_vec())));
        assert_eq!(format!("{body:?}"), "Json(Text)");
    }
}
