//! `jwksd serve`: listen, open the store, answer until told to stop, close the store.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::{oneshot, watch};

use super::limits;
use super::opening::{self, Opened, Refused};
use super::supervisor::{Supervisor, Watchdog};
use crate::config::{Config, ConfigError};
use crate::http::{self, AdminToken, AuthMode, FastPath, HttpConfig, Metrics};
use crate::issuer::{Issuer, Retention, Swept};
use crate::rate_limit::{LocalRateLimiter, RateLimits};

#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServeArgs {
    /// Stop also when standard input ends
    #[arg(long)]
    until_stdin_closes: bool,
}

impl ServeArgs {
    /// Both of these, which stood in two places of one line.
    pub(super) fn or(self, other: Self) -> Self {
        Self { until_stdin_closes: self.until_stdin_closes || other.until_stdin_closes }
    }
}

pub(super) async fn run(config: Config, args: ServeArgs) -> anyhow::Result<()> {
    // Armed before anything else, so that a signal during the start is not lost.
    let stop = told_to_stop(args.until_stdin_closes)?;
    let listener = bind(&config).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    refuse_open_mode_to_the_world(&config, address.ip())?;

    let url = config
        .issuer
        .clone()
        .unwrap_or_else(|| format!("http://{}", authority(&config.host, address.port())));
    limits::fail_where_files_may_grow_no_more();
    // Opening may have to wait for another process.
    let opened = tokio::select! {
        opened = open(&config) => opened?,
        () = told(stop.clone()) => return Ok(()),
    };
    let served = answer(&opened, config, listener, url, stop).await;
    let served = opened.close(served).await;
    tracing::info!("stopped");
    served
}

async fn open(config: &Config) -> anyhow::Result<Opened> {
    let look = opening::look(config).await?;
    refuse_open_mode_with_accounts(config, look.has_accounts)?;
    if config.auth_mode == AuthMode::Open {
        tracing::warn!("OPEN MODE: /auth verifies nobody and gives a token for any name to anybody who asks");
    }
    opening::open(config, look).await
}

async fn answer(
    opened: &Opened,
    config: Config,
    listener: TcpListener,
    url: String,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let metrics = Metrics::new(Arc::clone(&opened.context.clock))?;
    let issuer = opened.issuer(&config, url.clone()).await?.at(metrics.observe(&opened.context.pool));
    issuer.keyring().tick().await.context("cannot bring the keys up to date")?;

    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(
        "serving on http://{address}, issuer {url}, database {}",
        config.location.path().display()
    );
    let retention = config.log_retention.map(|keep| Retention::new(opened.context.clone(), keep));
    let limits = RateLimits { sign_in: config.auth_rate_limit, registration: config.register_rate_limit };
    let limiter = Arc::new(LocalRateLimiter::new(limits));
    let fast_path = FastPath::new(issuer.clone(), http_config(config, url), metrics, limiter);
    let supervisor = Supervisor::find();
    supervisor.ready();
    let watchdog = Watchdog::of(supervisor.clone());
    let until = async move {
        told(stop).await;
        supervisor.stopping();
    };
    tokio::select! {
        () = http::serve(listener, fast_path, limits::connections(), until) => Ok(()),
        () = rotation_loop(&issuer, watchdog) => Ok(()),
        () = retention_loop(retention) => Ok(()),
    }
}

pub(super) async fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    let Config { host, port, .. } = config;
    listen(host, *port).await.map_err(|error| {
        let address = authority(host, *port);
        let error = match error.kind() {
            io::ErrorKind::AddrInUse => ConfigError::setting(
                "PORT",
                port,
                format!("another program listens on {address}; a free port would do"),
            ),
            io::ErrorKind::PermissionDenied => ConfigError::setting(
                "PORT",
                port,
                format!("this user may not listen on {address}; a port from 1024 on would do"),
            ),
            _ => ConfigError::setting("HOST", host, format!("cannot listen on {address}: {error}")),
        };
        error.into()
    })
}

/// How many may wait to be let in. Whoever comes to a full queue comes again a second later; tokio's own has room for 128.
const QUEUE: u32 = 1024;

/// Listens on the first address of this host that allows it.
async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in lookup_host((host, port)).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart need not wait for connections of the last run to be forgotten; on Windows it would let two
    // servers listen on one port.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Host and port as a URL has them.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

pub(super) fn refuse_open_mode_to_the_world(config: &Config, listening_on: IpAddr) -> anyhow::Result<()> {
    if config.auth_mode == AuthMode::Open
        && !listening_on.to_canonical().is_loopback()
        && !config.open_auth_anyway
    {
        return Err(Refused(format!(
            "AUTH_MODE=open gives a token to anybody who asks, and HOST is {:?}, which is not this machine alone: \
             HOST=127.0.0.1 would do, or OPEN_AUTH_ANYWAY=true if that is what you want",
            config.host
        ))
        .into());
    }
    Ok(())
}

pub(super) fn refuse_open_mode_with_accounts(config: &Config, has_accounts: bool) -> anyhow::Result<()> {
    if config.auth_mode == AuthMode::Open && has_accounts && !config.open_auth_anyway {
        return Err(Refused(format!(
            "AUTH_MODE=open gives a token for any name to anybody who asks, and {} has accounts: another \
             DATABASE_URL would do, or OPEN_AUTH_ANYWAY=true if that is what you want",
            config.location.path().display()
        ))
        .into());
    }
    Ok(())
}

fn http_config(config: Config, issuer_url: String) -> HttpConfig {
    HttpConfig {
        issuer_url,
        max_age: config.jwks_max_age,
        auth_mode: config.auth_mode,
        registration: config.registration,
        register_rate_limit: config.register_rate_limit,
        client_ip: config.client_ip,
        admin_token: config.admin_token.as_ref().map(|token| AdminToken::new(token.reveal())),
    }
}

/// How often the keyring looks whether something is due, or was done by another process.
const ROUND: Duration = Duration::from_millis(250);

async fn rotation_loop(issuer: &Issuer, mut watchdog: Watchdog) {
    let mut failing = false;
    loop {
        tokio::time::sleep(ROUND).await;
        // From here, so that a rotation that hangs is a sign of death.
        watchdog.alive();
        match issuer.keyring().tick().await {
            Ok(()) if failing => {
                tracing::info!("the key rotation works again");
                failing = false;
            }
            Err(error) if !failing => {
                let error = anyhow::Error::new(error);
                tracing::error!(
                    "the key rotation failed and is tried again, what is published stays: {error:#}"
                );
                failing = true;
            }
            _ => {}
        }
    }
}

/// How often `auth_logs` are looked through for what is too old, and how long sign-ins have the store to themselves
/// between two batches of it.
const SWEEP: Duration = Duration::from_secs(10);
const BREATH: Duration = Duration::from_millis(50);

async fn retention_loop(retention: Option<Retention>) {
    let Some(mut retention) = retention else {
        return std::future::pending().await;
    };
    let mut failing = false;
    loop {
        let swept = retention.sweep().await;
        match &swept {
            Err(error) if !failing => {
                tracing::error!("auth_logs could not be trimmed, which is tried again: {error:#}");
            }
            Ok(_) if failing => tracing::info!("auth_logs can be trimmed again"),
            _ => {}
        }
        failing = swept.is_err();
        tokio::time::sleep(if matches!(swept, Ok(Swept::Some)) { BREATH } else { SWEEP }).await;
    }
}

/// Says so when a signal does, or standard input ends where that was asked for.
fn told_to_stop(by_stdin: bool) -> anyhow::Result<watch::Receiver<bool>> {
    let signal = signals()?;
    let stdin_ended = by_stdin.then(end_of_stdin);
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        let stdin_ended = async {
            match stdin_ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signal => {}
            () = stdin_ended => {}
        }
        tracing::info!("stopping");
        // Nobody waits any more if the server has failed meanwhile.
        let _ = tell.send(true);
    });
    Ok(told)
}

async fn told(mut stop: watch::Receiver<bool>) {
    // It is never given up without a word.
    let _ = stop.wait_for(|told| *told).await;
}

#[cfg(unix)]
pub(super) fn signals() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
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

#[cfg(not(unix))]
pub(super) fn signals() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

/// A thread of its own, because a read of standard input cannot be called off.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        // An input that cannot be read has ended as well.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = ended.send(());
    });
    end
}
