//! When to stop: SIGTERM, Ctrl-C, and on request the end of standard input. SIGHUP does not stop the server.

use std::io;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};

/// A request to stop. Clones see the same request.
#[derive(Clone)]
pub(super) struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Starts to listen for signals, and for the end of standard input if `until_stdin_closes`.
    pub(super) fn listen(until_stdin_closes: bool) -> anyhow::Result<Self> {
        // Registered before the task runs: until then, a signal ends the process immediately.
        let signal = shutdown_signal()?;
        ignore_hangups()?;
        let stdin_closed = until_stdin_closes.then(stdin_closed);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            let stdin_closed = async {
                match stdin_closed {
                    Some(closed) => drop(closed.await),
                    // Without the flag only a signal stops it: services often start with a closed standard input.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = signal => {}
                () = stdin_closed => {}
            }
            tracing::info!("stopping");
            // No receiver is left if the server has failed meanwhile.
            let _ = sender.send(true);
        });
        Ok(Self(receiver))
    }

    /// Waits for the request.
    pub(super) async fn requested(mut self) {
        // The sender is dropped only after it has sent.
        let _ = self.0.wait_for(|is_requested| *is_requested).await;
    }
}

/// Logs each SIGHUP from now on, and does nothing else: a closed terminal or a tool that rotates logs ends no server.
#[cfg(unix)]
fn ignore_hangups() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!(
                "SIGHUP is ignored: settings are read only at the start, so restart to change them"
            );
        }
    });
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
fn ignore_hangups() -> anyhow::Result<()> {
    Ok(())
}

/// Listens for SIGTERM and Ctrl-C from now on. The future completes at the first one.
#[cfg(unix)]
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Listens for Ctrl-C from now on.
#[cfg(not(unix))]
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        // A handler that cannot be installed must not look like a request to stop.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

fn stdin_closed() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, because a read of standard input cannot be cancelled.
    std::thread::spawn(move || {
        // A standard input that cannot be read counts as closed.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}
