//! Requests whose head hyper cannot read. hyper answers those itself, with an empty body, and closes the connection: this
//! stream puts an error like all others in the place of that response.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::error::ApiError;
use super::fast_path::FastPath;
use super::request_log;

/// How long the rest of a request is read after its refusal. A system answers bytes that are not read with a reset, and
/// the client then loses the response.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Maximum size of the rest that is read, in bytes.
const MAX_DRAINED: usize = 1024 * 1024;

/// A stream under hyper.
pub(super) struct AnsweringStream<S> {
    stream: S,
    fast_path: FastPath,
    state: State,
}

enum State {
    /// What hyper writes is passed on.
    Open,
    /// The rest of our response, and the length of hyper's.
    Replacing { rest: Vec<u8>, instead_of: usize },
    /// hyper closes the connection next.
    Refused,
    /// The sending side is closed, and the rest of the request is read.
    Draining { until: Pin<Box<Sleep>>, drained: usize },
}

impl<S: AsyncRead + AsyncWrite + Unpin> AnsweringStream<S> {
    pub(super) fn new(stream: S, fast_path: FastPath) -> Self {
        Self { stream, fast_path, state: State::Open }
    }

    /// Begins to replace what hyper writes, if that is a response of its own.
    fn replace(&mut self, written: &[u8]) {
        if matches!(self.state, State::Open)
            && let Some(error) = refusal_by_hyper(written)
        {
            let rest = self.fast_path.refuse_unreadable(error, written);
            self.state = State::Replacing { rest, instead_of: written.len() };
        }
    }

    /// Writes our response. Returns nothing if hyper's own bytes are to be written.
    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let State::Replacing { rest, instead_of } = &mut self.state else {
            return None;
        };
        while !rest.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => drop(rest.drain(..count)),
                other => return Some(other),
            }
        }
        let instead_of = *instead_of;
        self.state = State::Refused;
        Some(Poll::Ready(Ok(instead_of)))
    }

    /// Reads and drops what the client still sends.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let State::Draining { until, drained } = &mut self.state else {
            return Poll::Ready(());
        };
        let mut space = [0; 4096];
        while *drained < MAX_DRAINED && until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            // An error here changes nothing: the connection ends anyway.
            let is_read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)).is_ok();
            if !is_read || buffer.filled().is_empty() {
                break;
            }
            *drained += buffer.filled().len();
        }
        Poll::Ready(())
    }
}

/// The error for a response that hyper made by itself: every response of ours has a request id.
fn refusal_by_hyper(written: &[u8]) -> Option<ApiError> {
    let status = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    // Almost all responses are decided here, by one comparison.
    if status.first() != Some(&b'4') || !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let id = request_log::HEADER;
    let has_id =
        written.windows(id.as_str().len()).any(|part| part.eq_ignore_ascii_case(id.as_str().as_bytes()));
    if has_id { None } else { ApiError::from_parser(StatusCode::from_bytes(status).ok()?) }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for AnsweringStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AnsweringStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.replace(bytes);
        this.poll_replacement(context)
            .unwrap_or_else(|| Pin::new(&mut this.stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // hyper's own response has no body, and so only one part.
        if let [only] = parts {
            this.replace(only);
        }
        this.poll_replacement(context)
            .unwrap_or_else(|| Pin::new(&mut this.stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.state, State::Draining { .. }) {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        if matches!(this.state, State::Refused) {
            this.state = State::Draining { until: Box::pin(tokio::time::sleep(DRAIN_TIME)), drained: 0 };
        }
        this.poll_drain(context).map(Ok)
    }
}
