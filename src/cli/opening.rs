//! From the settings to an issuer on an open store: what every command begins with.
//!
//! Whichever command comes first makes the store. The order matters: the master key is on disk before anything is
//! sealed under it, and a wrong one is found before anything is written.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use thiserror::Error;

use crate::config::{self, Config, DOTENV};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::key::seal::MasterSecret;
use crate::domain::password::{Argon2Backend, CredentialCache, Hasher};
use crate::domain::token::TokenPolicy;
use crate::issuer::{
    self, BackendChoice, BlockingPool, Context, Issuer, Keyring, MasterKey, MasterKeyError, SharedRng,
};
use crate::store::{
    Contents, DatabaseFile, MasterKeyRecord, Probe, SqliteStore, StoreError, sync_directory_of,
};

/// How long closing the store may take.
const CLOSING: Duration = Duration::from_millis(900);

/// The start was refused; the text says why and what would do.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// What a command works on is not there.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Missing(String);

/// A store that is open and unlocked. It is to be closed at the end.
pub(super) struct Opened {
    pub(super) context: Context,
    pub(super) master_key: MasterKey,
}

impl Opened {
    /// Puts an issuer over the store, whose tokens say `iss`.
    pub(super) async fn issuer(&self, config: &Config, iss: String) -> anyhow::Result<Issuer> {
        let keyring = self.keyring(config).await?;
        let tokens = TokenPolicy {
            issuer: iss,
            audience: config.tokens.audience.clone(),
            ttl: config.keys.policy.token_ttl(),
        };
        let known =
            self.context.rng.with(|rng| CredentialCache::new(config.passwords.credential_cache_ttl, rng));
        Ok(Issuer::new(self.context.clone(), self.hasher(config), known, tokens, keyring))
    }

    /// What hashes passwords, on the engine that is allowed and has proved itself.
    fn hasher(&self, config: &Config) -> Hasher {
        let engine = match config.passwords.backend {
            BackendChoice::Auto => self.context.rng.with(Argon2Backend::select_verified),
            BackendChoice::Reference => Argon2Backend::Reference,
        };
        if (config.passwords.backend, engine) == (BackendChoice::Auto, Argon2Backend::Reference) {
            tracing::warn!(
                "the faster Argon2 gives other answers than the reference on this machine, which is used"
            );
        }
        config.passwords.hasher.clone().with_backend(engine)
    }

    /// Opens the keys of the store.
    pub(super) async fn keyring(&self, config: &Config) -> anyhow::Result<Keyring> {
        Keyring::open(self.context.clone(), self.master_key.clone(), config.keys.policy)
            .await
            .context("cannot open the keys")
    }

    /// Closes the store, whatever came of the work on it.
    pub(super) async fn close<T>(self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        if tokio::time::timeout(CLOSING, self.context.store.close()).await.is_err() {
            tracing::warn!("the store is still at work; its WAL is written back at the next start");
        }
        outcome
    }
}

/// Looks into the store, without a change to it.
pub(super) async fn look(config: &Config) -> anyhow::Result<Probe> {
    config.database.probe().await.map_err(|error| unusable(&config.database, error))
}

/// Opens the store that is there: where there is none, a command that only reads or needs an account founds none.
pub(super) async fn open_existing(config: &Config) -> anyhow::Result<Opened> {
    let look = look(config).await?;
    if look.contents == Contents::Nothing {
        return Err(Missing(format!("there is no store in {}", config.database.path().display())).into());
    }
    open(config, look).await
}

/// Opens the store that was looked into, or makes it, and unlocks it.
pub(super) async fn open(config: &Config, look: Probe) -> anyhow::Result<Opened> {
    let (location, found) = (&config.database, look.contents);
    let rng = SharedRng::new(StdRng::try_from_rng(&mut SysRng).context("the system gives no randomness")?);
    let secret = master_secret(config, &found, &rng)?;
    let unlocked = match found {
        Contents::Ours(record) => {
            Some(issuer::unlock(&secret, record).map_err(|error| locked(location, error))?)
        }
        Contents::Foreign | Contents::Nothing => None,
    };
    let store = SqliteStore::open(location).await.map_err(|error| unusable(location, error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let pool = BlockingPool::new(cores, Arc::clone(&clock)).context("the system gives no threads")?;
    let context = Context { store: Arc::new(store), clock, rng, pool };
    let master_key = match unlocked {
        Some(master_key) => master_key,
        None => issuer::initialize(&secret, &context).await.map_err(|error| locked(location, error))?,
    };
    Ok(Opened { context, master_key })
}

/// Unlocks a store that has this record, without opening it.
pub(super) fn unlock(
    config: &Config,
    location: &DatabaseFile,
    record: MasterKeyRecord,
) -> anyhow::Result<MasterKey> {
    let Some(secret) = present_master_secret(config)? else {
        return refuse(sealed_with_one(location));
    };
    issuer::unlock(&secret, record).map_err(|error| locked(location, error))
}

fn sealed_with_one(location: &DatabaseFile) -> String {
    format!(
        "NOT_MY_KEY is not set, and the keys in {} were sealed with one: add the line NOT_MY_KEY=… with that key \
         to {DOTENV}",
        location.path().display()
    )
}

/// The master key that is set. Another first start may have written one since the settings were read.
fn present_master_secret(config: &Config) -> anyhow::Result<Option<MasterSecret>> {
    match &config.keys.master_key {
        Some(secret) => Ok(Some(secret.clone())),
        None => Ok(config::dotenv_master_key()?),
    }
}

/// The master key that is set, or where that is safe a new one.
fn master_secret(config: &Config, found: &Contents, rng: &SharedRng) -> anyhow::Result<MasterSecret> {
    // Looked for before it is read: one that appears in between is another first start's, and is not without a key.
    let has_dotenv = has_dotenv();
    if let Some(secret) = present_master_secret(config)? {
        return Ok(secret);
    }
    if matches!(found, Contents::Ours(_)) {
        return refuse(sealed_with_one(&config.database));
    }
    let key = rng.with(MasterSecret::generate);
    let line = format!("NOT_MY_KEY={}", key.as_str());
    match why_not_founded(config, found, has_dotenv) {
        Some(why) => refuse(format!(
            "NOT_MY_KEY is not set, and {why}: add this line to {DOTENV}, or set it in the environment: {line}"
        )),
        None => found_dotenv(&line, &key),
    }
}

/// Why a start would neither have a master key nor make one; nothing if it would.
pub(super) fn why_no_key(config: &Config, found: &Contents) -> anyhow::Result<Option<String>> {
    let has_dotenv = has_dotenv();
    let is_set = present_master_secret(config)?.is_some();
    Ok(if is_set { None } else { why_not_founded(config, found, has_dotenv) })
}

/// Why no new master key is made: it would not be clear where it belongs.
fn why_not_founded(config: &Config, found: &Contents, has_dotenv: bool) -> Option<String> {
    let database = config.database.path().display();
    if *found != Contents::Nothing {
        Some(format!("{database} has keys of another program"))
    } else if has_dotenv {
        Some(format!("there is a {DOTENV} without it"))
    } else if !is_in_working_directory(config.database.path()) {
        Some(format!("{database} is not in the working directory"))
    } else {
        None
    }
}

fn has_dotenv() -> bool {
    Path::new(DOTENV).symlink_metadata().is_ok()
}

/// Writes the `.env` of a first start, or takes the key of another one that was faster.
fn found_dotenv(line: &str, key: &str) -> anyhow::Result<MasterSecret> {
    match write_dotenv(line) {
        Ok(()) => {
            tracing::info!(
                "wrote a new master key to {DOTENV}; keep that file, the private keys are lost without it"
            );
            Ok(MasterSecret::parse(key)?)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match config::dotenv_master_key()? {
            Some(secret) => Ok(secret),
            None => refuse(format!("{DOTENV} appeared without NOT_MY_KEY: start again")),
        },
        Err(error) => refuse(format!("cannot write {DOTENV} with a new master key: {error}")),
    }
}

fn refuse<T>(why: String) -> anyhow::Result<T> {
    Err(Refused(why).into())
}

/// Writes a new `.env`, which appears whole, on disk and readable by its owner alone, or not at all.
fn write_dotenv(line: &str) -> io::Result<()> {
    // On Unix, temporary files have mode 0600 from the start.
    let mut file = tempfile::Builder::new().prefix(".env.").tempfile_in(".")?;
    writeln!(
        file,
        "# The master key of jwksd: without it, the private keys in the database are lost.\n{line}"
    )?;
    file.as_file().sync_all()?;
    file.persist_noclobber(DOTENV).map_err(|error| error.error)?;
    sync_directory_of(Path::new(DOTENV))
}

fn is_in_working_directory(database: &Path) -> bool {
    let directory = match database.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match (fs::canonicalize(directory), fs::canonicalize(".")) {
        (Ok(directory), Ok(working)) => directory == working,
        _ => false,
    }
}

pub(super) fn unusable(location: &DatabaseFile, error: StoreError) -> anyhow::Error {
    let database = location.path().display();
    match error {
        StoreError::Corrupt(what) => Refused(format!("DATABASE_URL names {database}, but {what}")).into(),
        error if error.is_transient() => anyhow::anyhow!("cannot open {database} just now: {error:#}"),
        StoreError::Unavailable(cause) => {
            let directory = location.path().parent().filter(|parent| !parent.as_os_str().is_empty());
            let hint = match directory {
                Some(directory) if !directory.exists() => {
                    format!("; there is no directory {}", directory.display())
                }
                _ => String::new(),
            };
            Refused(format!("DATABASE_URL names {database}, which cannot be opened: {cause}{hint}")).into()
        }
        other => anyhow::Error::new(other).context(format!("cannot open {database}")),
    }
}

fn locked(location: &DatabaseFile, error: MasterKeyError) -> anyhow::Error {
    match error {
        MasterKeyError::WrongMasterKey => Refused(format!("{}: {error}", location.path().display())).into(),
        other => anyhow::Error::new(other).context(format!("cannot unlock {}", location.path().display())),
    }
}
