//! Serving: a listener, what answers its requests, a reason to stop.

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

use super::FastPath;

/// How long requests that are in flight may take to finish once the server is to stop; closing the store has the rest
/// of the ten seconds that are promised.
const DRAIN: Duration = Duration::from_secs(9);

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A connection on which nothing has gone on for so many looks is closed: it is idle, or its client sends a head or takes
/// an answer too slowly. Longer than proxies keep theirs, which is a minute. The second number counts while more than half
/// of the places are taken, or nobody else can come in.
const PATIENCE: (u32, u32) = (75, 1);

/// How often memory that was for passing crowds is given back.
const TIDYING: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted, for want of files or memory.
const BREATH: Duration = Duration::from_millis(100);

/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 32 * 1024;

/// Answers requests until `until` is done; then accepts no more, and finishes those in flight within nine seconds.
///
/// At most `most` connections are open at once; whoever comes then waits until a place is free.
pub async fn serve(listener: TcpListener, fast_path: FastPath, most: usize, until: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut door = Door { listener, places: Places::new(most), was_shut: false };
    let mut until = pin!(until);
    let mut tidying = tokio::time::interval(TIDYING);
    loop {
        tokio::select! {
            guest = door.next() => converse(guest, fast_path.clone(), &graceful),
            _ = tidying.tick() => {
                fast_path.tidy();
                door.tidy();
            }
            () = &mut until => break,
        }
    }
    door.places.is_closing.store(true, Ordering::Relaxed);
    drop(door);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!("some requests were cut off: they took longer than {} s to finish", DRAIN.as_secs());
        }
    }
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    places: Places,
    /// Whether it was shut at any time since it was tidied.
    was_shut: bool,
}

/// A connection, and the place that it takes.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
}

impl Door {
    /// The next connection. What keeps one from being accepted ends nothing: files and memory come back.
    async fn next(&mut self) -> Guest {
        let place = self.places.take().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return Guest { stream, peer, place },
                Err(error) if was_the_client(&error) => {}
                Err(error) => {
                    self.was_shut = true;
                    if !self.places.is_shut.swap(true, Ordering::Relaxed) {
                        tracing::error!("no connection can be accepted, which is tried again: {error}");
                    }
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    /// Says when everybody has come in for a while, and not whenever one of many has.
    fn tidy(&mut self) {
        if !std::mem::take(&mut self.was_shut) && self.places.is_shut.swap(false, Ordering::Relaxed) {
            tracing::info!("connections are accepted again");
        }
    }
}

/// Whether it was the client who went away before we came to the door.
fn was_the_client(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionRefused | K::ConnectionReset)
}

/// As many places as there may be connections.
#[derive(Clone)]
struct Places {
    most: usize,
    free: Arc<Semaphore>,
    /// Whether somebody could lately not come in, for want of something else than a place; which was said.
    is_shut: Arc<AtomicBool>,
    /// Whether the server is to stop: nobody is waited for who has not asked for anything yet.
    is_closing: Arc<AtomicBool>,
}

/// One of them, free again when dropped.
struct Place {
    among: Places,
    _taken: Option<OwnedSemaphorePermit>,
}

impl Places {
    fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            is_shut: Arc::default(),
            is_closing: Arc::default(),
        }
    }

    async fn take(&self) -> Place {
        // It is never closed.
        let taken = Arc::clone(&self.free).acquire_owned().await.ok();
        Place { among: self.clone(), _taken: taken }
    }

    /// How many looks a connection may show nothing new.
    fn patience(&self) -> u32 {
        if self.is_closing.load(Ordering::Relaxed) {
            return 0;
        }
        let is_roomy =
            self.free.available_permits() >= self.most.div_ceil(2) && !self.is_shut.load(Ordering::Relaxed);
        if is_roomy { PATIENCE.0 } else { PATIENCE.1 }
    }
}

/// Answers the requests of one connection, beside all others.
fn converse(guest: Guest, fast_path: FastPath, graceful: &GracefulShutdown) {
    let Guest { stream, peer, place } = guest;
    // Small answers leave at once instead of waiting for more to send.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let activity = Arc::new(Activity::default());
    let seen = Arc::clone(&activity);
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
    // Who has said all may close that side and still be answered.
    http.half_close(true).max_header_size(HEAD_MAX);
    let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            },
            () = seen.ceased(&place) => tracing::debug!("a connection was closed: nothing came of it"),
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

    /// Done when nothing has gone on for longer than there is patience. The place is taken until then: what an async block
    /// does not name as a whole it does not keep as a whole.
    async fn ceased(&self, place: &Place) {
        let (mut before, mut quiet) = (None, 0);
        loop {
            let now = self.0.load(Ordering::Relaxed);
            quiet = if before == Some(now) && now.is_multiple_of(2) { quiet + 1 } else { 0 };
            if quiet > place.among.patience() {
                return;
            }
            before = Some(now);
            tokio::time::sleep(LOOK).await;
        }
    }
}
