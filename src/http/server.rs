//! Serving: a listener, what answers its requests, a reason to stop.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};

use super::Front;

/// How long requests that are in flight may take to finish once the server is to stop; closing the store has the rest
/// of the ten seconds that are promised.
const DRAIN: Duration = Duration::from_secs(9);

/// A connection on which no request was begun or answered for this long, or up to twice as long, is closed: it is idle,
/// or its client sends a head or takes an answer too slowly.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 32 * 1024;

/// Answers requests until `until` is done; then accepts no more, and finishes those in flight within nine seconds.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, front: Front, until: impl Future<Output = ()>) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let mut until = pin!(until);
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
    let activity = Arc::new(Activity::default());
    let seen = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let (front, activity) = (front.clone(), Arc::clone(&activity));
        async move {
            activity.note();
            let response = front.answer(peer, request).await;
            activity.note();
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    let connection =
        graceful.watch(http.max_buf_size(HEAD_MAX).serve_connection(TokioIo::new(stream), service));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            },
            () = seen.ceased() => tracing::debug!("a connection was closed: nothing came of it"),
        }
    });
}

/// What goes on on a connection: odd while a request is being answered, and another number with each.
///
/// One timer a connection looks at it now and then. A timer a request, as hyper has it, would cost a twentieth of a JWKS.
#[derive(Default)]
struct Activity(AtomicU64);

impl Activity {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Done when nothing has gone on for a while.
    async fn ceased(&self) {
        let mut before = None;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if before == Some(now) && now.is_multiple_of(2) {
                return;
            }
            before = Some(now);
            tokio::time::sleep(PATIENCE).await;
        }
    }
}
