//! Copies of a store, and putting one in the place of the store.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::files::{Location, has_table};
use super::{BUSY_TIMEOUT, inspection, is_busy, migrate, unavailable};

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

    /// Brings the schema of a copy up to date.
    ///
    /// # Errors
    /// As [`SqliteStore::open`](super::SqliteStore::open).
    pub async fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let mut db = self.connect().await?;
        let done = migrate(&mut db).await;
        db.close().await.map_err(unavailable)?;
        done
    }

    /// The same store, by the name of the file that a link leads to.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let is_link = self.path().is_symlink();
        let target = is_link.then(|| fs::canonicalize(self.path()).ok()).flatten();
        Self::of(target.unwrap_or_else(|| self.path().to_owned()))
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
    /// Whether there was nothing before: the file is ours, and empty.
    is_new: bool,
}

impl Hold {
    /// Takes hold of a store, or of its place if it is not there. A file that is there but is no database is held by
    /// nobody, and taken as it is.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open.
    pub async fn take(location: &Location) -> Result<Self, StoreError> {
        let location = location.clone();
        // An empty file, for as long as we hold it: nobody founds a store there meanwhile.
        let is_new = location.make_private().map_err(unavailable)?;
        let mut db = SqliteConnectOptions::new()
            .filename(location.path())
            .busy_timeout(std::time::Duration::ZERO)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(unavailable)?;
        match hold(&mut db).await {
            Ok(journal) if journal == "delete" => Ok(Self { location, db: Some(db), is_new }),
            Ok(_) => Err(StoreError::InUse),
            Err(sqlx::Error::Database(error)) if is_busy(error.as_ref()) => Err(StoreError::InUse),
            Err(error) if is_unreadable(&error) => Ok(Self { location, db: None, is_new }),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Brings a copy, whose schema is up to date, to what must not be undone: numbers and names that this store has given
    /// out since, keys that were made, have signed, ended or were revoked since, accounts that were disabled or deleted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the copy cannot be written.
    pub async fn carry_over(&mut self, copy: &Path) -> Result<CarriedOver, StoreError> {
        let carried = match &mut self.db {
            Some(db) if !self.is_new => carry_over(db, copy).await,
            _ => return leap(copy).await.map(|()| CarriedOver::NoStore),
        };
        match carried {
            Ok(carried) => Ok(carried),
            Err(error) => leap(copy).await.map(|()| CarriedOver::Unreadable(error)),
        }
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
        if !self.is_new {
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
        #[cfg(unix)]
        belong_to_owner_of(&store, &copy).map_err(unavailable)?;
        copy.as_file().sync_all().map_err(unavailable)?;
        // Windows replaces no file that is open.
        if cfg!(not(unix)) {
            self.release().await;
        }
        copy.persist(&store).map_err(|error| unavailable(error.error))?;
        sync_directory_of(&store).map_err(unavailable)?;
        self.release().await;
        Ok((!self.is_new).then_some(kept))
    }

    /// Leaves everything as it was.
    pub async fn give_up(mut self) {
        if self.is_new {
            // It is empty, and an empty file is no store to anybody either.
            let _ = fs::remove_file(self.location.path());
        }
        self.release().await;
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

/// What came of carrying over.
#[derive(Debug)]
pub enum CarriedOver {
    /// Everything. `keys` says whether the two stores have the same master key, and keys made since are there too;
    /// `accounts` how many accounts were disabled or deleted since.
    All {
        /// Keys too.
        keys: bool,
        /// Accounts that are not as in the copy.
        accounts: u64,
    },
    /// There was nothing to carry over from: numbers go on a million later.
    NoStore,
    /// The store could not tell, for this reason: numbers go on a million later.
    Unreadable(StoreError),
}

/// All in one transaction of the connection that holds the old store, which is only read.
async fn carry_over(db: &mut SqliteConnection, copy: &Path) -> Result<CarriedOver, StoreError> {
    let name = copy.to_str().ok_or_else(|| StoreError::Damaged("its path is not UTF-8".to_owned()))?;
    for table in ["keys", "users", "names_given", "key_lives"] {
        if !has_table(db, table).await? {
            return Err(StoreError::Damaged(format!("it has no table {table}")));
        }
    }
    let has_states = has_table(db, "account_states").await?;
    let has_uploads = has_table(db, "uploaded_keys").await?;
    sqlx::query("ATTACH ? AS copy").bind(name).execute(&mut *db).await.map_err(unavailable)?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await.map_err(unavailable)?;
    let carried = carry_into_copy(db, has_states, has_uploads).await;
    let end = if carried.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = sqlx::raw_sql(end).execute(&mut *db).await;
    sqlx::raw_sql("DETACH copy").execute(db).await.map_err(unavailable)?;
    ended.map_err(unavailable)?;
    carried.map_err(unavailable)
}

async fn carry_into_copy(
    db: &mut SqliteConnection,
    has_states: bool,
    has_uploads: bool,
) -> Result<CarriedOver, sqlx::Error> {
    sqlx::raw_sql(
        "UPDATE copy.sqlite_sequence SET seq = max(seq, coalesce(
             (SELECT old.seq FROM main.sqlite_sequence AS old WHERE old.name = copy.sqlite_sequence.name), 0));
         INSERT INTO copy.sqlite_sequence (name, seq)
             SELECT name, seq FROM main.sqlite_sequence
             WHERE name NOT IN (SELECT name FROM copy.sqlite_sequence)
               AND name IN (SELECT name FROM copy.sqlite_schema WHERE type = 'table');
         UPDATE copy.key_lives SET
             signs_since = coalesce(key_lives.signs_since, old.signs_since),
             expired_at = coalesce(key_lives.expired_at, old.expired_at),
             revoked_at = coalesce(key_lives.revoked_at, old.revoked_at)
         FROM main.key_lives AS old WHERE old.kid = key_lives.kid;",
    )
    .execute(&mut *db)
    .await?;
    let keys = carry_keys(db).await?;
    if has_uploads {
        // Keys of others: what was withdrawn stays so, what came since would not open under another master key.
        let of_now = if keys {
            "DELETE FROM copy.uploaded_keys; INSERT INTO copy.uploaded_keys SELECT * FROM main.uploaded_keys"
        } else {
            "DELETE FROM copy.uploaded_keys WHERE kid NOT IN (SELECT kid FROM main.uploaded_keys)"
        };
        sqlx::raw_sql(of_now).execute(&mut *db).await?;
    }
    let accounts = if has_states { carry_states(db).await? } else { 0 };
    // Last, because a deleted account takes its new name by itself.
    sqlx::query("INSERT OR IGNORE INTO copy.names_given (name) SELECT name FROM main.names_given")
        .execute(db)
        .await?;
    Ok(CarriedOver::All { keys, accounts })
}

/// Keys that were made since, because tokens of theirs are out, and keys that were sealed anew to end earlier. Under another master key, they would not open.
async fn carry_keys(db: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let is_same: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM main.master_key AS old JOIN copy.master_key AS new
                        ON old.salt = new.salt AND old.check_value = new.check_value)",
    )
    .fetch_one(&mut *db)
    .await?;
    if is_same {
        sqlx::raw_sql(
            "UPDATE copy.keys SET key = old.key, exp = old.exp
                 FROM main.keys AS old JOIN main.key_lives AS life ON life.kid = old.kid
                 WHERE old.kid = keys.kid AND life.expired_at IS NOT NULL AND old.exp < keys.exp;
             INSERT INTO copy.keys SELECT * FROM main.keys
                 WHERE kid IN (SELECT kid FROM main.key_lives) AND kid NOT IN (SELECT kid FROM copy.key_lives);
             INSERT INTO copy.key_lives (kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at)
                 SELECT kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at
                 FROM main.key_lives WHERE kid NOT IN (SELECT kid FROM copy.key_lives);",
        )
        .execute(db)
        .await?;
    }
    Ok(is_same)
}

/// Accounts that were disabled or deleted since. The same number is the same account if it was made at the same time.
async fn carry_states(db: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "CREATE TEMP TABLE carried AS
         SELECT state.user_id AS id, state.disabled_at, state.deleted_at, gone.username
         FROM main.account_states AS state
         JOIN main.users AS gone ON gone.id = state.user_id
         JOIN copy.users AS back ON back.id = gone.id AND back.date_registered = gone.date_registered
         LEFT JOIN copy.account_states AS known ON known.user_id = state.user_id
         WHERE (state.disabled_at IS NOT NULL AND known.disabled_at IS NULL)
            OR (state.deleted_at IS NOT NULL AND known.deleted_at IS NULL)",
    )
    .execute(&mut *db)
    .await?;
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM carried").fetch_one(&mut *db).await?;
    sqlx::raw_sql(
        "UPDATE copy.users SET username = carried.username, password_hash = '', email = NULL, last_login = NULL
             FROM carried WHERE carried.id = users.id AND carried.deleted_at IS NOT NULL;
         INSERT INTO copy.account_states (user_id, disabled_at, deleted_at)
             SELECT id, disabled_at, deleted_at FROM carried WHERE true
             ON CONFLICT (user_id) DO UPDATE SET
                 disabled_at = coalesce(disabled_at, excluded.disabled_at), deleted_at = excluded.deleted_at;
         DROP TABLE carried",
    )
    .execute(db)
    .await?;
    Ok(u64::try_from(accounts).unwrap_or(0))
}

/// Has the numbers of a copy go on far ahead.
async fn leap(copy: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(copy).disable_statement_logging();
    let mut db = options.connect().await.map_err(unavailable)?;
    sqlx::query(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'users', 0
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users')",
    )
    .execute(&mut db)
    .await
    .map_err(unavailable)?;
    sqlx::query("UPDATE sqlite_sequence SET seq = seq + ? WHERE name IN ('keys', 'users')")
        .bind(LEAP)
        .execute(&mut db)
        .await
        .map_err(unavailable)?;
    db.close().await.map_err(unavailable)
}

/// Gives the copy the owner and the mode of the store that it replaces, or the owner of the directory: whoever restores may
/// be root, and the server is not.
#[cfg(unix)]
fn belong_to_owner_of(store: &Path, copy: &tempfile::NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let present = match store.metadata() {
        Ok(present) => {
            fs::set_permissions(copy.path(), present.permissions())?;
            present
        }
        Err(_) => directory_of(store).metadata()?,
    };
    let own = copy.as_file().metadata()?;
    if (own.uid(), own.gid()) == (present.uid(), present.gid()) {
        return Ok(());
    }
    chown(copy.path(), Some(present.uid()), Some(present.gid()))
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
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
        fs::File::open(directory_of(file))?.sync_all()?;
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
