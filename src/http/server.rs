//! Serving: a listener, what answers its requests, a reason to stop.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};

use super::Front;

/// How long requests that are in flight may take to finish once the server is to stop; closing the store has the rest
/// of the ten seconds that are promised.
const DRAIN: Duration = Duration::from_secs(9);

/// How long a client may take for the head of a request, and stay idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 32 * 1024;

/// Answers requests until `until` is done; then accepts no more, and finishes those in flight within nine seconds.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, front: Front, until: impl Future<Output = ()>) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let mut until = std::pin::pin!(until);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = &mut until => break,
        };
        converse(stream, peer, front.clone(), &graceful);
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!("some requests were cut off: they took longer than {} s to finish", DRAIN.as_secs());
        }
    }
    Ok(())
}

/// Answers the requests of one connection, beside all others.
fn converse(stream: TcpStream, peer: SocketAddr, front: Front, graceful: &GracefulShutdown) {
    // Small answers leave at once instead of waiting for more to send.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let service = service_fn(move |request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}
