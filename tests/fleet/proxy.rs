//! What stands between a server and the database: a proxy for TCP that can be a bad network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What it does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// It forwards them.
    Pass,
    /// It closes every connection, old and new.
    Refuse,
    /// It holds them back, and says nothing.
    Swallow,
    /// It forwards them after this time.
    Delay(Duration),
    /// It forwards the next bytes that contain this text, closes their connection instead of the answer, and works again.
    LoseAnswerTo(&'static str),
}

/// A listener in front of a database server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    network: Arc<watch::Sender<Network>>,
    target: watch::Sender<SocketAddr>,
    _task: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, target) = (Arc::new(watch::Sender::new(Network::Pass)), watch::Sender::new(target));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, target.subscribe(), Arc::clone(&network)));
        Self { port, network, target, _task: task }
    }

    /// Changes what happens to the bytes of all connections.
    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Leads new connections to another server. Those that exist still lead to the old one.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    network: Arc<watch::Sender<Network>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let target = *target.borrow();
        connections.spawn(connect(client, target, Arc::clone(&network)));
    }
}

async fn connect(client: TcpStream, target: SocketAddr, sender: Arc<watch::Sender<Network>>) {
    let mut network = sender.subscribe();
    let now = network.wait_for(|network| *network != Network::Swallow).await.map(|network| *network);
    if now.is_ok_and(|now| now == Network::Refuse) {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_lost = AtomicBool::new(false);
    let on_question = |now: Network, bytes: &[u8]| {
        if let Network::LoseAnswerTo(text) = now
            && bytes.windows(text.len()).any(|part| part == text.as_bytes())
        {
            is_lost.store(true, Ordering::Relaxed);
        }
        true
    };
    let on_answer = |_, _: &[u8]| {
        if is_lost.load(Ordering::Relaxed) {
            sender.send_replace(Network::Pass);
            return false;
        }
        true
    };
    tokio::select! {
        () = forward(from_client, to_server, network.clone(), on_question) => {}
        () = forward(from_server, to_client, network.clone(), on_answer) => {}
        () = refused(network.clone()) => {}
    }
}

/// Forwards what `passes`, and ends with the first bytes that do not.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    passes: impl Fn(Network, &[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let Ok(now) = network.wait_for(|network| *network != Network::Swallow).await.map(|now| *now) else {
            return;
        };
        if let Network::Delay(time) = now {
            tokio::time::sleep(time).await;
        }
        if !passes(now, &buffer[..length]) || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn refused(mut network: watch::Receiver<Network>) {
    let _ = network.wait_for(|network| *network == Network::Refuse).await;
}
