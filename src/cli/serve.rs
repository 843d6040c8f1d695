//! `jwksd serve`: bind the listener, open the store, serve until a shutdown signal, close the store.

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use super::bootstrap::{self, OpenStore};
use super::exit::UsageError;
use super::shutdown_signal::Shutdown;
use super::systemd::{Supervisor, Watchdog};
use super::{open_mode, process_limits};
use crate::app::App;
use crate::config::{self, Config};
use crate::http::AuthMode;

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
    // Before anything is done that the file decides about.
    let risks = config::check_dotenv_access(config.keys.master_key.is_none());
    for risk in risks.map_err(|risk| UsageError(risk.to_string()))? {
        tracing::warn!("{risk}");
    }
    // Before the store is opened, so that a second server on the port fails without touching the store.
    let listener = config.listen.bind().await?;
    let address = listener.local_addr().context("cannot tell the address of the listener")?;
    // After the bind, because a name in HOST can resolve to any address.
    open_mode::refuse_public_address(&config, address.ip())?;
    // Before the store is opened, because its first write may reach the limit.
    process_limits::turn_file_size_signal_into_error();
    // Opening may wait for another process.
    let open_store = tokio::select! {
        open_store = open(&config) => open_store?,
        // Status 0: the operator asked for it.
        () = shutdown.clone().requested() => return Ok(()),
    };
    let served = serve(&open_store, &config, listener, shutdown).await;
    let served = open_store.close(served).await;
    tracing::info!("stopped");
    served
}

async fn open(config: &Config) -> anyhow::Result<OpenStore> {
    let probe = bootstrap::probe(config).await?;
    // Checked on the probe, so that a refused start does not change the store.
    open_mode::refuse_accounts(config, probe.has_accounts)?;
    if config.http.auth_mode == AuthMode::Open {
        tracing::warn!("OPEN MODE: /auth checks no passwords and issues a token for any name to anyone");
    }
    bootstrap::open_probed(config, probe).await
}

async fn serve(
    open_store: &OpenStore,
    config: &Config,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot tell the address of the listener")?;
    let (context, master_key) = (open_store.context.clone(), open_store.master_key.clone());
    let app = App::build(config, context, master_key, address.port()).await?;
    let max_connections = process_limits::max_connections();
    tracing::info!(
        "serving on http://{address}, issuer {}, database {}",
        app.issuer.url(),
        config.database.path().display()
    );

    let supervisor = Supervisor::connect();
    // The keys are published, and the kernel already queues connections of early clients.
    supervisor.ready();
    let mut watchdog = Watchdog::new(supervisor.clone());
    let until_shutdown = async move {
        shutdown.requested().await;
        supervisor.stopping();
    };
    // Signs of life come from the rotation, so that systemd restarts a server whose rotation hangs.
    app.serve(listener, max_connections, until_shutdown, || watchdog.alive()).await;
    Ok(())
}
