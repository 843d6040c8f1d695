//! Whether the schema of a file is the one that the migrations make.
//!
//! A trigger runs with each write of ours, and a view can take the place of a table: with them, an attacker who could write to
//! the file once keeps an influence. Tables and indexes of other programs may stay, because nothing of ours reads them.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::{Connection as _, SqliteConnection};

use super::error::{failed, unavailable};
use super::schema::{MIGRATIONS, has_table, newest_schema};
use super::text::lossy;
use crate::store::StoreError;

/// The digest of the objects that the migrations make. A test computes it and names the new value when it changes.
const NEWEST_DIGEST: &str = "OoOJ0pw5uoFwwKeDhkii4FwRbxbZUzAQIUJKhfaRUok";

/// A difference between the schema of a file and what the migrations make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault(Difference);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference {
    /// An object of another program: its kind and its name.
    Foreign(String, String),
    /// A migration that is not recorded as we know it.
    Migration(i64),
    /// An object of ours that is missing or different: its kind and its name.
    NotOurs(String, String),
}

impl SchemaFault {
    /// Whether it could change what is stored or read. A missing index only costs time.
    pub(crate) fn is_serious(&self) -> bool {
        !matches!(&self.0, Difference::NotOurs(kind, _) if kind == "index")
    }
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RESTORE: &str = "replace it by a backup with `jwksd restore`";
        match &self.0 {
            Difference::Foreign(kind, name) => write!(
                f,
                "its {kind} {name:?} was not made by jwksd, and can change what is stored: find out what it has done, then \
                 run the SQL `DROP {} \"{}\"`",
                kind.to_uppercase(),
                name.replace('"', "\"\"")
            ),
            Difference::Migration(version) => {
                write!(f, "step {version} of its schema is missing, incomplete or different: {RESTORE}")
            }
            Difference::NotOurs(kind, name) => {
                write!(f, "its {kind} {name} is missing or different: {RESTORE}")
            }
        }
    }
}

/// All differences. A file of another program has no migrations, so none of their objects are missing.
pub(super) async fn faults(db: &mut SqliteConnection) -> Result<Vec<SchemaFault>, StoreError> {
    let present = objects(db).await?;
    let (version, mut faults) = migrations(db).await?;
    if version.is_none() && !present.iter().any(Object::is_active) {
        // Most often a new file: the migrations would be run for nothing.
        return Ok(Vec::new());
    }
    // Running all migrations for comparison takes most of the time of a restart.
    if version == Some(newest_schema()) && faults.is_empty() && digest(&present) == NEWEST_DIGEST {
        return Ok(Vec::new());
    }
    let newest = objects(&mut new_store(newest_schema()).await?).await?;
    let expected = match version {
        Some(version) if !faults.is_empty() || version == newest_schema() => newest.clone(),
        Some(version) => objects(&mut new_store(version).await?).await?,
        None => HashSet::new(),
    };
    // With a migration that we do not know, objects of it would only be listed a second time.
    let missing: BTreeSet<_> =
        if faults.is_empty() { expected.difference(&present).collect() } else { BTreeSet::new() };
    let is_missing =
        |it: &Object| missing.iter().any(|gone| (&gone.kind, &gone.name) == (&it.kind, &it.name));
    let is_ours = |it: &Object| expected.contains(it) || newest.contains(it);
    // One of ours that was changed is named once, as such.
    let is_foreign = |it: &&Object| it.is_active() && !is_ours(it) && !is_missing(it);
    let foreign: BTreeSet<_> = present.iter().filter(is_foreign).collect();
    let named = |it: &Object| (it.kind.clone(), it.name.clone());
    faults.extend(missing.into_iter().map(named).map(|(kind, name)| Difference::NotOurs(kind, name)));
    faults.extend(foreign.into_iter().map(named).map(|(kind, name)| Difference::Foreign(kind, name)));
    Ok(faults.into_iter().map(SchemaFault).collect())
}

/// The version of the schema, and the migrations up to it that are not recorded as we know them.
async fn migrations(db: &mut SqliteConnection) -> Result<(Option<i64>, Vec<Difference>), StoreError> {
    if !has_table(db, "_sqlx_migrations").await? {
        return Ok((None, Vec::new()));
    }
    let taken: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *db)
            .await
            .map_err(failed)?;
    let Some((last, ..)) = taken.last() else {
        return Ok((None, Vec::new()));
    };
    let is_taken = |known: &sqlx::migrate::Migration| {
        taken.iter().any(|(version, checksum, success)| {
            *version == known.version && *success && checksum[..] == *known.checksum
        })
    };
    // Later steps are not missing: the file is older, and a server that opens it migrates it.
    let steps = MIGRATIONS.iter().filter(|known| known.version <= *last && !is_taken(known));
    Ok((Some(*last), steps.map(|known| Difference::Migration(known.version)).collect()))
}

/// A new store of this version, in memory.
async fn new_store(version: i64) -> Result<SqliteConnection, StoreError> {
    // Made by the migrations themselves, so that a list of expected objects cannot get out of date.
    let mut db = SqliteConnection::connect("sqlite::memory:").await.map_err(failed)?;
    MIGRATIONS.run_direct(Some(version), &mut db, false).await.map_err(unavailable)?;
    Ok(db)
}

/// A row of `sqlite_schema`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

impl Object {
    /// Whether it runs with what we write, or can stand in the place of a table.
    fn is_active(&self) -> bool {
        self.kind == "trigger" || self.kind == "view"
    }
}

/// `type`, `name`, `tbl_name`, `sql`.
type ObjectRow = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

/// Everything in the schema, except the tables of the course: another program may have brought those.
async fn objects(db: &mut SqliteConnection) -> Result<HashSet<Object>, StoreError> {
    // CAST, because a file that was written by hand may hold anything here. An index without SQL belongs to a constraint.
    let rows: Vec<ObjectRow> = sqlx::query_as(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(coalesce(sql, '') AS BLOB)
         FROM sqlite_schema
         WHERE (sql IS NOT NULL OR type <> 'index')
           AND (type <> 'table' OR name NOT IN ('keys', 'users', 'auth_logs', '_sqlx_migrations'))",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let object = |(kind, name, table, sql): ObjectRow| Object {
        kind: lossy(kind),
        name: lossy(name),
        table: lossy(table),
        sql: lossy(sql),
    };
    Ok(rows.into_iter().map(object).collect())
}

/// SHA-256 in base64url over all objects.
fn digest(objects: &HashSet<Object>) -> String {
    let mut context = Context::new(&SHA256);
    for Object { kind, name, table, sql } in objects.iter().collect::<BTreeSet<_>>() {
        for text in [kind, name, table, sql] {
            // With its length, so that no two lists of texts are written in the same way.
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
    }
    URL_SAFE_NO_PAD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_digest_is_that_of_the_newest_schema() {
        let newest = objects(&mut new_store(newest_schema()).await.unwrap()).await.unwrap();
        assert_eq!(digest(&newest), NEWEST_DIGEST);
    }
}
