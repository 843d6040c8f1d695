//! Foreign keys of other programs' tables that refer to ours.
//!
//! A key, and a sign-in in `auth_logs`, is deleted when its retention is over. A reference without `ON DELETE` would forbid
//! that: SQLite refuses to delete a row that another one refers to.

use std::collections::HashSet;

use sqlx::{FromRow, SqliteConnection};

use super::error::failed;
use super::text::lossy;
use jwksd_core::store::StoreError;

/// One column of a foreign key.
#[derive(Debug, FromRow)]
struct Row {
    child: Vec<u8>,
    column: Vec<u8>,
    parent: Vec<u8>,
    target: Option<Vec<u8>>,
    on_delete: String,
    on_update: String,
    can_be_null: bool,
    has_default: bool,
}

#[derive(Debug)]
struct Reference {
    /// The table that refers, and its column.
    child: String,
    column: String,
    /// The table that it refers to, and its column; nothing for the primary key.
    parent: String,
    target: Option<String>,
    on_delete: String,
    on_update: String,
    /// Whether the column accepts NULL.
    can_be_null: bool,
    has_default: bool,
}

/// A reference that forbids what jwksd does to its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForbiddingReference {
    /// The table, its column, and what jwksd cannot do.
    pub(super) what: String,
    /// What the operator can change.
    pub(super) way_out: String,
}

/// All of them. `ours` are the names of the tables that the migrations make.
pub(super) async fn forbidding(
    db: &mut SqliteConnection,
    ours: &HashSet<String>,
) -> Result<Vec<ForbiddingReference>, StoreError> {
    let references = read(db).await?;
    let is_ours = |table: &str| ours.contains(&table.to_ascii_lowercase());
    let of_others = references.iter().filter(|it| is_ours(&it.parent) && !is_ours(&it.child));
    let forbidding = of_others.filter_map(|reference| {
        let (act, way_out) = reference.forbids(&references)?;
        let Reference { child, column, .. } = reference;
        let parent = reference.parent.to_ascii_lowercase();
        Some(ForbiddingReference {
            what: format!("its table {child} refers to {parent} with its column {column}, so jwksd could not {act} there"),
            way_out: format!("{way_out}, or drop the table {child}"),
        })
    });
    Ok(forbidding.collect())
}

async fn read(db: &mut SqliteConnection) -> Result<Vec<Reference>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT CAST(child.name AS BLOB) AS child, CAST(part.\"from\" AS BLOB) AS \"column\",
                CAST(part.\"table\" AS BLOB) AS parent, CAST(part.\"to\" AS BLOB) AS target,
                part.on_delete, part.on_update,
                coalesce(NOT declared.\"notnull\" AND NOT declared.pk, 0) AS can_be_null,
                declared.dflt_value IS NOT NULL AS has_default
         FROM pragma_table_list AS child, pragma_foreign_key_list(child.name) AS part
         LEFT JOIN pragma_table_info(child.name) AS declared ON declared.name = part.\"from\" COLLATE NOCASE
         WHERE child.schema = 'main'
         ORDER BY child.name, part.id, part.seq",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(Row::reference).collect())
}

impl Row {
    fn reference(self) -> Reference {
        Reference {
            child: lossy(self.child),
            column: lossy(self.column),
            parent: lossy(self.parent),
            target: self.target.map(lossy),
            on_delete: self.on_delete,
            on_update: self.on_update,
            can_be_null: self.can_be_null,
            has_default: self.has_default,
        }
    }
}

impl Reference {
    /// What jwksd does to rows of the parent that this reference forbids, and the way out.
    fn forbids(&self, all: &[Self]) -> Option<(&'static str, &'static str)> {
        let (act, primary_key, is_deleted) = match &*self.parent.to_ascii_lowercase() {
            "keys" => ("seal keys again", "kid", true),
            // An account that is deleted leaves its row.
            "users" => ("change accounts", "id", false),
            "auth_logs" => ("change sign-ins", "id", true),
            _ => return Some(("change rows", "drop that reference")),
        };
        let is_by_number = self.target.as_ref().is_none_or(|column| column.eq_ignore_ascii_case(primary_key));
        if !is_by_number && !self.allows(&self.on_update) {
            return Some((act, "declare that reference with ON UPDATE CASCADE"));
        }
        let is_forbidden = is_deleted && self.forbids_deletion(all, &mut HashSet::new());
        is_forbidden
            .then_some(("delete rows", "declare that reference with ON DELETE CASCADE or ON DELETE SET NULL"))
    }

    fn allows(&self, action: &str) -> bool {
        match action {
            "CASCADE" => true,
            "SET NULL" => self.can_be_null,
            // Without a default that is NULL. Any other one would have to be in the parent.
            "SET DEFAULT" => self.can_be_null && !self.has_default,
            _ => false,
        }
    }

    /// Whether a row of the parent cannot be deleted. A row that is deleted along may be referred to as well.
    fn forbids_deletion(&self, all: &[Self], seen: &mut HashSet<String>) -> bool {
        if !self.allows(&self.on_delete) {
            return true;
        }
        let child = self.child.to_ascii_lowercase();
        self.on_delete == "CASCADE"
            && seen.insert(child)
            && all
                .iter()
                .filter(|other| other.parent.eq_ignore_ascii_case(&self.child))
                .any(|other| other.forbids_deletion(all, seen))
    }
}
