//! A first look into the file of a store, read-only and before anything is written.

use sqlx::SqliteConnection;

use super::compatibility::{expect_numbers_left, expect_usable_tables};
use super::file::DatabaseFile;
use super::schema::{expect_known_version, has_table};
use super::schema_check::{self, SchemaFault};
use super::{accounts, keys, references, rehearsal};
use crate::store::{MasterKeyRecord, StoreError};

/// Maximum number of differences in a refusal.
const MAX_FAULTS: usize = 10;

/// What is in the file of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whose keys are in it.
    pub contents: Contents,
    /// Whether there are accounts.
    pub has_accounts: bool,
    /// How its schema differs from what the migrations make.
    pub schema_faults: Vec<SchemaFault>,
}

impl Probe {
    /// No file.
    fn nothing() -> Self {
        Self { contents: Contents::Nothing, has_accounts: false, schema_faults: Vec::new() }
    }

    /// Why the file must not be used, in words. Checked before anything is written, because a trigger of another program
    /// runs with what we write.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let serious: Vec<_> = self.schema_faults.iter().filter(|fault| fault.is_serious()).collect();
        let listed: Vec<_> = serious.iter().take(MAX_FAULTS).map(ToString::to_string).collect();
        (!listed.is_empty()).then(|| listed.join("; "))
    }
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

impl DatabaseFile {
    /// Looks into the file without writing to it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a file that is not a database, and for one that a newer jwksd made;
    /// [`StoreError::Foreign`] for one of another program that cannot be taken over.
    pub async fn probe(&self) -> Result<Probe, StoreError> {
        match self.path().metadata() {
            Ok(file) if file.is_file() => self.read(probe).await,
            Ok(other) => Err(StoreError::Foreign(format!(
                "it is {}: nothing was changed; name a file in DATABASE_URL",
                if other.is_dir() { "a directory" } else { "not a file" }
            ))),
            // SQLite would only report that it cannot open the file.
            Err(_) if self.path().symlink_metadata().is_ok() => {
                Err(StoreError::Corrupt("it is a link to a file that does not exist".to_owned()))
            }
            Err(_) => Ok(Probe::nothing()),
        }
    }
}

async fn probe(db: &mut SqliteConnection) -> Result<Probe, StoreError> {
    expect_usable_tables(db).await?;
    expect_known_version(db).await?;
    let contents = contents(db).await?;
    // In a store of ours, a row of another program is only left out.
    if !matches!(contents, Contents::Ours(_)) {
        expect_numbers_left(db).await?;
    }
    let schema = schema_check::compare(db).await?;
    // Objects that are refused anyway could do anything in the trial, too.
    if let Some(our_tables) = schema.our_tables
        && !schema.faults.iter().any(SchemaFault::is_serious)
    {
        references::expect_harmless(db, &our_tables).await?;
        if !schema.is_writable {
            rehearsal::expect_writable(db).await?;
        }
    }
    Ok(Probe {
        has_accounts: has_table(db, "users").await? && accounts::any(db).await?,
        contents,
        schema_faults: schema.faults,
    })
}

async fn contents(db: &mut SqliteConnection) -> Result<Contents, StoreError> {
    // A table without a row: the process ended after the migration and before it sealed anything.
    if has_table(db, "master_key").await?
        && let Some(record) = keys::master_key_before_migration(db).await?
    {
        return Ok(Contents::Ours(record));
    }
    let has_keys = has_table(db, "keys").await? && keys::any(db).await?;
    Ok(if has_keys { Contents::Foreign } else { Contents::Nothing })
}
