//! The machine: files and who may read them, room on the disk, the port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Findings;
use crate::cli::backup::WORKSHOP;
use crate::cli::serve;
use crate::config::{Config, DOTENV};
use crate::store::directory_of;

/// With less room than this, a store cannot go on for long.
const LEAST_ROOM: u64 = 16 << 20;

/// With less room than this, somebody should know.
const LITTLE_ROOM: u64 = 256 << 20;

/// How long a server on our port may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn examine_files(config: &Config, findings: &mut Findings) {
    let store = config.database.path();
    let directory = directory_of(store);
    if !directory.is_dir() {
        return findings.error(
            "files",
            format!("there is no directory {}: make it, or change DATABASE_URL", directory.display()),
        );
    }
    if let Err(error) = tempfile::tempfile_in(directory) {
        findings.error(
            "files",
            format!(
                "nothing can be written to the directory {}, where the store keeps its \
                        journal: {error}; change its owner or its mode",
                directory.display()
            ),
        );
    }
    if store.is_file() && !is_writable(store) {
        findings
            .error("files", format!("{} cannot be written: change its owner or its mode", store.display()));
    }
    if let Some(names) = names_of(store).filter(|names| *names > 1) {
        findings.warning(
            "files",
            format!(
                "{} has {names} names, as after a restore that was killed: remove the other, which ends in \
                 .replaced-…",
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
    findings.ok_otherwise("files", "nobody else can read them, and the store can be written");
}

pub(super) fn examine_disk(config: &Config, findings: &mut Findings) {
    let store = config.database.path();
    let directory = directory_of(store);
    let Ok(room) = fs4::available_space(directory) else {
        return;
    };
    let size = store.metadata().map_or(0, |file| file.len());
    let (room_mib, place) = (room >> 20, directory.display());
    if room < LEAST_ROOM {
        findings.error(
            "disk",
            format!(
                "{room_mib} MiB are left in {place}: sign-ins will fail; make room, or set LOG_RETENTION"
            ),
        );
    } else if room < LITTLE_ROOM.max(size) {
        findings.warning(
            "disk",
            format!(
                "{room_mib} MiB are left in {place}, and a backup would not fit beside the \
                          store: make room, or set LOG_RETENTION"
            ),
        );
    } else {
        findings.ok("disk", format!("{room_mib} MiB are left in {place}"));
    }
}

pub(super) async fn examine_port(config: &Config, findings: &mut Findings) {
    let address = config.listen.authority();
    let error = match config.listen.bind().await {
        Ok(listener) => {
            if let Ok(address) = listener.local_addr()
                && let Err(error) = serve::refuse_open_mode_to_the_world(config, address.ip())
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
                findings.ok("port", format!("a jwksd of {issuer} serves on {address}, and is ready"));
            }
            Some((_, body)) => findings.warning(
                "port",
                format!(
                    "a jwksd of {issuer} serves on {address}, but is not ready: {}; see its log",
                    body.trim()
                ),
            ),
            None => findings
                .warning("port", format!("a jwksd of {issuer} on {address} does not answer: see its log")),
        },
        _ => findings.error("port", error.to_string()),
    }
}

fn names_issuer(body: &str, issuer: &str) -> bool {
    serde_json::from_str(body)
        .is_ok_and(|answer: serde_json::Value| answer.get("issuer").is_some_and(|named| named == issuer))
}

/// The status and the body of an answer from our own port; nothing if there is none that reads like HTTP.
async fn ask(config: &Config, path: &str) -> Option<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect((config.listen.host.as_str(), config.listen.port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", config.listen.host);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.take(1 << 16).read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, asking).await.ok().flatten()
}

/// Asked while this process has no connection to the store: closing any handle would drop SQLite's locks on it.
fn is_writable(file: &Path) -> bool {
    let is_read_only = file.metadata().is_ok_and(|file| file.permissions().readonly());
    !is_read_only && std::fs::OpenOptions::new().append(true).open(file).is_ok()
}

/// The files that hold secrets.
fn private_files(config: &Config) -> Vec<PathBuf> {
    let store = config.database.path().as_os_str();
    let beside = |suffix| {
        let mut name = store.to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut files = vec![PathBuf::from(DOTENV), beside(""), beside("-wal"), beside("-shm")];
    files.extend(config.secret_files.iter().cloned());
    files
}

/// Half-made copies: whoever makes one takes it away, unless killed.
fn left_copies(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let copies = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(WORKSHOP));
    copies.map(|entry| entry.path()).collect()
}

/// How many names a file has.
#[cfg(unix)]
fn names_of(file: &Path) -> Option<u64> {
    file.metadata().ok().map(|file| std::os::unix::fs::MetadataExt::nlink(&file))
}

/// Nobody asks elsewhere.
#[cfg(not(unix))]
fn names_of(_: &Path) -> Option<u64> {
    None
}

/// The permissions of a file, if somebody else than its owner has any.
#[cfg(unix)]
fn mode_open_to_others(file: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().ok().filter(std::fs::Metadata::is_file)?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Who may read a file is another matter elsewhere.
#[cfg(not(unix))]
fn mode_open_to_others(_: &Path) -> Option<u32> {
    None
}
