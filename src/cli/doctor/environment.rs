//! Checks the machine: files and their modes, free space on the disk, the port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::findings::Findings;
use crate::cli::open_mode;
use crate::cli::store_copy::DIRECTORY_PREFIX;
use crate::config::{self, Config, DOTENV};
use crate::database::Database;
use crate::file_access::{self, Strictness};
use jwksd_store_sqlite::DatabaseFile;
use jwksd_store_sqlite::directory::directory_of;

/// Free space in bytes, below which sign-ins will soon fail.
const ERROR_SPACE: u64 = 16 << 20;

/// Free space in bytes, below which the operator should know.
const WARNING_SPACE: u64 = 256 << 20;

/// Timeout of a request to the server that has our port.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn examine_files(config: &Config, findings: &mut Findings) {
    if let Some(file) = config.database.file() {
        examine_store_file(file.path(), findings);
    }
    for file in private_files(config) {
        if let Some(mode) = mode_open_to_others(&file) {
            findings.warning(
                "files",
                format!(
                    "{} can be read by others (mode {mode:03o}): chmod 600 {}",
                    file.display(),
                    file.display()
                ),
            );
        }
    }
    examine_access(config, findings);
    let text = match config.database {
        Database::File(_) => {
            "only their owner can read them, no other user can change them, and the store is writable"
        }
        Database::Server(_) => "only their owner can read them, and no other user can change them",
    };
    findings.ok_otherwise("files", text);
}

fn examine_store_file(store: &Path, findings: &mut Findings) {
    let directory = directory_of(store);
    if !directory.is_dir() {
        return findings.error(
            "files",
            format!("there is no directory {}: create it, or change DATABASE_URL", directory.display()),
        );
    }
    // Tried, because the mode shows neither ACLs nor a read-only mount.
    if let Err(error) = tempfile::tempfile_in(directory) {
        findings.error(
            "files",
            format!(
                "the directory {}, where the store keeps its journal, is not writable ({error}): change its owner or its \
                 mode",
                directory.display()
            ),
        );
    }
    if store.is_file() && !is_writable(store) {
        findings.error("files", format!("{} is not writable: change its owner or its mode", store.display()));
    }
    if let Some(names) = names_of(store).filter(|names| *names > 1) {
        findings.warning(
            "files",
            format!(
                "{} has {names} names, as after a restore that was killed: remove the one that ends in .replaced-…",
                store.display()
            ),
        );
    }
    for left in left_copies(directory) {
        findings.warning(
            "files",
            format!("{} was left by a backup or restore that was killed: remove it", left.display()),
        );
    }
}

/// Reports which other users can change or replace a file. Without a mode that lets them, its owner can.
fn examine_access(config: &Config, findings: &mut Findings) {
    let refused = config::check_dotenv_access(config.dotenv_file.as_ref(), config.keys.master_key.is_none());
    let refused = refused.err();
    if let Some(risk) = &refused {
        findings.error("files", risk.to_string());
    }
    let directory = config.database.file().map(|file| directory_of(file.path()));
    let risks =
        |directory| file_access::directory_risks(directory, Strictness::NoCreating).unwrap_or_default();
    let mut found = directory.map(risks).unwrap_or_default();
    let private = private_files(config).into_iter().map(|file| (file, Strictness::NoReplacing));
    for (file, strictness) in
        store_files(config).into_iter().map(|file| (file, Strictness::NoCreating)).chain(private)
    {
        // Files that do not exist yet have no risks of their own.
        found.extend(file_access::risks(&file, strictness, None).unwrap_or_default());
    }
    let mut reported: Vec<_> = refused.into_iter().collect();
    for risk in found {
        if !reported.contains(&risk) {
            findings.warning("files", risk.to_string());
            reported.push(risk);
        }
    }
}

pub(super) fn examine_disk(config: &Config, findings: &mut Findings) {
    let Some(store) = config.database.file().map(DatabaseFile::path) else {
        return;
    };
    let directory = directory_of(store);
    // Some file systems do not tell, which is not a fault of the operator.
    let Ok(free) = fs4::available_space(directory) else {
        return;
    };
    let size = store.metadata().map_or(0, |file| file.len());
    let (free_mib, directory) = (free >> 20, directory.display());
    if free < ERROR_SPACE {
        findings.error(
            "disk",
            format!(
                "{free_mib} MiB are free in {directory}, so sign-ins will soon fail: free space, or set LOG_RETENTION"
            ),
        );
    } else if free < WARNING_SPACE.max(size) {
        findings.warning(
            "disk",
            format!(
                "{free_mib} MiB are free in {directory}, and a backup next to the store needs more: free space, or set \
                 LOG_RETENTION"
            ),
        );
    } else {
        findings.ok("disk", format!("{free_mib} MiB are free in {directory}"));
    }
}

pub(super) async fn examine_port(config: &Config, findings: &mut Findings) {
    let address = config.listen.authority();
    // Binding also tests the right to use the port, which a list of open ports would not show.
    let error = match config.listen.bind().await {
        Ok(listener) => {
            if let Ok(address) = listener.local_addr()
                && let Err(error) = open_mode::refuse_public_address(config, address.ip())
            {
                findings.error("settings", error.to_string());
            }
            return findings.ok("port", format!("{address} is free"));
        }
        Err(error) => error,
    };
    let issuer = config.listen.issuer_url(config.listen.port);
    match ask(config, "/.well-known/openid-configuration").await {
        Some((200, body)) if names_issuer(&body, &issuer) => match ask(config, "/readyz").await {
            Some((200, _)) => {
                findings.ok("port", format!("the jwksd of {issuer} serves on {address}, and is ready"));
            }
            Some((_, body)) => findings.warning(
                "port",
                format!(
                    "the jwksd of {issuer} serves on {address}, but is not ready ({}): see its log",
                    body.trim()
                ),
            ),
            None => findings
                .warning("port", format!("the jwksd of {issuer} on {address} does not answer: see its log")),
        },
        _ => findings.error("port", error.to_string()),
    }
}

fn names_issuer(body: &str, issuer: &str) -> bool {
    serde_json::from_str(body).is_ok_and(|discovery: serde_json::Value| {
        discovery.get("issuer").is_some_and(|named| named == issuer)
    })
}

/// Status and body of a response from our own port; `None` without a response in HTTP.
async fn ask(config: &Config, path: &str) -> Option<(u16, String)> {
    let response = async {
        let mut stream = TcpStream::connect((config.listen.host.as_str(), config.listen.port)).await.ok()?;
        let authority = config.listen.authority();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut response = String::new();
        // Bounded, because another program may have our port and never stop sending.
        stream.take(1 << 16).read_to_string(&mut response).await.ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    tokio::time::timeout(TIMEOUT, response).await.ok().flatten()
}

/// Call it only while this process has no connection to the store: closing any handle drops SQLite's locks on the file.
fn is_writable(file: &Path) -> bool {
    let is_read_only = file.metadata().is_ok_and(|file| file.permissions().readonly());
    !is_read_only && std::fs::OpenOptions::new().append(true).open(file).is_ok()
}

/// The files that only their owner should be able to read.
fn private_files(config: &Config) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(DOTENV)];
    files.extend(store_files(config));
    files.extend(config.secret_files.iter().cloned());
    files
}

/// The WAL contains rows that are not in the database yet, so it is as private.
fn store_files(config: &Config) -> Vec<PathBuf> {
    let Some(file) = config.database.file() else {
        return Vec::new();
    };
    let with_suffix = |suffix| {
        let mut name = file.path().as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    ["", "-wal", "-shm"].map(with_suffix).into()
}

/// Copies of commands that were killed.
fn left_copies(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let copies = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX));
    copies.map(|entry| entry.path()).collect()
}

/// The number of hard links to a file. A directory has several in any case.
#[cfg(unix)]
fn names_of(file: &Path) -> Option<u64> {
    file.metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|file| std::os::unix::fs::MetadataExt::nlink(&file))
}

#[cfg(not(unix))]
fn names_of(_: &Path) -> Option<u64> {
    None
}

/// The mode of a file, if others than its owner have permissions.
#[cfg(unix)]
fn mode_open_to_others(file: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().ok().filter(std::fs::Metadata::is_file)?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_open_to_others(_: &Path) -> Option<u32> {
    None
}
