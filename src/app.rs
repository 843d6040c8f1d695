//! The wired server: what `jwksd serve` runs, and what `tests/api` tests.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::shared_limit;
use jwksd_core::issuer::{Accounts, Context, Issuer, IssuerError, Keyring, MasterKey, Retention, Swept};
use jwksd_core::outage::{Outage, error_chain};
use jwksd_core::token::TokenPolicy;
use jwksd_http::{AuthMode, FastPath, Metrics, MetricsError, Services};

/// Time between two rotation ticks. A change by another process is served within two seconds.
const TICK: Duration = Duration::from_millis(250);

/// Time between two looks for rows of `auth_logs` that are too old.
const RETENTION_IDLE: Duration = Duration::from_secs(10);

/// Time between two batches of deleted rows, in which sign-ins can write.
const RETENTION_PAUSE: Duration = Duration::from_millis(50);

/// A server on an open store.
pub struct App {
    /// The accounts of the store.
    pub accounts: Accounts,
    /// The keys of the store.
    pub keyring: Arc<Keyring>,
    /// What issues tokens.
    pub issuer: Issuer,
    /// What answers requests.
    pub fast_path: FastPath,
    retention: Option<Retention>,
}

impl App {
    /// Wires a server for these settings. `port` is the one that it listens on, for the default of `ISSUER`.
    ///
    /// # Errors
    /// [`AppError`] when the keys cannot be opened or brought up to date.
    pub async fn build(
        config: &Config,
        mut context: Context,
        master_key: MasterKey,
        port: u16,
    ) -> Result<Self, AppError> {
        let metrics = Metrics::new(Arc::clone(&context.clock))?;
        // Before the context is cloned, so that the pool is measured for every part of the server.
        context.pool = metrics.observe(&context.pool);

        let keyring =
            Keyring::open(context.clone(), master_key, config.keys.policy, config.keys.spec).await?;
        let keyring = keyring.with_successor(config.keys.new_master_key.clone());
        // A failure of the first tick stops the start. Later ones are logged and retried.
        keyring.tick().await?;
        // Not a reason to stop: other processes only learn later what differs.
        if let Err(error) = keyring.record_policy().await {
            tracing::warn!("the rotation policy could not be recorded: {}", error_chain(&error));
        }
        if config.http.auth_mode == AuthMode::Password {
            // Before anything is served: tokens that anyone could get must not verify here.
            keyring.revoke_open_mode_keys().await?;
        }
        let (accounts, keyring) = (Accounts::new(context.clone(), &config.passwords), Arc::new(keyring));
        let tokens = TokenPolicy {
            // The port comes from the listener, because with PORT=0 the system chooses it.
            issuer: config.listen.issuer_url(port),
            audiences: config.tokens.audiences.clone(),
            typ: config.tokens.typ,
            ttl: config.keys.policy.token_ttl(),
        };
        let issuer = Issuer::new(context.clone(), accounts.clone(), Arc::clone(&keyring), tokens)
            .allowing_accounts(config.open_auth_anyway);

        let limiter = shared_limit::limiter(config.limit_server.as_ref(), config.limits).await;
        let services =
            Services { accounts: accounts.clone(), keyring: Arc::clone(&keyring), issuer: issuer.clone() };
        let fast_path =
            FastPath::new(services, config.http.clone(), metrics, limiter, config.limits.registration);
        let retention = config.log_retention.map(|keep| Retention::new(context, keep));
        Ok(Self { accounts, keyring, issuer, fast_path, retention })
    }

    /// Answers requests and rotates keys until `shutdown` is done. Then it finishes the requests in flight.
    ///
    /// `on_tick` is called before each tick of the rotation, as a sign of life.
    pub async fn serve(
        self,
        listener: TcpListener,
        max_connections: usize,
        shutdown: impl Future<Output = ()> + Send + 'static,
        on_tick: impl FnMut(),
    ) {
        self.keyring.log_other_kind();
        // Tasks of their own: with many keys a tick computes for a while, and no connection waits for that. The rotation
        // stays in the caller's task, because a worker that computes may be the one that waits for the sockets of all.
        let mut tasks = JoinSet::new();
        tasks.spawn(jwksd_http::serve(listener, self.fast_path, max_connections, shutdown));
        tasks.spawn(retention_loop(self.retention));
        tokio::select! {
            // Only the server ends by itself. What else ends has panicked, and the others must not go on without it.
            ended = tasks.join_next() => if let Some(Err(error)) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            },
            () = rotation_loop(&self.keyring, on_tick) => {}
        }
        // Before the store is closed.
        tasks.shutdown().await;
    }
}

/// Never returns. What is published stays when a tick fails.
async fn rotation_loop(keyring: &Keyring, mut on_tick: impl FnMut()) {
    let outage = Outage::default();
    loop {
        // Sleeps first, because `App::build` has just run a tick.
        tokio::time::sleep(TICK).await;
        // Before the tick: one that hangs stops the signs of life, one that fails does not.
        on_tick();
        match keyring.tick().await {
            Ok(()) => outage.recovered(|| "the key rotation works again"),
            Err(error) => outage.failed(|| {
                let causes = error_chain(&error);
                format!("the key rotation failed and is retried; the published keys stay the same: {causes}")
            }),
        }
    }
}

/// Deletes batch by batch, and never returns.
async fn retention_loop(retention: Option<Retention>) {
    let Some(mut retention) = retention else {
        // Returning would end `App::serve`, and the server with it.
        return std::future::pending().await;
    };
    let outage = Outage::default();
    loop {
        let swept = retention.sweep().await;
        match &swept {
            Ok(_) => outage.recovered(|| "old sign-ins can be deleted from auth_logs again"),
            Err(error) => outage.failed(|| {
                format!("old sign-ins could not be deleted from auth_logs, retrying: {}", error_chain(error))
            }),
        }
        // After an error the long pause, so that a store with problems does not get twenty more queries a second.
        let pause = if matches!(swept, Ok(Swept::Some)) { RETENTION_PAUSE } else { RETENTION_IDLE };
        tokio::time::sleep(pause).await;
    }
}

/// Why a server could not be wired.
#[derive(Debug, Error)]
pub enum AppError {
    /// The keys cannot be opened or brought up to date.
    #[error("cannot open the keys")]
    Keys(#[from] IssuerError),
    /// Two metrics have the same name.
    #[error("cannot set up the metrics")]
    Metrics(#[from] MetricsError),
}
