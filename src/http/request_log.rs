//! Request ids, and one log line for each answer, at `debug`; what failed is said by `failures`.
//!
//! There is no span around a request: the JWKS is to cost what sending it costs.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use axum::response::Response;

use super::error::Failure;
use super::failures::Failures;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a caller.
const MAX_LEN: usize = 128;

/// How much of a path is logged, in characters.
const MAX_SHOWN: usize = 256;

/// What is remembered of a request until it is answered.
pub(super) struct RequestLog {
    id: HeaderValue,
    line: Option<(Method, String)>,
}

impl RequestLog {
    pub(super) fn begin<B>(request: &Request<B>) -> Self {
        Self {
            id: sane_id(request.headers()).unwrap_or_else(fresh_id),
            line: tracing::enabled!(tracing::Level::DEBUG)
                .then(|| (request.method().clone(), shown(request.uri().path()))),
        }
    }

    /// Gives the answer the id of its request, and logs it under that id.
    pub(super) fn end(self, response: &mut Response, failures: &Failures) {
        let Self { id, line } = self;
        let status = response.status().as_u16();
        let request_id = id.to_str().unwrap_or_default();
        if let Some(failure) = response.extensions().get::<Failure>() {
            failures.log(request_id, status, failure.0.as_ref());
        }
        if let Some((method, path)) = line {
            tracing::debug!(request_id, %method, path, status, "{method} {path} was answered {status}");
        }
        response.headers_mut().insert(HEADER, id);
    }
}

/// The beginning of a path, so that nothing in it moves a terminal, and a long one does not fill the log's queue.
fn shown(path: &str) -> String {
    path.chars().take(MAX_SHOWN).flat_map(char::escape_default).collect()
}

fn sane_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(HEADER)?;
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
    (!id.is_empty() && id.len() <= MAX_LEN && id.as_bytes().iter().all(sane)).then(|| id.clone())
}

/// Unique among the answers of this process by its count, and among those of others by a random start.
fn fresh_id() -> HeaderValue {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut id = Vec::with_capacity(33);
    // Writing into a Vec does not fail.
    let _ = write!(id, "{:016x}-{count:x}", *START);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(id)).unwrap_or(HeaderValue::from_static("0"))
}
