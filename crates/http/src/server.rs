//! The HTTP/1 server: accepts connections, bounds their number and lifetime, and drains them at shutdown.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::activity::Activity;
use super::client_share::ClientShares;
use super::connection::Connection;
use super::connection_limit::{AcceptState, ConnectionLimit, Permit};
use super::fast_path::FastPath;
use super::refused_connections::RefusedConnections;

/// Time limit for requests in flight at shutdown. One second less than the promised ten: the store must close as well.
const DRAIN: Duration = Duration::from_secs(9);

/// How often idle rate-limit entries are evicted and ended outages are logged.
const MAINTENANCE: Duration = Duration::from_secs(10);

/// Wait before the next `accept` after it failed, such as with EMFILE.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Answers requests until `shutdown` completes; then stops accepting and finishes the requests in flight.
///
/// At most `max_connections` connections are open at once, a quarter of them of one client; further clients wait in the
/// listener's queue. Requests that take longer than nine seconds after `shutdown` are cut off.
pub async fn serve(
    listener: TcpListener,
    fast_path: FastPath,
    max_connections: usize,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let acceptor = Acceptor::new(listener, max_connections, fast_path.clone());
    let state = Arc::clone(&acceptor.limit.state);
    // A task of its own: it visits every client of the rate limits, and no connection waits for that.
    let mut maintenance = JoinSet::new();
    maintenance.spawn(maintenance_loop(fast_path.clone(), Arc::clone(&state)));
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            connection = acceptor.accept() => connection.serve(fast_path.clone(), &graceful),
            () = &mut shutdown => break,
        }
    }
    state.is_closing.store(true, Ordering::Relaxed);
    // Closes the listener: clients are refused from here on.
    drop(acceptor);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!("some requests were cut off: they took longer than {} s to finish", DRAIN.as_secs());
        }
    }
}

/// Never returns.
async fn maintenance_loop(fast_path: FastPath, state: Arc<AcceptState>) {
    let mut interval = tokio::time::interval(MAINTENANCE);
    loop {
        interval.tick().await;
        fast_path.maintain();
        state.maintain();
    }
}

/// Accepts connections within the connection limit and the shares of their clients.
struct Acceptor {
    listener: TcpListener,
    limit: ConnectionLimit,
    shares: Arc<ClientShares>,
    refused: RefusedConnections,
    fast_path: FastPath,
}

impl Acceptor {
    fn new(listener: TcpListener, max_connections: usize, fast_path: FastPath) -> Self {
        let shares = Arc::new(ClientShares::new(max_connections));
        let limit = ConnectionLimit::new(max_connections);
        let refused = RefusedConnections::new(fast_path.clock(), fast_path.has_trusted_proxies());
        Self { listener, limit, shares, refused, fast_path }
    }

    /// Returns the next connection. Failures of `accept` are retried: file descriptors and memory become free again.
    async fn accept(&self) -> Connection {
        let mut permit = self.limit.acquire().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.admit(stream, peer, permit) {
                    Ok(connection) => return connection,
                    Err(unused) => permit = unused,
                },
                Err(error) if is_caused_by_client(&error) => {}
                Err(error) => {
                    self.limit.state.has_failed_since_maintenance.store(true, Ordering::Relaxed);
                    let outage = &self.limit.state.outage;
                    outage.failed(|| format!("cannot accept connections, trying again: {error}"));
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// Closes the connection, and returns the permit, if its client holds its whole share with requests in progress.
    fn admit(&self, stream: TcpStream, peer: SocketAddr, permit: Permit) -> Result<Connection, Permit> {
        let activity = Arc::new(Activity::default());
        let client = peer.ip().to_canonical();
        if self.fast_path.is_trusted_proxy(client) {
            return Ok(Connection { stream, peer, permit, share: None, activity });
        }
        match self.shares.take(client.into(), &activity) {
            Ok(share) => Ok(Connection { stream, peer, permit, share: Some(share), activity }),
            Err(full) => {
                self.refused.log(client, full);
                Err(permit)
            }
        }
    }
}

/// Whether the client closed the connection before it was accepted.
fn is_caused_by_client(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionRefused | K::ConnectionReset)
}
