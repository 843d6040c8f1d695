//! One connection: its requests, and when it ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;

use super::activity::Activity;
use super::client_share::Share;
use super::connection_limit::Permit;
use super::fast_path::FastPath;
use super::unreadable::AnsweringStream;

/// How often each connection is checked for activity.
const TICK: Duration = Duration::from_secs(1);

/// Maximum size of a request head in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// An accepted connection, and its places in the limits.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
    /// Nothing for a trusted proxy.
    pub(super) share: Option<Share>,
    pub(super) activity: Arc<Activity>,
}

impl Connection {
    /// Spawns a task that answers its requests.
    pub(super) fn serve(self, fast_path: FastPath, graceful: &GracefulShutdown) {
        let Self { stream, peer, permit, share, activity } = self;
        // Small responses leave immediately instead of waiting for more data (Nagle's algorithm).
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let stream = AnsweringStream::new(stream, fast_path.clone());
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
            // Moved into the task, so that it is given back at its end.
            let _share = share;
            tokio::select! {
                // A connection that has ended must not be logged as idle.
                biased;
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                },
                () = watched.evicted() => {
                    tracing::debug!(%peer, "an idle connection was closed, because its client opened more than its share");
                }
                () = wait_until_idle(&watched, &permit) => tracing::debug!("an idle connection was closed"),
            }
        });
    }
}

/// Completes when nothing has happened for the idle timeout.
///
/// Borrows the whole permit, because an async block captures only the fields it names: the spawned task would otherwise
/// drop the semaphore's permit at its start.
async fn wait_until_idle(activity: &Activity, permit: &Permit) {
    let (mut before, mut idle_ticks) = (None, 0);
    loop {
        let now = activity.count();
        let is_idle = before == Some(now) && activity.is_idle();
        idle_ticks = if is_idle { idle_ticks + 1 } else { 0 };
        // The timeout is read each time, because it shrinks when the server fills up.
        if idle_ticks > permit.idle_ticks() {
            return;
        }
        before = Some(now);
        tokio::time::sleep(TICK).await;
    }
}
