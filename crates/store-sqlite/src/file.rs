//! The file that a store is in, and ways to open it that write nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use thiserror::Error;

use super::error::failed;
use jwksd_core::store::StoreError;

/// How long a statement waits for the lock of another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The file that a store is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFile(PathBuf);

impl DatabaseFile {
    /// Reads `DATABASE_URL`: `sqlite://path`, `sqlite:path`, or a bare path.
    ///
    /// # Errors
    /// [`InvalidDatabaseUrl`] for another database and for one in memory.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
        let has_scheme = path.contains("://") || (path.len() == url.len() && begins_with_scheme(path));
        // SQLite takes these names for a temporary database, one in memory or a URI. Keys in the first two would be
        // lost when the process ends.
        if path.is_empty()
            || path.starts_with(":memory:")
            || path.starts_with("file:")
            || path.contains(['?', '\0'])
            || has_user_info(path)
            || has_parameters(path)
            || has_scheme
        {
            return Err(InvalidDatabaseUrl);
        }
        Ok(Self(PathBuf::from(path)))
    }

    /// The store in this file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The same store, by the name of the file that a symbolic link leads to.
    #[must_use]
    pub fn resolved(&self) -> Self {
        // A rename onto a link replaces the link, and not the file that other processes reach through it.
        let target = self.0.is_symlink().then(|| fs::canonicalize(&self.0).ok()).flatten();
        Self(target.unwrap_or_else(|| self.0.clone()))
    }

    /// Creates an empty file that only its owner can read, unless there is one. Returns whether it was created.
    ///
    /// SQLite would make it readable by all users. Its side files take the mode of this one.
    pub(super) fn create_private(&self) -> std::io::Result<bool> {
        let mut options = fs::OpenOptions::new();
        // Also fails for a dangling link, so that another user cannot decide where the keys are created.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&self.0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Device and inode of the file. They change when a restore puts another file under the same name.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        identity(&self.0)
    }

    /// Where SQLite keeps the write-ahead log.
    pub(super) fn wal(&self) -> PathBuf {
        self.side_file("-wal")
    }

    fn side_file(&self, suffix: &str) -> PathBuf {
        // SQLite follows a link first: side files lie next to the file that it leads to.
        let mut name = self.resolved().0.into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// A connection with SQLite's defaults, for work on a copy or on a store at rest.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        options(&self.0).connect().await.map_err(failed)
    }

    /// Asks the file something without writing to it.
    pub(super) async fn read<T>(
        &self,
        ask: impl AsyncFn(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Reading a file as immutable leaves no side files behind. While another process starts to write, it may show
        // half-written pages: an answer counts only if no journal has appeared meanwhile. A journal may also have come and
        // gone, but then the file has changed.
        let unchanged = self.size_and_time();
        if !self.has_journal() {
            let options = options(&self.0).immutable(true).read_only(true);
            if let Ok(answer) = read_with(options, &ask).await
                && !self.has_journal()
                && self.size_and_time() == unchanged
            {
                return Ok(answer);
            }
        }
        match read_with(options(&self.0).read_only(true), &ask).await {
            // A program that was killed left a hot journal. SQLite rolls it back, which a read-only connection cannot.
            Err(StoreError::Busy(_) | StoreError::Unavailable(_)) => {
                read_with(options(&self.0).pragma("query_only", "ON"), &ask).await
            }
            other => other,
        }
    }

    /// The file's length in bytes, and when it was last written; nothing if it cannot be seen.
    fn size_and_time(&self) -> Option<(u64, SystemTime)> {
        let file = self.0.metadata().ok()?;
        Some((file.len(), file.modified().ok()?))
    }

    /// Whether a WAL or a rollback journal lies next to the file.
    fn has_journal(&self) -> bool {
        // Without `-shm`, which is only an index of the WAL.
        ["-wal", "-journal"].iter().any(|suffix| self.side_file(suffix).exists())
    }
}

async fn read_with<T>(
    options: SqliteConnectOptions,
    ask: &impl AsyncFn(&mut SqliteConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut db = options.connect().await.map_err(failed)?;
    let answer = ask(&mut db).await;
    // Closed also after a failure: a connection that is only dropped closes later, on a thread of sqlx.
    db.close().await.map_err(failed)?;
    answer
}

/// What every connection to a file has in common.
pub(super) fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY_TIMEOUT)
        // Constraints, indexes and views of a file that others could write may call only harmless functions.
        .pragma("trusted_schema", "OFF")
        // Finds damaged pages when they are read, before they are followed.
        .pragma("cell_size_check", "ON")
        .disable_statement_logging()
}

/// Device and inode of a file; nothing if it is missing.
pub(super) fn identity(file: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        file.metadata().ok().map(|file| (file.dev(), file.ino()))
    }
    // Windows does not replace a file that is open.
    #[cfg(not(unix))]
    {
        let _ = file;
        None
    }
}

/// Whether a text is of the form `mysql:…`. A drive of Windows has one letter.
fn begins_with_scheme(text: &str) -> bool {
    let is_scheme =
        |before: &str| before.len() > 1 && before.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.split_once(':').is_some_and(|(before, _)| is_scheme(before))
}

/// Whether a text has the user-info of a URL. As a path, the password in it would be shown.
fn has_user_info(text: &str) -> bool {
    let is_user_info = |part: &str| part.split_once('@').is_some_and(|(before, _)| before.contains(':'));
    text.contains("@//") || text.split(['/', '\\']).any(is_user_info)
}

/// Whether a text has the parameters of another database, such as `Server=db;Pwd=x` or `host=db password=x`. As a path, the
/// password among them would be shown.
fn has_parameters(text: &str) -> bool {
    const SECRETS: [&str; 7] = ["key", "pass", "passphrase", "passwd", "password", "pwd", "secret"];
    let is_secret = |name: &String| name.is_empty() || SECRETS.iter().any(|secret| name.ends_with(secret));
    let names: Vec<_> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '&'))
        .filter_map(|part| part.split_once('='))
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.len() > 1 || names.iter().any(is_secret)
}

/// The text does not name a file for a store.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("use sqlite://FILE, the path of a file, or postgres://USER:PASSWORD@HOST/DATABASE")]
pub struct InvalidDatabaseUrl;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_of_other_databases_are_refused() {
        for text in [
            "postgres://u:hunter2@db/x",
            "Server=db;User=u;Pwd=hunter2",
            "Data Source=db; Password = hunter2",
            "host=db user=u",
            "password = hunter2",
            "host=/run/db user=u",
            "Pwd=hunter2",
            "mysql:host=db",
            "jdbc:oracle:thin:scott/tiger@db:1521:x",
            "scott/tiger@//db:1521/x",
            "u:hunter2@tcp(db:3306)/x",
            "DefaultEndpointsProtocol=https;AccountKey=aHVudGVyMg==",
        ] {
            assert_eq!(DatabaseFile::parse(text), Err(InvalidDatabaseUrl), "{text}");
        }
    }

    #[test]
    fn paths_are_read_as_they_are() {
        for path in [
            "store.db",
            "/srv/a=b/c=d/store.db",
            r"C:\jwksd\store.db",
            "a b.db",
            "/home/u@x.example/store.db",
            "./a:b.db",
        ] {
            assert_eq!(DatabaseFile::parse(path).unwrap().path(), Path::new(path));
        }
        for url in ["sqlite://a:b.db", "sqlite:a:b.db"] {
            assert_eq!(DatabaseFile::parse(url).unwrap().path(), Path::new("a:b.db"));
        }
    }
}
