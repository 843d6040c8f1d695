//! A thorough look into the file of a store, which changes nothing: is it whole, and what is in it.

use sqlx::{Connection as _, SqliteConnection};

use super::super::{SealedKey, StoreError, UploadedKey};
use super::files::{has_table, schema_version};
use super::{MIGRATIONS, keys, unavailable};
use crate::domain::clock::Timestamp;
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::password::HashCost;

/// How many complaints about one file are enough.
const COMPLAINTS: usize = 10;

/// What is in the file of a store.
#[derive(Debug)]
pub struct Inspection {
    /// The version of its schema; nothing if another program made it.
    pub schema: Option<i64>,
    /// What SQLite has to say against it, at most ten lines.
    pub complaints: Vec<String>,
    /// What is not as the steps that led to its schema have made it.
    pub schema_faults: Vec<String>,
    /// The costs that password hashes have, and of how many accounts.
    pub costs: Vec<(HashCost, i64)>,
    /// How many rows there are.
    pub counts: Counts,
    /// Every row of `keys`.
    pub keys: Vec<SealedKey>,
    /// Keys of others, those that can be read.
    pub uploaded: Vec<UploadedKey>,
    /// How many rows there are of them.
    pub uploaded_rows: i64,
    /// What is known of the keys' lives.
    pub lives: Vec<KeyMetadata>,
    /// The newest key that has ever signed.
    pub newest_signer: Option<Kid>,
    /// The latest time that it remembers.
    pub latest: Option<Timestamp>,
    /// Its size, as of what was written back.
    pub bytes: u64,
}

/// How many rows the tables of the course have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Keys, expired ones too.
    pub keys: i64,
    /// Accounts, deleted ones too.
    pub accounts: i64,
    /// Rows of `auth_logs`.
    pub sign_ins: i64,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// At what is in it, and not at whether it is whole.
    Rows,
    /// At every page.
    Quick,
    /// At every page, and at every row of every index.
    Full,
}

/// The version that a store has when this program has opened it.
#[must_use]
pub fn newest_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

pub(super) async fn inspect(db: &mut SqliteConnection, depth: Depth) -> Result<Inspection, StoreError> {
    let has_lives = has_table(db, "key_lives").await?;
    let has_uploads = has_table(db, "uploaded_keys").await?;
    Ok(Inspection {
        uploaded: if has_uploads { keys::uploaded(db).await? } else { Vec::new() },
        uploaded_rows: if has_uploads { uploaded_rows(db).await? } else { 0 },
        schema: schema_version(db).await?,
        complaints: complaints(db, depth).await?,
        schema_faults: schema_faults(db).await?,
        costs: costs(db).await?,
        counts: counts(db).await?,
        keys: if has_table(db, "keys").await? { keys::rows(db).await? } else { Vec::new() },
        lives: if has_lives { keys::lives(db).await? } else { Vec::new() },
        newest_signer: if has_lives { keys::newest_signer(db).await? } else { None },
        latest: latest(db, has_lives).await?,
        bytes: bytes(db).await?,
    })
}

async fn complaints(db: &mut SqliteConnection, depth: Depth) -> Result<Vec<String>, StoreError> {
    let check = match depth {
        Depth::Rows => return Ok(Vec::new()),
        Depth::Quick => "PRAGMA quick_check(10)",
        Depth::Full => "PRAGMA integrity_check(10)",
    };
    // What cannot be read at all is a complaint too.
    let mut found: Vec<String> = match sqlx::query_scalar(check).fetch_all(db).await {
        Ok(lines) => lines,
        Err(error) => vec![error.to_string()],
    };
    found.retain(|line| line != "ok");
    found.truncate(COMPLAINTS);
    Ok(found)
}

/// Compares the steps that were taken with those that we know, and if all were, what they made with a new store.
async fn schema_faults(db: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    if !has_table(db, "_sqlx_migrations").await? {
        return Ok(Vec::new());
    }
    let taken: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *db)
            .await
            .map_err(unavailable)?;
    let last = taken.last().map_or(0, |(version, ..)| *version);
    let mut faults = Vec::new();
    for known in MIGRATIONS.iter().filter(|known| known.version <= last) {
        let is_taken = |(version, checksum, success): &(i64, Vec<u8>, bool)| {
            *version == known.version && *success && checksum[..] == *known.checksum
        };
        if !taken.iter().any(is_taken) {
            faults.push(format!("step {} of its schema is missing, half done or another one", known.version));
        }
    }
    if faults.is_empty() && last == newest_schema() {
        let (made, found) = (objects(&mut new_store().await?).await?, objects(db).await?);
        let missing = made.iter().filter(|object| !found.contains(object));
        faults.extend(missing.map(|(kind, name, _)| format!("its {kind} {name} is missing or another one")));
    }
    Ok(faults)
}

async fn new_store() -> Result<SqliteConnection, StoreError> {
    let mut db = SqliteConnection::connect("sqlite::memory:").await.map_err(unavailable)?;
    MIGRATIONS.run_direct(None, &mut db, false).await.map_err(unavailable)?;
    Ok(db)
}

/// What the steps have made, but for the tables of the course: another program may have brought them.
async fn objects(db: &mut SqliteConnection) -> Result<Vec<(String, String, String)>, StoreError> {
    sqlx::query_as(
        "SELECT type, name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT IN ('keys', 'users', 'auth_logs', '_sqlx_migrations')",
    )
    .fetch_all(db)
    .await
    .map_err(unavailable)
}

async fn costs(db: &mut SqliteConnection) -> Result<Vec<(HashCost, i64)>, StoreError> {
    if !has_table(db, "hash_costs").await? {
        return Ok(Vec::new());
    }
    let costs: Vec<(String, i64)> =
        sqlx::query_as("SELECT cost, accounts FROM hash_costs WHERE accounts > 0 ORDER BY cost")
            .fetch_all(db)
            .await
            .map_err(unavailable)?;
    Ok(costs.into_iter().map(|(cost, accounts)| (HashCost(cost), accounts)).collect())
}

pub(super) async fn counts(db: &mut SqliteConnection) -> Result<Counts, StoreError> {
    if !has_table(db, "auth_logs").await? {
        return Ok(Counts { keys: 0, accounts: 0, sign_ins: 0 });
    }
    let (keys, accounts, sign_ins) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM keys), (SELECT count(*) FROM users), (SELECT count(*) FROM auth_logs)",
    )
    .fetch_one(db)
    .await
    .map_err(unavailable)?;
    Ok(Counts { keys, accounts, sign_ins })
}

async fn uploaded_rows(db: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(*) FROM uploaded_keys").fetch_one(db).await.map_err(unavailable)
}

async fn latest(db: &mut SqliteConnection, has_lives: bool) -> Result<Option<Timestamp>, StoreError> {
    let mut latest: Option<i64> = None;
    if has_lives {
        latest = sqlx::query_scalar("SELECT max(made_at) FROM key_lives")
            .fetch_one(&mut *db)
            .await
            .map_err(unavailable)?;
    }
    if has_table(db, "auth_logs").await? {
        let signed_in: Option<i64> = sqlx::query_scalar(
            "SELECT unixepoch(request_timestamp) * 1000 FROM auth_logs ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(db)
        .await
        .map_err(unavailable)?
        .flatten();
        latest = latest.max(signed_in);
    }
    Ok(latest.map(Timestamp::from_millis))
}

pub(super) async fn bytes(db: &mut SqliteConnection) -> Result<u64, StoreError> {
    let bytes: i64 =
        sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            .fetch_one(db)
            .await
            .map_err(unavailable)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
