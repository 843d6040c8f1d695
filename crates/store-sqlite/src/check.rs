//! A thorough read-only look into the file of a store: its integrity and its contents.

use sqlx::SqliteConnection;

use super::course_tables::CourseTables;
use super::error::failed;
use super::file::DatabaseFile;
use super::schema::{self, has_table};
use super::schema_check::{self, SchemaFault};
use super::{accounts, keys};
use jwksd_core::clock::Timestamp;
use jwksd_core::key::Kid;
use jwksd_core::key::lifecycle::{KeyMetadata, RotationTimes};
use jwksd_core::password::HashCost;
use jwksd_core::store::{InvalidExpKey, SealedExternalKey, SealedKey, StoreError};

/// Maximum number of lines that `quick_check` and `integrity_check` report.
const MAX_COMPLAINTS: usize = 10;

/// What is in the file of a store.
#[derive(Debug)]
pub struct Inspection {
    /// The version of its schema; nothing if another program made it.
    pub schema: Option<i64>,
    /// What SQLite's integrity check complains about, at most ten lines.
    pub complaints: Vec<String>,
    /// How its schema differs from what the migrations make.
    pub schema_faults: Vec<SchemaFault>,
    /// The costs of the password hashes, each with its number of accounts.
    pub costs: Vec<(HashCost, i64)>,
    /// How many rows there are.
    pub counts: Counts,
    /// How many accounts have a hash that no password matches. Deleted ones do not count.
    pub unusable_hashes: u64,
    /// Every row of `keys` with an `exp` that is believed.
    pub keys: Vec<SealedKey>,
    /// Every other row of `keys`.
    pub invalid_exp: Vec<InvalidExpKey>,
    /// The rotation policy of the server that started last.
    pub policy: Option<RotationTimes>,
    /// The external keys whose rows can be read.
    pub external: Vec<SealedExternalKey>,
    /// How many rows of external keys there are.
    pub external_rows: i64,
    /// What is recorded about the keys.
    pub key_metadata: Vec<KeyMetadata>,
    /// The newest key that has ever signed.
    pub newest_signer: Option<Kid>,
    /// The latest time recorded in it.
    pub latest: Option<Timestamp>,
}

/// How many rows the tables of the course have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Keys, including expired ones.
    pub keys: i64,
    /// Accounts, including deleted ones.
    pub accounts: i64,
    /// Rows of `auth_logs`.
    pub sign_ins: i64,
}

/// How thorough a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Reads the rows. Does not check integrity.
    Rows,
    /// Also checks every page (`quick_check`).
    Quick,
    /// Also checks every row of every index (`integrity_check`).
    Full,
}

impl DatabaseFile {
    /// Looks at everything in the file without writing to it.
    ///
    /// # Errors
    /// As [`DatabaseFile::probe`]; also when there is no file.
    pub async fn inspect(&self, depth: Depth) -> Result<Inspection, StoreError> {
        self.read(async |db| {
            CourseTables::read(db).await?.expect_names()?;
            inspect(db, depth).await
        })
        .await
    }
}

async fn inspect(db: &mut SqliteConnection, depth: Depth) -> Result<Inspection, StoreError> {
    // A backup may be older than a table, or come from another program.
    let has_metadata = has_table(db, "key_lives").await?;
    let has_external = has_table(db, "uploaded_keys").await?;
    let key_metadata = if has_metadata { keys::metadata_before_migration(db).await? } else { Vec::new() };
    let (keys, invalid_exp) =
        if has_table(db, "keys").await? { keys::rows(db, has_metadata).await? } else { Default::default() };
    Ok(Inspection {
        external: if has_external { keys::external(db).await? } else { Vec::new() },
        external_rows: if has_external { external_rows(db).await? } else { 0 },
        schema: schema::version(db).await?,
        complaints: complaints(db, depth).await?,
        schema_faults: schema_check::compare(db).await?.faults,
        costs: costs(db).await?,
        counts: counts(db).await?,
        unusable_hashes: if has_table(db, "users").await? { accounts::unusable_hashes(db).await? } else { 0 },
        keys,
        invalid_exp,
        policy: keys::policy_before_migration(db).await?,
        key_metadata,
        newest_signer: if has_metadata { keys::newest_signer(db).await? } else { None },
        latest: latest(db, has_metadata).await?,
    })
}

async fn complaints(db: &mut SqliteConnection, depth: Depth) -> Result<Vec<String>, StoreError> {
    let check = match depth {
        Depth::Rows => return Ok(Vec::new()),
        Depth::Quick => "PRAGMA quick_check(10)",
        Depth::Full => "PRAGMA integrity_check(10)",
    };
    // A check that fails is a complaint itself: the file cannot be read.
    let mut found: Vec<String> = match sqlx::query_scalar(check).fetch_all(db).await {
        Ok(lines) => lines,
        Err(error) => vec![error.to_string()],
    };
    found.retain(|line| line != "ok");
    found.truncate(MAX_COMPLAINTS);
    Ok(found)
}

async fn costs(db: &mut SqliteConnection) -> Result<Vec<(HashCost, i64)>, StoreError> {
    if !has_table(db, "hash_costs").await? {
        return Ok(Vec::new());
    }
    let costs: Vec<(String, i64)> =
        sqlx::query_as("SELECT cost, accounts FROM hash_costs WHERE accounts > 0 ORDER BY cost")
            .fetch_all(db)
            .await
            .map_err(failed)?;
    Ok(costs.into_iter().map(|(cost, accounts)| (HashCost(cost), accounts)).collect())
}

async fn counts(db: &mut SqliteConnection) -> Result<Counts, StoreError> {
    if !has_table(db, "auth_logs").await? {
        return Ok(Counts { keys: 0, accounts: 0, sign_ins: 0 });
    }
    let (keys, accounts, sign_ins) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM keys), (SELECT count(*) FROM users), (SELECT count(*) FROM auth_logs)",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    Ok(Counts { keys, accounts, sign_ins })
}

async fn external_rows(db: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(*) FROM uploaded_keys").fetch_one(db).await.map_err(failed)
}

async fn latest(db: &mut SqliteConnection, has_metadata: bool) -> Result<Option<Timestamp>, StoreError> {
    let mut latest: Option<i64> = None;
    if has_metadata {
        latest = sqlx::query_scalar("SELECT max(made_at) FROM key_lives")
            .fetch_one(&mut *db)
            .await
            .map_err(failed)?;
    }
    if has_table(db, "auth_logs").await? {
        // The last row and not max(): there, one odd value of another program would hide all others.
        let signed_in: Option<i64> = sqlx::query_scalar(
            "SELECT unixepoch(request_timestamp) * 1000 FROM auth_logs ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(db)
        .await
        .map_err(failed)?
        .flatten();
        latest = latest.max(signed_in);
    }
    Ok(latest.map(Timestamp::from_millis))
}

pub(super) async fn size(db: &mut SqliteConnection) -> Result<u64, StoreError> {
    let bytes: i64 =
        sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            .fetch_one(db)
            .await
            .map_err(failed)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
