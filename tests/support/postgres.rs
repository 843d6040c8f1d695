//! A PostgreSQL server for the tests of one process: that of `TEST_DATABASE_URL`, or one of their own in a temporary directory.
//!
//! Without either, the tests that need one say so and pass, unless `REQUIRE_SERVERS` is set.

#![expect(clippy::disallowed_methods, reason = "the settings of the tests, not of jwksd")]
#![expect(clippy::zombie_processes, reason = "the server ends after the process of the tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

/// A server on which databases can be created.
pub(crate) struct PostgresServer {
    /// Up to the name of the database.
    prefix: String,
    /// From the name of the database on.
    suffix: String,
    _own: Option<OwnServer>,
}

/// An empty database on the server of the tests.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
}

impl TestDatabase {
    /// Nothing if there is no server. Then it is said on standard error.
    pub(crate) async fn create() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = server()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("jwksd_test_{}_{number}", std::process::id());
        let mut admin = connect(&server.url("postgres")).await;
        let sql = format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}");
        for statement in sql.split("; ") {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut admin).await.unwrap();
        }
        Some(Self { url: server.url(&name) })
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

/// Waits as long as the server starts.
pub(crate) async fn connect(url: &str) -> PgConnection {
    for _ in 0..100 {
        if let Ok(connection) = PgConnection::connect(url).await {
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    PgConnection::connect(url).await.unwrap()
}

impl PostgresServer {
    fn url(&self, database: &str) -> String {
        format!("{}{database}{}", self.prefix, self.suffix)
    }
}

fn server() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var("TEST_DATABASE_URL") {
        Ok(url) => Some(given(&url)),
        Err(_) => OwnServer::start().map(|own| PostgresServer {
            prefix: format!("postgres://postgres@127.0.0.1:{}/", own.port),
            suffix: String::new(),
            _own: Some(own),
        }),
    });
    if server.is_none() {
        assert!(std::env::var_os("REQUIRE_SERVERS").is_none(), "PostgreSQL is not installed");
        eprintln!("not tested: PostgreSQL is not installed, and TEST_DATABASE_URL is not set");
    }
    server.as_ref()
}

/// The server of a URL. Its role must be allowed to create databases.
fn given(url: &str) -> PostgresServer {
    let (before, parameters) =
        url.split_once('?').map_or((url, None), |(before, after)| (before, Some(after)));
    let start = before.find("://").unwrap() + 3;
    let prefix = match before[start..].find('/') {
        Some(slash) => before[..=start + slash].to_owned(),
        None => format!("{before}/"),
    };
    PostgresServer { prefix, suffix: parameters.map(|it| format!("?{it}")).unwrap_or_default(), _own: None }
}

/// A server that ends with the process of the tests.
pub(crate) struct OwnServer {
    pub(crate) port: u16,
    /// Its standard input ends with this process, which ends the server.
    _child: Child,
    _directory: TempDir,
}

impl OwnServer {
    /// Starts a new one. Nothing if PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        Self::create("initdb", |initdb| {
            initdb.args([
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
            ]);
        })
    }

    /// Starts a server that repeats what this one does.
    pub(crate) fn start_standby(&self) -> Self {
        let standby = Self::create("pg_basebackup", |copy| {
            copy.args([
                "--host=127.0.0.1",
                "--username=postgres",
                "--write-recovery-conf",
                "--checkpoint=fast",
            ]);
            copy.args(["--no-sync", "--port", &self.port.to_string()]);
        });
        standby.unwrap()
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts a server with the files that this program of PostgreSQL makes.
    fn create(program: &str, options: impl Fn(&mut Command)) -> Option<Self> {
        let bin = binaries()?;
        let directory = tempfile::tempdir().unwrap();
        own(directory.path());
        let data = directory.path().join("data");
        let mut maker = unprivileged(Command::new(bin.join(program)));
        options(&mut maker);
        let made = maker.arg("-D").arg(&data).current_dir(directory.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let script = "\"$0\" \"$@\" </dev/null >server.log 2>&1 & server=$!; cat >/dev/null; kill -QUIT $server; wait; rm -rf data";
        let child = unprivileged(Command::new("sh"))
            .args(["-c", script])
            .arg(bin.join("postgres"))
            .args([
                "-F",
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-c",
                "max_connections=300",
                "-c",
                "jit=off",
            ])
            .args(["-c", "max_prepared_transactions=0", "-k"])
            .arg(directory.path())
            .arg("-D")
            .arg(&data)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { port, _child: child, _directory: directory });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The directory with `initdb`: of the search path, or of Debian's newest package.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packages: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    packages.sort();
    let mut places = std::env::split_paths(&path).chain(packages.into_iter().rev());
    // A link may stand apart from the other programs.
    let initdb = places.find_map(|dir| dir.join("initdb").canonicalize().ok())?;
    initdb.parent().map(Path::to_owned)
}

/// PostgreSQL refuses to run as root.
#[cfg(unix)]
pub(crate) fn unprivileged(mut command: Command) -> Command {
    use std::os::unix::process::CommandExt as _;
    if is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command
}

#[cfg(unix)]
pub(crate) fn own(directory: &Path) {
    if is_root() {
        std::os::unix::fs::chown(directory, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The user without privileges on most systems.
#[cfg(unix)]
const UNPRIVILEGED: u32 = 65534;

#[cfg(not(unix))]
pub(crate) fn unprivileged(command: Command) -> Command {
    command
}

#[cfg(not(unix))]
pub(crate) fn own(_: &Path) {}
