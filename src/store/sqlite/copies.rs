//! Copies of a store, and putting one in the place of the store.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::files::{Location, has_table};
use super::{BUSY_TIMEOUT, inspection, is_busy, unavailable};

/// How far ahead the numbers of keys and accounts leap, when nobody can say which were given out since the copy.
const LEAP: i64 = 1_000_000;

impl Location {
    /// Copies the store, as it is at one moment, into an empty file. Nobody who works on it is held up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], for a store that cannot be read to its end, too.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let mut db = self.connect().await?;
        let copied = copy(&mut db, file).await;
        db.close().await.map_err(unavailable)?;
        copied
    }

    /// How many bytes a copy may come to.
    ///
    /// # Errors
    /// As [`Location::copy_to`].
    pub async fn bytes(&self) -> Result<u64, StoreError> {
        let mut db = self.connect().await?;
        let bytes = inspection::bytes(&mut db).await;
        db.close().await.map_err(unavailable)?;
        bytes
    }

    async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let options = SqliteConnectOptions::new().filename(self.path()).busy_timeout(BUSY_TIMEOUT);
        options.disable_statement_logging().connect().await.map_err(unavailable)
    }
}

async fn copy(db: &mut SqliteConnection, file: &Path) -> Result<(), StoreError> {
    let name = file.to_str().ok_or_else(|| StoreError::Damaged("its path is not UTF-8".to_owned()))?;
    sqlx::query("VACUUM INTO ?")
        .bind(name)
        .execute(db)
        .await
        .map(drop)
        .map_err(|error| if is_unreadable(&error) { damaged(&error) } else { unavailable(error) })
}

/// A store that nobody else has open, nor can open, as long as this is held.
#[derive(Debug)]
pub struct Hold {
    location: Location,
    /// Nothing if there is no such file, or none that SQLite could lock.
    db: Option<SqliteConnection>,
}

impl Hold {
    /// Takes hold of a store. A file that is there but is no database is held by nobody, and taken as it is.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open.
    pub async fn take(location: &Location) -> Result<Self, StoreError> {
        let location = location.clone();
        if !location.path().exists() {
            return Ok(Self { location, db: None });
        }
        let mut db = SqliteConnectOptions::new()
            .filename(location.path())
            .busy_timeout(std::time::Duration::ZERO)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(unavailable)?;
        match hold(&mut db).await {
            Ok(journal) if journal == "delete" => Ok(Self { location, db: Some(db) }),
            Ok(_) => Err(StoreError::InUse),
            Err(sqlx::Error::Database(error)) if is_busy(error.as_ref()) => Err(StoreError::InUse),
            Err(error) if is_unreadable(&error) => Ok(Self { location, db: None }),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Carries over into a copy what must never be given out again: numbers and names that this store has given out
    /// since, and revocations. Returns whether this store could tell them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the copy cannot be written.
    pub async fn carry_over(&mut self, copy: &Path) -> Result<bool, StoreError> {
        let told = match &mut self.db {
            Some(db) => carry_over(db, copy).await.is_ok(),
            None => false,
        };
        if !told {
            let options = SqliteConnectOptions::new().filename(copy).disable_statement_logging();
            let mut db = options.connect().await.map_err(unavailable)?;
            leap(&mut db).await?;
            db.close().await.map_err(unavailable)?;
        }
        Ok(told)
    }

    /// Puts `copy` in the place of the store, in one step, and keeps the store as it was under another name, which is
    /// returned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file system does not allow it; the store is as it was.
    pub async fn replace_by(
        mut self,
        copy: tempfile::NamedTempFile,
        suffix: &str,
    ) -> Result<Option<PathBuf>, StoreError> {
        let store = self.location.path().to_owned();
        let mut kept = beside(&store, suffix);
        let exists = store.exists();
        if exists {
            while let Err(error) = fs::hard_link(&store, &kept) {
                if error.kind() != io::ErrorKind::AlreadyExists {
                    return Err(unavailable(error));
                }
                kept = beside(&kept, "-2");
            }
        }
        if self.db.is_none() {
            // What lies beside a file that is no database must not be taken for the copy's.
            for side in ["-wal", "-shm", "-journal"] {
                keep_side(&beside(&store, side), &beside(&kept, side)).map_err(unavailable)?;
            }
        }
        copy.as_file().sync_all().map_err(unavailable)?;
        // Windows replaces no file that is open.
        if cfg!(not(unix)) {
            self.release().await;
        }
        copy.persist(&store).map_err(|error| unavailable(error.error))?;
        sync_directory_of(&store).map_err(unavailable)?;
        self.release().await;
        Ok(exists.then_some(kept))
    }

    async fn release(&mut self) {
        if let Some(db) = self.db.take() {
            // It has written nothing that could be lost.
            let _ = db.close().await;
        }
    }
}

/// Has the WAL written back and removed, which only the last who has the file open can do, then locks out everybody for
/// as long as the connection lives. Returns what journal there is: whoever came in between has set another.
async fn hold(db: &mut SqliteConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
        .execute(&mut *db)
        .await?;
    sqlx::query_scalar("PRAGMA journal_mode").fetch_one(db).await
}

/// All in one transaction of the connection that holds the old store, which is only read.
async fn carry_over(db: &mut SqliteConnection, copy: &Path) -> Result<(), StoreError> {
    let name = copy.to_str().ok_or_else(|| StoreError::Damaged("its path is not UTF-8".to_owned()))?;
    for table in ["keys", "users", "names_given", "key_lives"] {
        if !has_table(db, table).await? {
            return Err(StoreError::Damaged(format!("it has no table {table}")));
        }
    }
    sqlx::query("ATTACH ? AS copy").bind(name).execute(&mut *db).await.map_err(unavailable)?;
    let carried = sqlx::raw_sql(
        "BEGIN IMMEDIATE;
         UPDATE copy.sqlite_sequence SET seq = max(seq, coalesce(
             (SELECT old.seq FROM main.sqlite_sequence AS old WHERE old.name = copy.sqlite_sequence.name), 0));
         INSERT INTO copy.sqlite_sequence (name, seq)
             SELECT name, seq FROM main.sqlite_sequence
             WHERE name NOT IN (SELECT name FROM copy.sqlite_sequence)
               AND name IN (SELECT name FROM copy.sqlite_schema WHERE type = 'table');
         INSERT OR IGNORE INTO copy.names_given (name) SELECT name FROM main.names_given;
         UPDATE copy.key_lives SET revoked_at =
             (SELECT old.revoked_at FROM main.key_lives AS old WHERE old.kid = copy.key_lives.kid)
         WHERE revoked_at IS NULL
           AND kid IN (SELECT kid FROM main.key_lives WHERE revoked_at IS NOT NULL);
         COMMIT",
    )
    .execute(&mut *db)
    .await;
    if carried.is_err() {
        // Whether or not a transaction was begun.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *db).await;
    }
    sqlx::raw_sql("DETACH copy").execute(db).await.map_err(unavailable)?;
    carried.map(drop).map_err(unavailable)
}

async fn leap(db: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'users', 0
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users')",
    )
    .execute(&mut *db)
    .await
    .map_err(unavailable)?;
    sqlx::query("UPDATE sqlite_sequence SET seq = seq + ? WHERE name IN ('keys', 'users')")
        .bind(LEAP)
        .execute(db)
        .await
        .map(drop)
        .map_err(unavailable)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}

fn keep_side(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the new name of a file last; where directories cannot be synced, the file system sees to it.
/// # Errors
/// Whatever the file system says.
pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let directory = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// The sentence of SQLite alone.
pub(super) fn damaged(error: &sqlx::Error) -> StoreError {
    let message = error.as_database_error().map(sqlx::error::DatabaseError::message);
    StoreError::Damaged(format!("it is damaged: {}", message.unwrap_or("it cannot be read")))
}

/// Whether it is no database (`SQLITE_NOTADB`) or not all of one (`SQLITE_CORRUPT`).
pub(super) fn is_unreadable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| matches!(code & 0xFF, 11 | 26))
}
