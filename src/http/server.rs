//! Serving: a listener, a router, a reason to stop.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long requests that are in flight may take to finish once the server is to stop; closing the store has the rest
/// of the ten seconds that are promised.
const DRAIN: Duration = Duration::from_secs(9);

/// Answers requests until `until` is done; then accepts no more, and finishes those in flight within nine seconds.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    until: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let signal = async move {
        until.await;
        // Nobody waits any more if the server has failed meanwhile.
        let _ = stopping.send(());
    };
    // Small answers leave at once instead of waiting for more to send.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(signal).into_future();
    let deadline = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(DRAIN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = serving => served,
        () = deadline => {
            tracing::warn!("some requests were cut off: they took longer than {} s to finish", DRAIN.as_secs());
            Ok(())
        }
    }
}
