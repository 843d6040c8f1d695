//! System faults: the JWKS is served, other requests get a 503, and service resumes when the fault is over.

use std::fs::Permissions;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, Row as _};

use tempfile::TempDir;

use crate::support::{BINARY, Server};
use crate::{DB, KEY, db, dir, done, get, post, sign_in, skipped};

const WITHOUT_CACHE: [(&str, &str); 3] =
    [("CREDENTIAL_CACHE_TTL", "0"), ("AUTH_RATE_LIMIT", "0"), ("REGISTER_RATE_LIMIT", "0")];

/// Sets a limit of the running server.
fn limit(server: &Server, what: &str) {
    let pid = server.child.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, what]).status().unwrap().success());
}

async fn expect_unavailable(server: &Server, path: &str, body: Value) {
    let answer = Client::new().post(format!("{}{path}", server.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said, json!({"error": "The service cannot answer just now", "code": "unavailable"}));
}

async fn expect_published(server: &Server) {
    assert_eq!(get(server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
}

/// A lasting failure is logged once, however many requests fail.
fn expect_logged_once(server: &Server, what: &str) {
    let log = server.log();
    assert_eq!(log.lines().filter(|line| line.contains(what)).count(), 1, "{log}");
}

fn account(name: &str, password: &str) -> Value {
    json!({"username": name, "password": password})
}

fn new(name: &str) -> Value {
    json!({"username": name, "email": format!("{name}@example.com")})
}

/// Waits until a sign-in succeeds again.
async fn expect_recovery(server: &Server, name: &str, password: &str) {
    let begun = Instant::now();
    while sign_in(server, name, password).await != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
    }
}

async fn sign_ins(dir: &Path) -> i64 {
    db(dir).await.fetch_one("SELECT count(*) FROM auth_logs").await.unwrap().get(0)
}

#[tokio::test]
async fn with_a_full_disk_keys_are_published_and_service_resumes_with_space() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    assert_eq!(sign_in(&server, "alice", password).await, 200);

    limit(&server, "--fsize=4096:");
    for _ in 0..5 {
        expect_unavailable(&server, "/auth", account("alice", password)).await;
        expect_unavailable(&server, "/register", new("bob")).await;
    }
    expect_published(&server).await;
    assert_eq!(sign_ins(dir.path()).await, 1);
    expect_logged_once(&server, "was answered 503");

    limit(&server, "--fsize=unlimited:");
    expect_recovery(&server, "alice", password).await;
    assert_eq!(sign_ins(dir.path()).await, 2);
}

/// Status of /readyz, and its reason unless it is ready.
async fn readiness(server: &Server) -> (u16, Option<String>) {
    let answer = Client::new().get(format!("{}/readyz", server.url)).send().await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.json::<Value>().await.unwrap());
    (status, body["error"].as_str().map(str::to_owned))
}

async fn expect_not_writable(server: &Server, why: &str) {
    // A result counts for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let reason = format!("Not ready: the store cannot be written{why}");
    assert_eq!(readiness(server).await, (503, Some(reason)));
    expect_published(server).await;
}

async fn expect_ready(server: &Server) {
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(readiness(server).await, (200, None));
}

#[tokio::test]
async fn readyz_tells_in_password_mode_whether_the_store_can_be_written() {
    let dir = dir();
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    expect_ready(&server).await;

    limit(&server, "--fsize=4096:");
    expect_not_writable(&server, "").await;
    limit(&server, "--fsize=unlimited:");
    expect_ready(&server).await;

    let mut other = db(dir.path()).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        expect_not_writable(&server, ": another process holds its write lock").await;
        // Long enough for a slow machine, and shorter than a statement waits for the lock.
        assert!(begun.elapsed() < Duration::from_millis(4900), "{:?}", begun.elapsed());
    }
    lock.rollback().await.unwrap();
    expect_ready(&server).await;

    if freeze(dir.path(), "+i") {
        expect_not_writable(&server, ": it is read-only").await;
        assert!(freeze(dir.path(), "-i"));
        expect_ready(&server).await;
    } else {
        skipped("chattr +i does nothing here");
    }
    let changes: i64 = db(dir.path()).await.fetch_one("SELECT number FROM key_changes").await.unwrap().get(0);
    expect_ready(&server).await;
    let later: i64 = db(dir.path()).await.fetch_one("SELECT number FROM key_changes").await.unwrap().get(0);
    assert_eq!(later, changes, "a probe changes nothing");
}

#[tokio::test]
async fn readyz_is_503_while_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount() else {
        skipped("no small file system can be mounted here");
        return;
    };
    let server = Server::start(&disk.dir.path().join("disk"), &[KEY]);
    expect_ready(&server).await;
    let filler = disk.dir.path().join("disk/filler");
    let _ = std::fs::write(&filler, vec![1; 64 * 1024 * 1024]);
    expect_not_writable(&server, ": its disk is full").await;
    std::fs::remove_file(filler).unwrap();
    expect_ready(&server).await;
}

#[tokio::test]
async fn without_a_signing_key_auth_is_503_and_the_log_says_so_once() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    let mut store = db(dir.path()).await;
    for sql in [
        "CREATE TRIGGER full BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'full'); END",
        "UPDATE key_lives SET revoked_at = unixepoch() * 1000",
    ] {
        store.execute(sql).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..5 {
        let (status, said) = post(&server, "/auth", account("alice", password.trim())).await;
        assert_eq!((status, said), (503, json!({"error": "No key can sign a token now", "code": "no_key"})));
    }
    expect_logged_once(&server, "was answered 503: no key can sign a token");
}

/// A file system of 16 MiB in memory. Only root can mount one.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = dir();
        std::fs::create_dir(dir.path().join("disk")).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=16m", "jwksd-test", "disk"];
        let mounted = Command::new("mount").args(options).current_dir(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", "disk"]).current_dir(self.dir.path()).status();
    }
}

#[tokio::test]
async fn a_process_that_holds_the_write_lock_delays_only_sign_ins() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    let mut other = db(dir.path()).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();

    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        let published = async {
            for _ in 0..20 {
                expect_published(&server).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::join!(expect_unavailable(&server, "/auth", account("alice", password)), published);
    }
    expect_logged_once(&server, "database is locked");

    lock.rollback().await.unwrap();
    expect_recovery(&server, "alice", password).await;
    assert_eq!(sign_ins(dir.path()).await, 1);
}

/// Makes an open file unwritable, even for root. Only root can do this, on some file systems.
fn freeze(dir: &Path, flag: &str) -> bool {
    let files = [DB.to_owned(), format!("{DB}-wal")];
    let done = Command::new("chattr").arg(flag).args(files).current_dir(dir).output();
    done.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn service_resumes_when_an_unwritable_file_is_writable_again() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    assert_eq!(sign_in(&server, "alice", password).await, 200);
    if !freeze(dir.path(), "+i") {
        skipped("chattr +i does nothing here");
        return;
    }
    for _ in 0..5 {
        expect_unavailable(&server, "/auth", account("alice", password)).await;
        expect_unavailable(&server, "/register", new("bob")).await;
    }
    expect_published(&server).await;
    expect_logged_once(&server, "attempt to write a readonly database");

    assert!(freeze(dir.path(), "-i"));
    assert_eq!(sign_in(&server, "alice", password).await, 200, "{}", server.log());
    assert_eq!(post(&server, "/register", new("bob")).await.0, 201);
    assert_eq!(sign_ins(dir.path()).await, 2);
}

/// The program as a user whom file modes restrict. Root can write everything.
struct Unprivileged {
    dir: TempDir,
    binary: PathBuf,
}

impl Unprivileged {
    /// With its own directory for the store.
    fn new() -> Self {
        let dir = dir();
        let binary = dir.path().join("jwksd");
        std::fs::copy(BINARY, &binary).unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let unprivileged = Self { dir, binary };
        unprivileged.permit("", 0o755);
        if is_root() {
            std::os::unix::fs::chown(unprivileged.home(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
        }
        unprivileged
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn permit(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.dir.path().join(path), Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).current_dir(self.home()).env_clear().envs([KEY]);
        if is_root() {
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        command
    }

    fn start(&self) -> Result<Server, String> {
        Server::spawn(self.command(&["serve"]).envs(WITHOUT_CACHE), &[])
    }
}

/// The user without privileges on most systems.
const UNPRIVILEGED: u32 = 65534;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test]
async fn with_a_read_only_store_keys_are_published_and_the_rest_is_503() {
    let unprivileged = Unprivileged::new();
    let added = unprivileged.command(&["users", "add", "alice"]).output().unwrap();
    let password = String::from_utf8(added.stdout).unwrap();
    let password = password.trim();
    unprivileged.permit(&format!("home/{DB}"), 0o400);
    let server = unprivileged.start().unwrap();
    expect_published(&server).await;
    expect_unavailable(&server, "/auth", account("alice", password)).await;
    expect_unavailable(&server, "/register", new("bob")).await;
    expect_logged_once(&server, "attempt to write a readonly database");

    // `-wal` and `-shm` were created with the same mode.
    for companion in ["", "-wal", "-shm"] {
        unprivileged.permit(&format!("home/{DB}{companion}"), 0o600);
    }
    assert_eq!(sign_in(&server, "alice", password).await, 200, "{}", server.log());
    assert_eq!(post(&server, "/register", new("bob")).await.0, 201);
}

#[tokio::test]
async fn an_unwritable_directory_stops_starts_but_not_a_running_server() {
    let unprivileged = Unprivileged::new();
    unprivileged.permit("home", 0o555);
    let refused = unprivileged.start().err().unwrap();
    assert!(refused.contains("DATABASE_URL") && refused.contains("Permission denied"), "{refused}");

    unprivileged.permit("home", 0o755);
    let server = unprivileged.start().unwrap();
    unprivileged.permit("home", 0o555);
    let (status, made) = post(&server, "/register", new("bob")).await;
    assert_eq!((status, sign_in(&server, "bob", made["password"].as_str().unwrap()).await), (201, 200));
    expect_published(&server).await;
}

#[tokio::test]
async fn with_corrupt_accounts_keys_are_published() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let (page, size): (i64, i64) = sqlx::query_as(
        "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'users'",
    )
    .fetch_one(&mut db(dir.path()).await)
    .await
    .unwrap();
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.path().join(DB)).unwrap();
    let at = u64::try_from((page - 1) * size).unwrap();
    let mut whole = vec![0; usize::try_from(size).unwrap()];
    file.read_exact_at(&mut whole, at).unwrap();
    file.write_all_at(&vec![0xFF; whole.len()], at).unwrap();

    for _ in 0..5 {
        expect_unavailable(&server, "/auth", account("alice", password)).await;
        expect_unavailable(&server, "/register", new("bob")).await;
        expect_published(&server).await;
    }
    expect_logged_once(&server, "database disk image is malformed");

    file.write_all_at(&whole, at).unwrap();
    let begun = Instant::now();
    while sign_in(&server, "alice", password).await != 200 {
        assert!(begun.elapsed() < Duration::from_mins(2), "a repaired page is read again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(post(&server, "/register", new("bob")).await.0, 201);
}

#[tokio::test]
async fn a_moved_store_accepts_nothing_until_it_is_moved_back() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    let (here, gone) = (dir.path().join(DB), dir.path().join("gone"));
    std::fs::rename(&here, &gone).unwrap();
    for _ in 0..5 {
        expect_unavailable(&server, "/auth", account("alice", password)).await;
        expect_unavailable(&server, "/register", new("bob")).await;
    }
    expect_published(&server).await;
    let ready = Client::new().get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    expect_logged_once(&server, "was answered 503: the store was removed or replaced");

    std::fs::rename(&gone, &here).unwrap();
    assert_eq!(sign_in(&server, "alice", password).await, 200);
    assert_eq!(post(&server, "/register", new("bob")).await.0, 201);
    assert_eq!(sign_ins(dir.path()).await, 1);
}

/// A server whose memory is limited to this many KiB.
fn start_with_memory(dir: &Path, kib: u32) -> Server {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {kib}; exec \"$0\" serve"), BINARY]).current_dir(dir).env_clear();
    Server::spawn(command.envs(WITHOUT_CACHE), &[]).unwrap()
}

#[tokio::test]
async fn missing_memory_for_a_hash_does_not_reveal_accounts() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    done(dir.path(), &["users", "add", "bob"]);
    sqlx::query("UPDATE users SET password_hash = replace(password_hash, 'm=19456,', 'm=2097152,') WHERE username = 'bob'")
        .execute(&mut db(dir.path()).await)
        .await
        .unwrap();
    let server = start_with_memory(dir.path(), 3 << 19);
    for name in ["alice", "bob", "unknown"] {
        expect_unavailable(&server, "/auth", account(name, "a wrong one")).await;
    }
    assert_eq!(sign_in(&server, "alice", password.trim()).await, 200);
}

#[tokio::test]
async fn without_free_files_a_server_waits_and_logs_it_once() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    limit(&server, "--nofile=8:");
    // New connections wait in the accept queue of the system.
    let waiting: Vec<_> =
        (0..5).map(|_| tokio::spawn(Client::new().get(format!("{}/jwks", server.url)).send())).collect();
    let mut log = log_until(&server, "cannot accept connections, trying again").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    limit(&server, "--nofile=1024:");
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    log += &log_until(&server, "connections are accepted again").await;
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
    assert_eq!(log.matches("connections are accepted again").count(), 1, "{log}");
}

/// The log up to the line that contains this text.
async fn log_until(server: &Server, what: &str) -> String {
    let mut log = String::new();
    let begun = Instant::now();
    while !log.contains(what) {
        assert!(begun.elapsed() < Duration::from_mins(1), "{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        log += &server.log();
    }
    log
}

#[tokio::test]
async fn a_truncated_wal_loses_only_the_data_after_the_cut() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0;
    let password = password.trim();
    let mut server = Server::start(dir.path(), &WITHOUT_CACHE);
    for _ in 0..5 {
        assert_eq!(sign_in(&server, "alice", password).await, 200);
    }
    server.child.kill().unwrap();
    server.wait();
    let journal = dir.path().join(format!("{DB}-wal"));
    let file = std::fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5000).unwrap();

    let server = Server::start(dir.path(), &WITHOUT_CACHE);
    assert_eq!(sign_in(&server, "alice", password).await, 200);
    let left = sign_ins(dir.path()).await;
    assert_eq!(left, 5, "the last of five sign-ins is lost, and one is added");
    let whole: String = db(dir.path()).await.fetch_one("PRAGMA integrity_check").await.unwrap().get(0);
    assert_eq!(whole, "ok");
}
