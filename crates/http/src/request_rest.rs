//! What is left of a request body when its response is ready: a refusal often comes before the body was read.
//!
//! hyper closes such a connection. Many clients send the body behind the head without waiting, and to a closed connection:
//! they see a broken connection instead of the response. So the rest of a small body is read first, and where that is not
//! possible the response announces the end of the connection (RFC 9112 §9.6).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Request};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

/// Maximum size of the rest of a body in bytes. As large as any body that jwksd asks for without a token.
const MAX_LEN: u64 = 16 * 1024;

/// Time limit for it: a second packet takes one round trip.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A body that the handler of a route reads, and whose rest can be read after it.
pub(super) struct SharedBody<B>(Arc<Mutex<Body<B>>>);

struct Body<B> {
    inner: B,
    /// hyper does not remember the end of a chunked body.
    has_ended: bool,
}

impl<B> SharedBody<B> {
    pub(super) fn new(inner: B) -> Self {
        Self(Arc::new(Mutex::new(Body { inner, has_ended: false })))
    }

    /// The other half.
    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Body<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for SharedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut body = self.lock();
        let frame = Pin::new(&mut body.inner).poll_frame(cx);
        body.has_ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        let body = self.lock();
        body.has_ended || body.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().inner.size_hint()
    }
}

/// Whether the client sends the body only after a permission, which it gets when the body is read (RFC 9110 §10.1.1).
pub(super) fn waits_for_permission<B: HttpBody>(request: &Request<B>) -> bool {
    // Most requests have no body, and then there is no header to look for.
    !request.body().is_end_stream() && request.headers().contains_key(EXPECT)
}

/// Reads the rest of the body, or announces in the response that the connection ends.
pub(super) async fn finish<B>(body: &mut B, waits_for_permission: bool, response: &mut Response)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return;
    }
    let is_worth_reading = !waits_for_permission && body.size_hint().lower() <= MAX_LEN;
    let is_finished =
        is_worth_reading && tokio::time::timeout(TIMEOUT, read_rest(body)).await.unwrap_or(false);
    if !is_finished {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Returns whether the end was reached.
async fn read_rest<B: HttpBody<Data = Bytes> + Unpin>(body: &mut B) -> bool {
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return false;
        };
        seen += frame.data_ref().map_or(0, Bytes::len) as u64;
        if seen > MAX_LEN {
            return false;
        }
    }
    true
}
