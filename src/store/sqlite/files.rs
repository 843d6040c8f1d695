//! Which file a store is in, and what is in that file already: looked at read-only, before anything is written.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use thiserror::Error;

use super::super::{MasterKeyRecord, StoreError};
use super::connections::BUSY_TIMEOUT;
use super::copies::{damaged, is_unreadable};
use super::inspection::{self, Depth, Inspection};
use super::{MIGRATIONS, accounts, keys, unavailable};

const COURSE_COLUMNS: [(&str, &str); 3] = [
    ("keys", "kid,key,exp"),
    ("users", "id,username,password_hash,email,date_registered,last_login"),
    ("auth_logs", "id,request_ip,request_timestamp,user_id"),
];

/// The file a store is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFile(PathBuf);

impl DatabaseFile {
    /// Reads `DATABASE_URL`: `sqlite://path`, `sqlite:path`, or a bare path.
    ///
    /// # Errors
    /// [`InvalidDatabaseUrl`] for another database and for one in memory.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
        let has_scheme = path.split_once("://").is_some();
        if path.is_empty()
            || path.starts_with(":memory:")
            || path.starts_with("file:")
            || path.contains(['?', '\0'])
            || has_scheme
        {
            return Err(InvalidDatabaseUrl);
        }
        Ok(Self(PathBuf::from(path)))
    }

    /// The store in this file.
    #[must_use]
    pub fn of(file: PathBuf) -> Self {
        Self(file)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes an empty file that only its owner can read, where there is none. Returns whether there was none.
    ///
    /// SQLite would make it readable by everybody; its side files take over the mode of this one.
    pub(super) fn make_private(&self) -> std::io::Result<bool> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&self.0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Which file it is, whatever its name: a restore may put another one there.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            self.0.metadata().ok().map(|file| (file.dev(), file.ino()))
        }
        // Elsewhere, a file that is open is replaced by nobody.
        #[cfg(not(unix))]
        None
    }

    /// Looks into the file without writing to it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a file that is no database, or a newer one than this program knows.
    pub async fn probe(&self) -> Result<Probe, StoreError> {
        match self.0.metadata() {
            Ok(file) if file.is_file() => self.read(probe).await,
            Ok(_) => Err(StoreError::Corrupt("it is no file".to_owned())),
            Err(_) if self.0.symlink_metadata().is_ok() => {
                Err(StoreError::Corrupt("it is a link that leads nowhere".to_owned()))
            }
            Err(_) => Ok(Probe { contents: Contents::Nothing, has_accounts: false }),
        }
    }

    /// Looks at everything in the file without writing to it.
    ///
    /// # Errors
    /// As [`DatabaseFile::look`]; a file that is not there cannot be read either.
    pub async fn inspect(&self, depth: Depth) -> Result<Inspection, StoreError> {
        self.read(async |db| {
            expect_course_columns(db).await?;
            inspection::inspect(db, depth).await
        })
        .await
    }

    async fn read<T>(
        &self,
        ask: impl AsyncFn(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A file that no other process has open leaves no trace when read as immutable; but while another begins to
        // write to it, half-written pages may be seen, so that this is no answer yet.
        if !self.has_companion() {
            let options = SqliteConnectOptions::new().immutable(true);
            if let Ok(answer) = self.read_with(options.read_only(true), &ask).await
                && !self.has_companion()
            {
                return Ok(answer);
            }
        }
        match self.read_with(SqliteConnectOptions::new().read_only(true), &ask).await {
            // What a program that was killed left half done must be rolled back first, which is no change.
            Err(StoreError::Unavailable(_)) => {
                self.read_with(SqliteConnectOptions::new().pragma("query_only", "ON"), &ask).await
            }
            other => other,
        }
        .map_err(|error| match error {
            StoreError::Unavailable(cause) => match cause.downcast_ref() {
                Some(cause) if is_unreadable(cause) => damaged(cause),
                _ => StoreError::Unavailable(cause),
            },
            other => other,
        })
    }

    async fn read_with<T>(
        &self,
        options: SqliteConnectOptions,
        ask: &impl AsyncFn(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let options = options.filename(&self.0).busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
        let mut db = options.connect().await.map_err(unavailable)?;
        let answer = ask(&mut db).await;
        db.close().await.map_err(unavailable)?;
        answer
    }

    /// Whether a journal lies beside the file.
    fn has_companion(&self) -> bool {
        ["-wal", "-journal"].iter().any(|suffix| {
            let mut name = self.0.clone().into_os_string();
            name.push(suffix);
            Path::new(&name).exists()
        })
    }
}

/// The text names no file of ours.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("use sqlite://FILE or the path of a file")]
pub struct InvalidDatabaseUrl;

/// What a look into the file of a store shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whose keys are in it.
    pub contents: Contents,
    /// Whether anybody has an account.
    pub has_accounts: bool,
}

/// Whose keys are in the file of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// No file, or one without keys.
    Nothing,
    /// Keys that another program wrote.
    Foreign,
    /// A store that is sealed under this master key.
    Ours(MasterKeyRecord),
}

async fn probe(db: &mut SqliteConnection) -> Result<Probe, StoreError> {
    expect_course_columns(db).await?;
    if let Some(version) = schema_version(db).await?
        && !MIGRATIONS.version_exists(version)
    {
        return Err(StoreError::Corrupt(format!(
            "its schema is at version {version}: a newer jwksd made it"
        )));
    }
    let has_accounts = has_table(db, "users").await? && accounts::any(db).await?;
    Ok(Probe { contents: contents(db).await?, has_accounts })
}

async fn contents(db: &mut SqliteConnection) -> Result<Contents, StoreError> {
    if has_table(db, "master_key").await?
        && let Some(record) = keys::master_key_of_old(db).await?
    {
        return Ok(Contents::Ours(record));
    }
    let has_keys = has_table(db, "keys").await? && keys::any(db).await?;
    Ok(if has_keys { Contents::Foreign } else { Contents::Nothing })
}

pub(super) async fn schema_version(db: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    if !has_table(db, "_sqlx_migrations").await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(db).await.map_err(unavailable)
}

pub(super) async fn has_table(db: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)")
        .bind(name)
        .fetch_one(db)
        .await
        .map_err(unavailable)
}

/// A database of another program may have tables of these names that are something else.
async fn expect_course_columns(db: &mut SqliteConnection) -> Result<(), StoreError> {
    for (table, expected) in COURSE_COLUMNS {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?) ORDER BY cid")
            .bind(table)
            .fetch_all(&mut *db)
            .await
            .map_err(not_a_database)?;
        let columns = columns.join(",");
        if !columns.is_empty() && columns != expected {
            return Err(StoreError::Corrupt(format!(
                "its table {table} has the columns {columns}, and not {expected}"
            )));
        }
    }
    Ok(())
}

fn not_a_database(error: sqlx::Error) -> StoreError {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        // SQLITE_NOTADB
        Some("26") => StoreError::Corrupt("it is no SQLite database".to_owned()),
        _ => unavailable(error),
    }
}
