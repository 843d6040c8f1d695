//! The HTTP/1 server: accepts connections, bounds their number and lifetime, and drains them at shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fast_path::FastPath;
use crate::telemetry::Outage;

/// Time limit for requests in flight at shutdown. One second less than the promised ten: the store must close as well.
const DRAIN: Duration = Duration::from_secs(9);

/// How often each connection is checked for activity.
const TICK: Duration = Duration::from_secs(1);

/// Idle timeout in ticks of one second. Above the 60 s that proxies keep connections.
///
/// The timeout also applies to clients that send a request or read a response too slowly.
const IDLE_TICKS: u32 = 75;

/// Idle timeout in ticks while more than half of the connection limit is in use, or `accept` fails.
const CROWDED_IDLE_TICKS: u32 = 1;

/// How often idle rate-limit entries are evicted and ended outages are logged.
const MAINTENANCE: Duration = Duration::from_secs(10);

/// Wait before the next `accept` after it failed, such as with EMFILE.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Maximum size of a request head in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Answers requests until `shutdown` completes; then stops accepting and finishes the requests in flight.
///
/// At most `max_connections` connections are open at once; further clients wait in the listener's queue. Requests that
/// take longer than nine seconds after `shutdown` are cut off.
pub async fn serve(
    listener: TcpListener,
    fast_path: FastPath,
    max_connections: usize,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let mut acceptor = Acceptor::new(listener, ConnectionLimit::new(max_connections));
    let mut shutdown = pin!(shutdown);
    let mut maintenance = tokio::time::interval(MAINTENANCE);
    loop {
        tokio::select! {
            connection = acceptor.accept() => serve_connection(connection, fast_path.clone(), &graceful),
            _ = maintenance.tick() => {
                fast_path.maintain();
                acceptor.maintain();
            }
            () = &mut shutdown => break,
        }
    }
    acceptor.limit.state.is_closing.store(true, Ordering::Relaxed);
    // Closes the listener: clients are refused from here on.
    drop(acceptor);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!("some requests were cut off: they took longer than {} s to finish", DRAIN.as_secs());
        }
    }
}

/// Accepts connections within the connection limit.
struct Acceptor {
    listener: TcpListener,
    limit: ConnectionLimit,
    has_failed_since_maintenance: bool,
}

/// An accepted connection and its permit.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
}

impl Acceptor {
    fn new(listener: TcpListener, limit: ConnectionLimit) -> Self {
        Self { listener, limit, has_failed_since_maintenance: false }
    }

    /// Returns the next connection. Failures of `accept` are retried: file descriptors and memory become free again.
    async fn accept(&mut self) -> Connection {
        let permit = self.limit.acquire().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return Connection { stream, peer, permit },
                Err(error) if is_caused_by_client(&error) => {}
                Err(error) => {
                    self.has_failed_since_maintenance = true;
                    let outage = &self.limit.state.accept_outage;
                    outage.failed(|| format!("cannot accept connections, trying again: {error}"));
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// Ends the outage after one interval without a failure. One success is not enough: while descriptors are scarce,
    /// successes and failures alternate.
    fn maintain(&mut self) {
        if !std::mem::take(&mut self.has_failed_since_maintenance) {
            self.limit.state.accept_outage.recovered(|| "connections are accepted again");
        }
    }
}

/// Whether the client closed the connection before it was accepted.
fn is_caused_by_client(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionRefused | K::ConnectionReset)
}

/// Bounds the number of open connections.
#[derive(Clone)]
struct ConnectionLimit {
    max: usize,
    free: Arc<Semaphore>,
    state: Arc<AcceptState>,
}

#[derive(Default)]
struct AcceptState {
    /// Ongoing while `accept` fails for a reason other than the connection limit (such as EMFILE).
    accept_outage: Outage,
    /// Whether the server shuts down. Idle connections are then closed immediately.
    is_closing: AtomicBool,
}

/// One connection of the limit; dropping it makes room for another.
struct Permit {
    limit: ConnectionLimit,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionLimit {
    fn new(max: usize) -> Self {
        // The semaphore panics above its own maximum.
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { max, free: Arc::new(Semaphore::new(max)), state: Arc::default() }
    }

    async fn acquire(&self) -> Permit {
        // The semaphore is never closed, so there always is a permit.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Permit { limit: self.clone(), _permit: permit }
    }

    /// The number of ticks without activity after which a connection is closed.
    fn idle_ticks(&self) -> u32 {
        if self.state.is_closing.load(Ordering::Relaxed) {
            return 0;
        }
        let is_crowded =
            self.free.available_permits() < self.max.div_ceil(2) || self.state.accept_outage.is_ongoing();
        if is_crowded { CROWDED_IDLE_TICKS } else { IDLE_TICKS }
    }
}

/// Spawns a task that answers the requests of one connection.
fn serve_connection(connection: Connection, fast_path: FastPath, graceful: &GracefulShutdown) {
    let Connection { stream, peer, permit } = connection;
    // Small responses leave immediately instead of waiting for more data (Nagle's algorithm).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let activity = Arc::new(Activity::default());
    let watched = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let (fast_path, activity) = (fast_path.clone(), Arc::clone(&activity));
        async move {
            activity.note();
            let response = fast_path.answer(peer, request).await;
            activity.note();
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // A client may close its sending side after the request and still read the response.
    http.half_close(true).max_header_size(MAX_HEAD);
    let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
    tokio::spawn(async move {
        tokio::select! {
            // A connection that has ended must not be logged as idle.
            biased;
            result = connection => if let Err(error) = result {
                tracing::debug!(%error, "a connection ended");
            },
            () = watched.wait_until_idle(&permit) => tracing::debug!("an idle connection was closed"),
        }
    });
}

/// Activity counter, incremented when a request starts and when it ends; odd means one is in progress.
///
/// One timer per connection reads it. A timer per request, as hyper has it, would cost a twentieth of a JWKS response.
#[derive(Default)]
struct Activity(AtomicU64);

impl Activity {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes when nothing has happened for the idle timeout.
    ///
    /// Borrows the whole permit, because an async block captures only the fields it names: the spawned task would
    /// otherwise drop the semaphore's permit at its start.
    async fn wait_until_idle(&self, permit: &Permit) {
        let (mut before, mut idle_ticks) = (None, 0);
        loop {
            let now = self.0.load(Ordering::Relaxed);
            let is_idle = before == Some(now) && now.is_multiple_of(2);
            idle_ticks = if is_idle { idle_ticks + 1 } else { 0 };
            // The timeout is read each time, because it shrinks when the server fills up.
            if idle_ticks > permit.limit.idle_ticks() {
                return;
            }
            before = Some(now);
            tokio::time::sleep(TICK).await;
        }
    }
}
