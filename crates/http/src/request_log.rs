//! Request ids, one log line per response at `debug`, and one error line per outage.
//!
//! There is no span around a request: it would cost a noticeable share of a JWKS response.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use axum::response::Response;

use super::error::Failure;
use super::refusal_log::RefusalLog;
use jwksd_core::clock::Clock;
use jwksd_core::outage::{Ended, Outages, QUIET, error_chain};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of a request id that is taken over from the client.
const MAX_ID_LEN: usize = 128;

/// Maximum number of characters of a path in the log. A long path must not fill the log's queue.
const MAX_PATH_LEN: usize = 256;

/// What is logged of many requests at once.
pub(super) struct Logs {
    outages: Outages,
    refusals: RefusalLog,
}

impl Logs {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { outages: Outages::new(Arc::clone(clock)), refusals: RefusalLog::new(Arc::clone(clock)) }
    }

    /// Logs what has ended or was left out. Call it periodically.
    pub(super) fn maintain(&self) {
        log_ended(&self.outages);
        self.refusals.maintain();
    }
}

/// What the log needs of a request once it is answered.
pub(super) struct RequestLog {
    id: HeaderValue,
    /// Method and path, if debug lines are logged at all.
    line: Option<(Method, String)>,
}

impl RequestLog {
    pub(super) fn begin<B>(request: &Request<B>) -> Self {
        Self {
            id: client_id(request.headers()).unwrap_or_else(new_id),
            // Most servers log at `info`: then nothing is copied.
            line: tracing::enabled!(tracing::Level::DEBUG)
                .then(|| (request.method().clone(), printable(request.uri().path()))),
        }
    }

    /// The log of a request whose head cannot be read.
    pub(super) fn unreadable() -> Self {
        // A valid method, but no client sends it.
        let line = || (Method::from_bytes(b"-").unwrap_or_default(), "(unreadable)".to_owned());
        Self { id: new_id(), line: tracing::enabled!(tracing::Level::DEBUG).then(line) }
    }

    /// Sets the request id of the response, and logs the response under that id.
    pub(super) fn end(self, response: &mut Response, logs: &Logs) {
        let Self { id, line } = self;
        let status = response.status().as_u16();
        let request_id = id.to_str().unwrap_or_default();
        if let Some(failure) = response.extensions().get::<Failure>() {
            log_failure(request_id, status, failure, &logs.outages);
        }
        if let Some(refusal) = response.extensions().get() {
            logs.refusals.log(request_id, refusal);
        }
        if let Some((method, path)) = line {
            tracing::debug!(request_id, %method, path, status, "{method} {path} was answered {status}");
        }
        response.headers_mut().insert(HEADER, id);
    }
}

fn log_failure(request_id: &str, status: u16, failure: &Failure, outages: &Outages) {
    let cause = error_chain(failure.0.as_ref());
    // The same cause fails many requests; only the first of an outage is an error line.
    if outages.begin(&cause) {
        tracing::error!(request_id, status, "request {request_id} was answered {status}: {cause}");
    } else {
        tracing::debug!(request_id, status, "request {request_id} was also answered {status}: {cause}");
    }
}

/// Logs the outages that have ended.
fn log_ended(outages: &Outages) {
    for Ended { cause, lasted, failures } in outages.end_quiet() {
        tracing::info!(
            requests = failures,
            "{failures} requests failed within {} s, and none in the {} s since: {cause}",
            lasted.as_secs(),
            QUIET.as_secs()
        );
    }
}

/// The beginning of a path. Control characters are escaped, because they could change an operator's terminal.
fn printable(path: &str) -> String {
    path.chars().take(MAX_PATH_LEN).flat_map(char::escape_default).collect()
}

/// The client's own request id, if it is safe to log and to return.
fn client_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(HEADER)?;
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
    (!id.is_empty() && id.len() <= MAX_ID_LEN && id.as_bytes().iter().all(is_safe)).then(|| id.clone())
}

/// A counter makes the id unique within this process; a random prefix tells processes apart.
fn new_id() -> HeaderValue {
    static PREFIX: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut id = Vec::with_capacity(33);
    // Writing to a Vec cannot fail.
    let _ = write!(id, "{:016x}-{count:x}", *PREFIX);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(id)).unwrap_or(HeaderValue::from_static("0"))
}
