//! Where the master key of a store comes from: the settings, or a new `.env` at the first start.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::exit::UsageError;
use crate::config::{self, Config, DOTENV};
use jwksd_core::issuer::SharedRng;
use jwksd_core::issuer::config::MASTER_KEY;
use jwksd_core::key::seal::MasterSecret;
use jwksd_store_sqlite::Contents;
use jwksd_store_sqlite::directory::{persist_new, sync_directory_of};

/// The master key from the settings, or a new one if it is clear where to keep it.
pub(super) fn for_store(
    config: &Config,
    contents: &Contents,
    rng: &SharedRng,
) -> anyhow::Result<MasterSecret> {
    // Checked before .env is read: a .env that appears in between is that of another first start, and has a key.
    let has_dotenv = has_dotenv();
    if let Some(secret) = configured(config)? {
        if !matches!(contents, Contents::Ours(_)) {
            refuse_wrapped(MASTER_KEY.name, &secret)?;
        }
        return Ok(secret);
    }
    // A new master key could not open the keys that this store already has.
    if matches!(contents, Contents::Ours(_)) {
        return Err(missing(&config.database).into());
    }
    // Generated even if it is not kept: the error then contains a line that is ready to paste.
    let key = rng.with(MasterSecret::generate);
    let line = format!("NOT_MY_KEY={}", key.as_str());
    match why_none_is_generated(config, contents, has_dotenv) {
        Some(reason) => Err(UsageError(format!(
            "NOT_MY_KEY is not set, and {reason}: add this line to {DOTENV}, or set it in the environment: {line}"
        ))
        .into()),
        None => keep_in_dotenv(&line, &key),
    }
}

/// The master key from the settings. Another first start may have written it to `.env` since they were read.
pub(super) fn configured(config: &Config) -> anyhow::Result<Option<MasterSecret>> {
    match &config.keys.master_key {
        Some(secret) => Ok(Some(secret.clone())),
        None => Ok(config::dotenv_master_key()?),
    }
}

/// What is wrong with a passphrase that contains an encoded key.
pub(super) const WRAPPED: &str = "has other characters, such as quotes, around or between 32 encoded bytes, and is a \
                                  passphrase with them: remove them";

/// Refuses to seal a store under a passphrase where a key was meant: without the quotes it would not open.
pub(super) fn refuse_wrapped(name: &str, secret: &MasterSecret) -> Result<(), UsageError> {
    if secret.wraps_key() { Err(UsageError(format!("{name} {WRAPPED}"))) } else { Ok(()) }
}

/// Why the first start would have no master key; `None` if it has one or generates one.
///
/// # Errors
/// When the master key is unusable for a new store.
pub(super) fn why_none(config: &Config, contents: &Contents) -> anyhow::Result<Option<String>> {
    let has_dotenv = has_dotenv();
    let Some(secret) = configured(config)? else {
        return Ok(why_none_is_generated(config, contents, has_dotenv));
    };
    refuse_wrapped(MASTER_KEY.name, &secret)?;
    Ok(None)
}

/// The error of a store that has keys, when there is no master key.
pub(super) fn missing(name: &dyn Display) -> UsageError {
    UsageError(format!(
        "NOT_MY_KEY is not set, and the keys in {name} were sealed with one: add the line NOT_MY_KEY=… with that key to {DOTENV}"
    ))
}

/// A new master key is generated only if the store and its `.env` will be in one place.
fn why_none_is_generated(config: &Config, contents: &Contents, has_dotenv: bool) -> Option<String> {
    let name = &config.database;
    let Some(file) = name.file() else {
        return Some(format!("all processes on {name} need the same one"));
    };
    if *contents != Contents::Nothing {
        Some(format!("{name} has keys of another program"))
    } else if has_dotenv {
        Some(format!("there is a {DOTENV} without it"))
    } else if !is_in_working_directory(file.path()) {
        Some(format!("{name} is not in the working directory"))
    } else {
        None
    }
}

/// True for a broken symbolic link, too: a new file must not appear at its target.
fn has_dotenv() -> bool {
    Path::new(DOTENV).symlink_metadata().is_ok()
}

/// Writes the `.env` of a first start, or takes the key of a concurrent one that was faster.
fn keep_in_dotenv(line: &str, key: &str) -> anyhow::Result<MasterSecret> {
    match write_dotenv(line) {
        Ok(()) => {
            tracing::info!(
                "wrote a new master key to {DOTENV}; keep that file, the private keys are lost without it"
            );
            Ok(MasterSecret::parse(key)?)
        }
        // Two first starts may race. Both seal in one store, so the slower one takes the key of the faster one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match config::dotenv_master_key()? {
            Some(secret) => Ok(secret),
            None => {
                Err(UsageError(format!("a {DOTENV} without NOT_MY_KEY has just appeared: start again"))
                    .into())
            }
        },
        Err(error) => Err(UsageError(format!("cannot write {DOTENV} with a new master key: {error}")).into()),
    }
}

/// Creates a `.env`, complete, synced and readable only by its owner, or fails without one.
fn write_dotenv(line: &str) -> io::Result<()> {
    // On Unix, temporary files have mode 0600 from the start.
    let mut file = tempfile::Builder::new().prefix(".env.").tempfile_in(".")?;
    writeln!(
        file,
        "# The master key of jwksd: without it, the private keys in the database are lost.\n{line}"
    )?;
    // Synced before anything is sealed: after a power cut, the store must not depend on a lost key.
    file.as_file().sync_all()?;
    // Never replaces a file, which may contain the only copy of another key.
    persist_new(file, Path::new(DOTENV))?;
    // Syncing the file does not sync its name, which is an entry of the directory.
    sync_directory_of(Path::new(DOTENV))
}

fn is_in_working_directory(database: &Path) -> bool {
    let directory = match database.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Resolved, because a symbolic link can lead to the same directory under another name.
    match (fs::canonicalize(directory), fs::canonicalize(".")) {
        (Ok(directory), Ok(working)) => directory == working,
        _ => false,
    }
}
