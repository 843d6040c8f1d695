//! `jwksd serve`: bind the listener, open the store, serve until a shutdown signal, close the store.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::bootstrap::{self, OpenStore, Unreachable};
use super::exit::UsageError;
use super::shutdown_signal::Shutdown;
use super::systemd::{Supervisor, Watchdog};
use super::{open_mode, process_limits};
use crate::app::App;
use crate::config::{self, Config};
use jwksd_core::outage::error_chain;
use jwksd_core::store::{ServingMode, Store, StoreError};
use jwksd_http::AuthMode;
use jwksd_store_sqlite::Contents;

/// How long a start waits for the server of the store.
const REACHABLE_WITHIN: Duration = Duration::from_secs(30);

/// Time between two attempts to reach it.
const PAUSE: Duration = Duration::from_secs(1);

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
    let risks = config::check_dotenv_access(config.dotenv_file.as_ref(), config.keys.master_key.is_none());
    for risk in risks.map_err(|risk| UsageError(risk.to_string()))? {
        tracing::warn!("{risk}");
    }
    open_mode::refuse_proxies(&config)?;
    refuse_missing_issuer(&config)?;
    // Before the store is opened, so that a second server on the port fails without touching the store.
    let listener = config.listen.bind().await?;
    let address = listener.local_addr().context("cannot tell the address of the listener")?;
    // After the bind, because a name in HOST can resolve to any address.
    open_mode::refuse_public_address(&config, address.ip())?;
    // Before the store is opened, because its first write may reach the limit.
    process_limits::turn_file_size_signal_into_error();
    // Opening may wait for another process.
    let open_store = tokio::select! {
        open_store = open_when_reachable(&config) => open_store?,
        // Status 0: the operator asked for it.
        () = shutdown.clone().requested() => return Ok(()),
    };
    let served = serve(&open_store, &config, listener, shutdown).await;
    let served = open_store.close(served).await;
    tracing::info!("stopped");
    served
}

/// Without `ISSUER`, each process on a shared store would issue in the name of its own address.
fn refuse_missing_issuer(config: &Config) -> Result<(), UsageError> {
    if config.database.file().is_some() || config.listen.issuer.is_some() {
        return Ok(());
    }
    Err(UsageError(format!(
        "ISSUER is not set, and all processes on {} issue under one: set it to the URL under which clients reach them",
        config.database
    )))
}

/// Waits for a server that is starting as well.
async fn open_when_reachable(config: &Config) -> anyhow::Result<OpenStore> {
    let begun = Instant::now();
    loop {
        match open(config).await {
            Err(error) if error.is::<Unreachable>() && begun.elapsed() < REACHABLE_WITHIN => {
                tracing::warn!("{error:#}; trying again");
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}

async fn open(config: &Config) -> anyhow::Result<OpenStore> {
    if config.http.auth_mode == AuthMode::Open {
        tracing::warn!("OPEN MODE: /auth checks no passwords and issues a token for any name to anyone");
    }
    let mode = config.http.auth_mode.into();
    if let Some(open_store) = open_in_mode(config, mode).await? {
        return Ok(open_store);
    }
    let Some(file) = config.database.file() else {
        return Err(open_mode::other_mode(config).into());
    };
    // It was last served in the other mode, perhaps by a server that still runs.
    match file.switch_mode(mode).await {
        // If that was another start in this mode, it has recorded it by now.
        Ok(()) | Err(StoreError::InUse) => {}
        Err(error) => return Err(bootstrap::unusable(&config.database, error)),
    }
    open_in_mode(config, mode).await?.ok_or_else(|| open_mode::other_mode(config).into())
}

/// Opens the store to serve it in this mode; nothing if the mode must be switched first.
async fn open_in_mode(config: &Config, mode: ServingMode) -> anyhow::Result<Option<OpenStore>> {
    let probe = bootstrap::probe(config).await?;
    // Checked on the probe, so that a refused start does not change the store.
    open_mode::refuse_accounts(config, probe.has_accounts)?;
    let is_new = !matches!(probe.contents, Contents::Ours(_));
    let faults = probe.schema_faults.clone();
    let open_store = bootstrap::open_probed(config, probe).await?;
    // Only with the store open: from now on, no other process can switch the mode.
    match begin(open_store.context.store.as_ref(), mode, is_new).await {
        Ok(true) => {
            for fault in faults {
                tracing::warn!("{} can be used, but {fault}", config.database);
            }
            Ok(Some(open_store))
        }
        Ok(false) => open_store.close(Ok(None)).await,
        Err(error) => open_store.close(Err(bootstrap::unusable(&config.database, error))).await,
    }
}

/// Whether the store may be served in this mode now.
async fn begin(store: &dyn Store, mode: ServingMode, is_new: bool) -> Result<bool, StoreError> {
    match store.serving_mode().await? {
        Some(recorded) => return Ok(recorded == mode),
        // A server that checks passwords and could not record that, or an older one, may be running.
        None if mode == ServingMode::Open && !is_new => return Ok(false),
        None => {}
    }
    match store.record_serving_mode(mode).await {
        // Without a store that can be written no one can sign in, but the keys can be published.
        Err(error) if mode == ServingMode::Password => {
            tracing::warn!("cannot record that the store is served in {mode} mode: {}", error_chain(&error));
            Ok(true)
        }
        recorded => Ok(recorded? == Some(mode)),
    }
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
        "serving on http://{address}, issuer {}, {}",
        app.issuer.url(),
        config.database.described()
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
