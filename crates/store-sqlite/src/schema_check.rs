//! Whether the schema of a file is the one that the migrations make.
//!
//! A trigger runs with each write of ours, and a view can take the place of a table: with them, an attacker who could write to
//! the file once keeps an influence. An index can forbid what we write. Other tables, and indexes that forbid nothing, may
//! stay, because nothing of ours reads them.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::{Connection as _, SqliteConnection};

use super::error::{failed, unavailable};
use super::references::ForbiddingReference;
use super::rehearsal::ForbiddenAct;
use super::schema::{MIGRATIONS, MIGRATIONS_TABLE, has_table, newest_schema};
use super::text::lossy;
use super::unique_indexes::{self, ExcessiveIndex};
use jwksd_core::store::StoreError;

/// The tables of the course, which another program may have made.
const COURSE_TABLES: [&str; 3] = ["keys", "users", "auth_logs"];

/// The digest of the objects that the migrations make. A test computes it and names the new value when it changes.
const NEWEST_DIGEST: &str = "cWptYbYhOUm5ivAw4O6iemvHziZwtfS3jvLzHrF0QPQ";

/// The digest of the three tables of the course, as the first migration declares them.
const COURSE_DIGEST: &str = "1r9MjgWw81eUbigaP1nIV4pEN5JI2NTLlJFnfHWYUjM";

/// A schema, compared with what the migrations make.
#[derive(Debug)]
pub(super) struct Comparison {
    /// All differences that can matter.
    pub(super) faults: Vec<SchemaFault>,
    /// The names of our tables in lower case. Nothing if the file has only objects of ours, as we have made them.
    pub(super) our_tables: Option<HashSet<String>>,
    /// Whether all tables that we write are as we have made them, so that nothing in them can forbid a write.
    pub(super) is_writable: bool,
}

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
    /// A rule of another program that forbids what only some requests and commands ask for.
    Forbids(ForbiddenAct),
    /// A reference of another program's table that forbids what jwksd does to its rows.
    Reference(ForbiddingReference),
    /// A UNIQUE constraint of another program in a table of the course: the table and its columns.
    Unique(String, String),
}

impl SchemaFault {
    pub(super) const fn forbids(act: ForbiddenAct) -> Self {
        Self(Difference::Forbids(act))
    }

    pub(super) const fn reference(reference: ForbiddingReference) -> Self {
        Self(Difference::Reference(reference))
    }

    /// Whether it could change what is stored or read. A missing index only costs time, and a reference can only forbid that
    /// rows are deleted or changed.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        match &self.0 {
            Difference::NotOurs(kind, _) => kind != "index",
            Difference::Forbids(_) | Difference::Reference(_) => false,
            Difference::Foreign(..) | Difference::Migration(_) | Difference::Unique(..) => true,
        }
    }

    /// Whether the operator may leave it as it is.
    #[must_use]
    pub const fn is_acceptable(&self) -> bool {
        matches!(self.0, Difference::Forbids(_))
    }
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RESTORE: &str = "replace it by a backup with `jwksd restore`";
        match &self.0 {
            Difference::Foreign(kind, name) => {
                let risk = if kind == "index" { "forbid" } else { "change" };
                write!(
                    f,
                    "its {kind} {name:?} was not made by jwksd, and can {risk} what is stored: find out what it has done, \
                     then run the SQL `DROP {} \"{}\"`",
                    kind.to_uppercase(),
                    name.replace('"', "\"\"")
                )
            }
            Difference::Migration(version) => {
                write!(f, "step {version} of its schema is missing, incomplete or different: {RESTORE}")
            }
            Difference::NotOurs(kind, name) => {
                write!(f, "its {kind} {name} is missing or different: {RESTORE}")
            }
            Difference::Forbids(ForbiddenAct { act, why }) => {
                write!(f, "its tables do not let jwksd {act} ({why}): change them if that is needed")
            }
            Difference::Reference(ForbiddingReference { what, way_out }) => write!(f, "{what}: {way_out}"),
            Difference::Unique(table, columns) => write!(
                f,
                "its table {table} declares UNIQUE ({columns}), which can forbid what is stored: change that table, or name \
                 another file and add the keys of this one there with `jwksd keys import`"
            ),
        }
    }
}

/// Compares the schema. A file of another program has no migrations, so none of their objects are missing.
pub(super) async fn compare(db: &mut SqliteConnection) -> Result<Comparison, StoreError> {
    let (present, course) = (objects(db).await?, course_tables(db).await?);
    let (version, faults) = migrations(db).await?;
    let is_as_made = version == Some(newest_schema()) && digest(&present) == NEWEST_DIGEST;
    let is_empty = version.is_none() && present.is_empty() && course.is_empty();
    // Running all migrations for comparison takes most of the time of a restart.
    if faults.is_empty() && (is_empty || is_as_made && digest(&course) == COURSE_DIGEST) {
        return Ok(Comparison { faults: Vec::new(), our_tables: None, is_writable: true });
    }
    let newest = objects(&mut new_store(newest_schema()).await?).await?;
    let expected = match version {
        Some(version) if !faults.is_empty() || version == newest_schema() => newest.clone(),
        Some(version) => objects(&mut new_store(version).await?).await?,
        None => HashSet::new(),
    };
    let excessive = unique_indexes::excessive(db).await?;
    let side_tables = side_tables(&newest);
    let faults = differences(faults, &present, &expected, |it| {
        let is_ours = expected.contains(it) || newest.contains(it);
        !is_ours && (it.is_active() || it.is_unique_index_on(&side_tables) || it.is_one_of(&excessive))
    });
    let unique = excessive.into_iter().filter(|index| index.is_constraint);
    let unique = unique.map(|index| SchemaFault(Difference::Unique(index.table, index.columns)));
    let faults: Vec<_> = faults.into_iter().chain(unique).collect();
    let our_tables = side_tables.into_iter().chain(COURSE_TABLES.map(str::to_owned)).collect();
    let is_foreign_index = |it: &Object| it.is_index_on(&our_tables) && !newest.contains(it);
    let is_writable = version == Some(newest_schema())
        && faults.is_empty()
        && digest(&course) == COURSE_DIGEST
        && !present.iter().any(is_foreign_index);
    Ok(Comparison { faults, our_tables: Some(our_tables), is_writable })
}

/// The differences in both directions.
fn differences(
    mut faults: Vec<Difference>,
    present: &HashSet<Object>,
    expected: &HashSet<Object>,
    is_harmful: impl Fn(&Object) -> bool,
) -> Vec<SchemaFault> {
    // With a migration that we do not know, objects of it would only be listed a second time.
    let missing: BTreeSet<_> =
        if faults.is_empty() { expected.difference(present).collect() } else { BTreeSet::new() };
    let is_missing =
        |it: &Object| missing.iter().any(|gone| (&gone.kind, &gone.name) == (&it.kind, &it.name));
    // One of ours that was changed is named once, as such.
    let foreign: BTreeSet<_> = present.iter().filter(|it| is_harmful(it) && !is_missing(it)).collect();
    let named = |it: &Object| (it.kind.clone(), it.name.clone());
    faults.extend(missing.into_iter().map(named).map(|(kind, name)| Difference::NotOurs(kind, name)));
    faults.extend(foreign.into_iter().map(named).map(|(kind, name)| Difference::Foreign(kind, name)));
    faults.into_iter().map(SchemaFault).collect()
}

/// The names of the tables that only jwksd has, in lower case.
fn side_tables(newest: &HashSet<Object>) -> HashSet<String> {
    let tables = newest.iter().filter(|it| it.kind == "table" && it.name != "sqlite_sequence");
    tables.map(|it| it.name.to_ascii_lowercase()).chain([MIGRATIONS_TABLE.to_owned()]).collect()
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

    fn is_index_on(&self, tables: &HashSet<String>) -> bool {
        self.kind == "index" && tables.contains(&self.table)
    }

    /// Other indexes forbid nothing, unless they compute something: that is tried.
    fn is_unique_index_on(&self, tables: &HashSet<String>) -> bool {
        let kind = self.sql.split_ascii_whitespace().nth(1);
        self.is_index_on(tables) && kind.is_some_and(|kind| kind.eq_ignore_ascii_case("unique"))
    }

    fn is_one_of(&self, indexes: &[ExcessiveIndex]) -> bool {
        self.kind == "index" && indexes.iter().any(|index| index.name == self.name)
    }
}

/// `type`, `name`, `tbl_name`, `sql`.
type ObjectRow = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

impl From<ObjectRow> for Object {
    fn from((kind, name, table, sql): ObjectRow) -> Self {
        // SQLite records our index on the table of another program with that program's spelling, such as `Users`.
        let table = lossy(table).to_ascii_lowercase();
        Self { kind: lossy(kind), name: lossy(name), table, sql: lossy(sql) }
    }
}

/// Everything in the schema, except the tables of the course: another program may have brought those.
async fn objects(db: &mut SqliteConnection) -> Result<HashSet<Object>, StoreError> {
    // CAST, because a file that was written by hand may hold anything here. An index without SQL belongs to a constraint.
    let rows: Vec<ObjectRow> = sqlx::query_as(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(coalesce(sql, '') AS BLOB)
         FROM sqlite_schema
         WHERE (sql IS NOT NULL OR type <> 'index')
           AND (type <> 'table' OR lower(name) NOT IN ('keys', 'users', 'auth_logs', '_sqlx_migrations'))",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(Object::from).collect())
}

/// The tables of the course.
async fn course_tables(db: &mut SqliteConnection) -> Result<HashSet<Object>, StoreError> {
    let rows: Vec<ObjectRow> = sqlx::query_as(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(coalesce(sql, '') AS BLOB)
         FROM sqlite_schema WHERE type = 'table' AND lower(name) IN ('keys', 'users', 'auth_logs')",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(Object::from).collect())
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

    #[tokio::test]
    async fn the_digest_of_the_course_is_that_of_its_tables() {
        let course = course_tables(&mut new_store(1).await.unwrap()).await.unwrap();
        assert_eq!(digest(&course), COURSE_DIGEST);
    }
}
