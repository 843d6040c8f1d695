//! Opens the store for a command, and builds what the command needs on top of it.
//!
//! The first command creates the store. The order of the steps matters: a wrong master key is found before anything is
//! written, and a new master key is on disk before anything is sealed under it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use thiserror::Error;

use super::exit::{NotFound, UsageError};
use super::master_key;
use crate::config::Config;
use crate::database::Database;
use jwksd_core::issuer::{
    self, Accounts, BlockingPool, Context, Keyring, MasterKey, MasterKeyError, SharedRng,
};
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::outage::error_chain;
use jwksd_core::store::{MasterKeyRecord, StoreError};
use jwksd_store_sqlite::{Contents, DatabaseFile, Probe};

/// Maximum time to close the store. SQLite writes the WAL back at the next start instead.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(900);

/// An open and unlocked store. Call [`OpenStore::close`] at the end.
pub(super) struct OpenStore {
    pub(super) context: Context,
    pub(super) master_key: MasterKey,
}

impl OpenStore {
    /// The accounts of the store.
    pub(super) fn accounts(&self, config: &Config) -> Accounts {
        Accounts::new(self.context.clone(), &config.passwords)
    }

    /// Opens the keys of the store.
    pub(super) async fn keyring(&self, config: &Config) -> anyhow::Result<Keyring> {
        Keyring::open(self.context.clone(), self.master_key.clone(), config.keys.policy, config.keys.spec)
            .await
            .context("cannot open the keys")
    }

    /// Closes the store, and returns the outcome of the work on it.
    pub(super) async fn close<T>(self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        // Not an error: committed rows are in the WAL, which the next start reads.
        if tokio::time::timeout(CLOSE_TIMEOUT, self.context.store.close()).await.is_err() {
            tracing::warn!("the store is still busy; its WAL is written back at the next start");
        }
        outcome
    }
}

/// Reads what is in the store's file, without changing it, and refuses a schema that is not ours.
pub(super) async fn probe(config: &Config) -> anyhow::Result<Probe> {
    let probe = config.database.probe().await.map_err(|error| unusable(&config.database, error))?;
    match probe.refusal() {
        Some(why) => Err(unusable(&config.database, StoreError::Corrupt(why))),
        None => Ok(probe),
    }
}

/// Opens the store, or creates it with its first keys if it does not exist.
pub(super) async fn open(config: &Config) -> anyhow::Result<OpenStore> {
    let probe = probe(config).await?;
    let is_new = !matches!(probe.contents, Contents::Ours(_));
    let open_store = open_probed(config, probe).await?;
    if !is_new {
        return Ok(open_store);
    }
    // Whichever command is the first creates the keys too: opening the keyring of an empty store does.
    match open_store.keyring(config).await {
        Ok(_) => Ok(open_store),
        Err(error) => open_store.close(Err(error)).await,
    }
}

/// Opens the store if there is one. For commands that only read, or that need an account.
pub(super) async fn open_existing(config: &Config) -> anyhow::Result<OpenStore> {
    let probe = probe(config).await?;
    if probe.contents == Contents::Nothing {
        return Err(NotFound(format!("there is no store in {}", config.database)).into());
    }
    open_probed(config, probe).await
}

/// Opens the store whose file was probed, or creates it, and unlocks it.
pub(super) async fn open_probed(config: &Config, probe: Probe) -> anyhow::Result<OpenStore> {
    let (database, contents) = (&config.database, probe.contents);
    let rng = SharedRng::new(
        StdRng::try_from_rng(&mut SysRng).context("the operating system provides no random numbers")?,
    );
    // Before the store is opened, which migrates the schema: a wrong master key must change nothing.
    let secret = master_key::for_store(config, &contents, &rng)?;
    let unlocked = match contents {
        Contents::Ours(record) => Some(unlock_with(&secret, config, &database, record)?),
        Contents::Foreign | Contents::Nothing => None,
    };
    let store = database.open().await.map_err(|error| unusable(database, error))?;
    let clock = database.clock();
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let pool =
        BlockingPool::new(cores, Arc::clone(&clock)).context("the operating system provides no threads")?;
    let context = Context { store, clock, rng, pool };
    // Before anything is planned: many machines must agree on the time.
    context.observe_store().await.map_err(|error| unusable(database, error))?;
    let master_key = match unlocked {
        Some(master_key) => master_key,
        None => issuer::initialize(&secret, &context)
            .await
            .map_err(|error| cannot_unlock(&database, &secret, error))?,
    };
    Ok(OpenStore { context, master_key })
}

/// Checks the master key against the record of a store, without opening the store.
pub(super) fn unlock(
    config: &Config,
    name: &dyn Display,
    record: MasterKeyRecord,
) -> anyhow::Result<MasterKey> {
    let Some(secret) = master_key::configured(config)? else {
        return Err(master_key::missing(name).into());
    };
    unlock_with(&secret, config, name, record)
}

fn unlock_with(
    secret: &MasterSecret,
    config: &Config,
    name: &dyn Display,
    record: MasterKeyRecord,
) -> anyhow::Result<MasterKey> {
    match issuer::unlock(secret, record.clone()) {
        Err(MasterKeyError::WrongMasterKey) => unlock_with_new(config, record)
            .ok_or_else(|| cannot_unlock(name, secret, MasterKeyError::WrongMasterKey)),
        unlocked => unlocked.map_err(|error| cannot_unlock(name, secret, error)),
    }
}

/// A rekey may have moved the store already.
fn unlock_with_new(config: &Config, record: MasterKeyRecord) -> Option<MasterKey> {
    let master_key = issuer::unlock(config.keys.new_master_key.as_ref()?, record).ok()?;
    tracing::warn!(
        "the store is sealed under NEW_NOT_MY_KEY, and not under NOT_MY_KEY: make the new one NOT_MY_KEY"
    );
    Some(master_key)
}

/// The error of a store that cannot be opened.
pub(super) fn unusable(database: &Database, error: StoreError) -> anyhow::Error {
    match (database, error) {
        (Database::File(file), error) => unusable_file(file, error),
        (Database::Server(_), StoreError::Corrupt(what) | StoreError::Foreign(what)) => {
            UsageError(format!("DATABASE_URL names {database}, but {what}")).into()
        }
        (Database::Server(_), error) => {
            Unreachable(format!("cannot reach {database}: {}", error_chain(&error))).into()
        }
    }
}

/// The server of the store does not answer now.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Unreachable(String);

fn unusable_file(database: &DatabaseFile, error: StoreError) -> anyhow::Error {
    let name = database.path().display();
    match error {
        // Status 2, because trying again cannot help.
        StoreError::Corrupt(what) | StoreError::Foreign(what) => {
            UsageError(format!("DATABASE_URL names {name}, but {what}")).into()
        }
        // Status 1, so that scripts can tell a busy store from one that the operator must repair.
        error if error.is_transient() => anyhow::anyhow!("cannot open {name} now, try again: {error:#}"),
        StoreError::Unavailable(cause) => {
            // SQLite's own message does not say that the directory is missing.
            let directory = database.path().parent().filter(|parent| !parent.as_os_str().is_empty());
            let hint = match directory {
                Some(directory) if !directory.exists() => {
                    format!("; there is no directory {}", directory.display())
                }
                _ => String::new(),
            };
            UsageError(format!("DATABASE_URL names {name}, which cannot be opened: {cause}{hint}")).into()
        }
        other => anyhow::Error::new(other).context(format!("cannot open {name}")),
    }
}

fn cannot_unlock(name: &dyn Display, secret: &MasterSecret, error: MasterKeyError) -> anyhow::Error {
    match error {
        MasterKeyError::WrongMasterKey if secret.wraps_key() => {
            UsageError(format!("{name}: {error}; it {}", master_key::WRAPPED)).into()
        }
        MasterKeyError::WrongMasterKey => UsageError(format!("{name}: {error}")).into(),
        other => anyhow::Error::new(other).context(format!("cannot unlock {name}")),
    }
}
