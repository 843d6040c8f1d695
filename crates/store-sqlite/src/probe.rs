//! A first look into the file of a store, read-only and before anything is written.

use sqlx::{Connection as _, SqliteConnection};

use super::compatibility::{expect_numbers_left, expect_usable_tables};
use super::error::{failed, in_words};
use super::file::DatabaseFile;
use super::references::{self, ForbiddingReference};
use super::schema::{self, expect_known_version, has_table};
use super::schema_check::{self, SchemaFault};
use super::{accounts, keys, rehearsal};
use jwksd_core::store::{MasterKeyRecord, StoreError};

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

/// Reads one state of the file: another process may be migrating it, and half of each state would look like damage.
async fn probe(db: &mut SqliteConnection) -> Result<Probe, StoreError> {
    let mut state = db.begin().await.map_err(failed)?;
    let probed = probe_state(&mut state).await?;
    state.rollback().await.map_err(failed)?;
    Ok(probed)
}

async fn probe_state(db: &mut SqliteConnection) -> Result<Probe, StoreError> {
    expect_usable_tables(db).await?;
    expect_known_version(db).await?;
    let contents = contents(db).await?;
    let is_ours = matches!(contents, Contents::Ours(_));
    // In a store of ours, a row of another program is only left out.
    if !is_ours {
        expect_numbers_left(db).await?;
    }
    let schema = schema_check::compare(db).await?;
    let mut faults = schema.faults;
    // Objects that are refused anyway could do anything in the trial, too.
    if let Some(our_tables) = schema.our_tables
        && !faults.iter().any(SchemaFault::is_serious)
    {
        let references = references::forbidding(db, &our_tables).await?;
        match references.first() {
            Some(first) if !is_ours => {
                let ForbiddingReference { what, way_out } = first;
                return Err(StoreError::Foreign(format!("{what}: nothing was changed; {way_out}")));
            }
            // A store of ours goes on without what the reference forbids. The trial would only find it again.
            Some(_) => faults.extend(references.into_iter().map(SchemaFault::reference)),
            None if schema.is_writable => {}
            None => {
                faults.extend(rehearsal::expect_writable(db).await?.into_iter().map(SchemaFault::forbids));
            }
        }
    }
    Ok(Probe {
        has_accounts: has_table(db, "users").await? && accounts::any(db).await?,
        contents,
        schema_faults: faults,
    })
}

async fn contents(db: &mut SqliteConnection) -> Result<Contents, StoreError> {
    // Without migrations, a table of this name is another program's. One without a row: the process ended after the
    // migration and before it sealed anything.
    if schema::version(db).await?.is_some()
        && has_table(db, "master_key").await?
        && let Some(record) = keys::master_key_before_migration(db).await.map_err(not_as_made)?
    {
        return Ok(Contents::Ours(record));
    }
    let has_keys = has_table(db, "keys").await? && keys::any(db).await?;
    Ok(if has_keys { Contents::Foreign } else { Contents::Nothing })
}

/// SQLite's words for a missing column would say nothing to an operator.
fn not_as_made(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(_) => {
            StoreError::Corrupt(format!("its table master_key is different ({})", in_words(&error)))
        }
        other => other,
    }
}
