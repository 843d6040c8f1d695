//! `jwksd serve`: bind the listener, open the store, serve until a shutdown signal, close the store.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use super::bootstrap::{self, OpenStore};
use super::retention_loop::retention_loop;
use super::rotation_loop::rotation_loop;
use super::shutdown_signal::Shutdown;
use super::systemd::{Supervisor, Watchdog};
use super::{open_mode, process_limits};
use crate::config::Config;
use crate::http::{self, AuthMode, Metrics};
use crate::issuer::Retention;

#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServeArgs {
    /// Stop also when standard input ends
    #[arg(long)]
    until_stdin_closes: bool,
}

impl ServeArgs {
    /// The options before the command and after it.
    pub(super) fn or(self, other: Self) -> Self {
        Self { until_stdin_closes: self.until_stdin_closes || other.until_stdin_closes }
    }
}

pub(super) async fn run(config: Config, args: ServeArgs) -> anyhow::Result<()> {
    // First of all, so that no signal during the start is lost.
    let shutdown = Shutdown::listen(args.until_stdin_closes)?;
    let listener = config.listen.bind().await?;
    let address = listener.local_addr().context("cannot tell the address of the listener")?;
    open_mode::refuse_public_address(&config, address.ip())?;
    process_limits::turn_file_size_signal_into_error();
    // Opening may wait for another process.
    let open_store = tokio::select! {
        open_store = open(&config) => open_store?,
        () = shutdown.clone().requested() => return Ok(()),
    };
    let served = serve(&open_store, config, listener, shutdown).await;
    let served = open_store.close(served).await;
    tracing::info!("stopped");
    served
}

async fn open(config: &Config) -> anyhow::Result<OpenStore> {
    let probe = bootstrap::probe(config).await?;
    open_mode::refuse_accounts(config, probe.has_accounts)?;
    if config.http.auth_mode == AuthMode::Open {
        tracing::warn!("OPEN MODE: /auth checks no passwords and issues a token for any name to anyone");
    }
    bootstrap::open_probed(config, probe).await
}

async fn serve(
    open_store: &OpenStore,
    config: Config,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot tell the address of the listener")?;
    let url = config.listen.issuer_url(address.port());
    let metrics = Metrics::new(Arc::clone(&open_store.context.clock))?;
    let pool = metrics.observe(&open_store.context.pool);
    let issuer = open_store.issuer(&config, url.clone()).await?.at(pool);
    issuer.keyring().tick().await.context("cannot bring the keys up to date")?;
    let max_connections = process_limits::max_connections();
    tracing::info!(
        "serving on http://{address}, issuer {url}, database {}",
        config.database.path().display()
    );
    let retention = config.log_retention.map(|keep| Retention::new(open_store.context.clone(), keep));
    let front = http::front(issuer.clone(), config.http, metrics);

    let supervisor = Supervisor::connect();
    supervisor.ready();
    let watchdog = Watchdog::new(supervisor.clone());
    let until = async move {
        shutdown.requested().await;
        supervisor.stopping();
    };
    tokio::select! {
        () = http::serve(listener, front, max_connections, until) => Ok(()),
        () = rotation_loop(&issuer, watchdog) => Ok(()),
        () = retention_loop(retention) => Ok(()),
    }
}
