//! A whole store as rows that every kind of store has: to move it from one to another, and to prove that nothing was lost.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use aws_lc_rs::digest::{self, SHA256};

use super::{KeySnapshot, StoreError};

/// Rows that are read or written at once.
const PAGE: u32 = 10_000;

/// What a store consists of, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Private keys, sealed: `kid`, the sealed key, `exp`.
    Keys,
    /// What has happened to each key, also to those that are deleted.
    KeyHistory,
    /// The thumbprints of revoked keys.
    RevokedThumbprints,
    /// Public keys of other issuers, sealed.
    ExternalKeys,
    /// Accounts, also disabled and deleted ones.
    Accounts,
    /// Every username ever given out that no account has any more, in lower case.
    ReservedUsernames,
    /// Sign-ins.
    SignIns,
    /// One row: the master key's record, the policy, the mode, and the greatest numbers that were ever given out.
    Store,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Keys,
        Self::KeyHistory,
        Self::RevokedThumbprints,
        Self::ExternalKeys,
        Self::Accounts,
        Self::ReservedUsernames,
        Self::SignIns,
        Self::Store,
    ];

    /// What it has, for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::KeyHistory => "key history",
            Self::RevokedThumbprints => "revoked thumbprints",
            Self::ExternalKeys => "external keys",
            Self::Accounts => "accounts",
            Self::ReservedUsernames => "reserved usernames",
            Self::SignIns => "sign-ins",
            Self::Store => "record of the store",
        }
    }

    /// The kinds of its columns. By the first one, a key without NULL, its rows are in order: numbers, or texts by their bytes.
    #[must_use]
    pub const fn columns(self) -> &'static [Kind] {
        use Kind::{Bytes, Number, Text};
        match self {
            // kid, sealed, exp
            Self::Keys => &[Number, Bytes, Number],
            // kid, created_at, published_at, activated_at, expired_at, revoked_at, deleted_at, is_taken_over, alg, kid_format,
            // sealed_under, signed_in_open_mode, thumbprint (of a key that is not deleted)
            Self::KeyHistory => &[
                Number, Number, Number, Number, Number, Number, Number, Number, Text, Text, Number, Number,
                Text,
            ],
            Self::RevokedThumbprints | Self::ReservedUsernames => &[Text],
            // kid, sealed, exp, added_at
            Self::ExternalKeys => &[Text, Bytes, Number, Number],
            // id, username, email, password_hash, registered_at, last_login (seconds), disabled_at, deleted_at, signed_out_at
            Self::Accounts => &[Number, Text, Text, Text, Number, Number, Number, Number, Number],
            // id, request_ip, at (seconds), user_id
            Self::SignIns => &[Number, Text, Number, Number],
            // 1; number, salt and check value of the master key; lifetime, retention, lead and token TTL of the policy; the mode;
            // the greatest numbers of keys, accounts and sign-ins
            Self::Store => {
                &[Number, Number, Bytes, Bytes, Number, Number, Number, Number, Text, Number, Number, Number]
            }
        }
    }
}

/// The kind of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integers of 64 bits; booleans as 0 and 1.
    Number,
    /// Text in UTF-8.
    Text,
    /// Bytes.
    Bytes,
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Of [`Kind::Number`].
    Number(i64),
    /// Of [`Kind::Text`].
    Text(String),
    /// Of [`Kind::Bytes`].
    Bytes(Vec<u8>),
}

/// A row, with a value for each column of its table.
pub type Row = Vec<Value>;

/// A store as it is at one moment, or as it is being written by one transaction.
#[async_trait]
pub trait StoreContent: Send {
    /// What no other store can hold, such as texts in place of times. Each is a sentence for the operator.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn obstacles(&mut self) -> Result<Vec<String>, StoreError>;

    /// How many rows a table has.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn count(&mut self, table: Table) -> Result<u64, StoreError>;

    /// The rows behind this one, in order, and at most so many.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn rows(&mut self, table: Table, after: Option<&Row>, at_most: u32)
    -> Result<Vec<Row>, StoreError>;

    /// All keys.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn keys(&mut self) -> Result<KeySnapshot, StoreError>;
}

/// A store that is being written.
#[async_trait]
pub trait StoreTarget: Send {
    /// Adds these rows of a table.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be written.
    async fn write(&mut self, table: Table, rows: &[Row]) -> Result<(), StoreError>;

    /// What it has until now.
    fn content(&mut self) -> Box<dyn StoreContent + '_>;
}

/// What a table contains: how many rows, and SHA-256 over all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of rows.
    pub rows: u64,
    digest: Vec<u8>,
}

/// Copies a table into a store that has none of its rows, and summarises what was read. Counts the rows in `done`.
///
/// # Errors
/// [`StoreError`] of either store.
pub async fn copy(
    table: Table,
    source: &mut dyn StoreContent,
    target: &mut dyn StoreTarget,
    done: &AtomicU64,
) -> Result<Summary, StoreError> {
    walk(table, source, Some(target), done).await
}

/// Summarises a table. Counts the rows in `done`.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn summarize(
    table: Table,
    content: &mut dyn StoreContent,
    done: &AtomicU64,
) -> Result<Summary, StoreError> {
    walk(table, content, None, done).await
}

async fn walk(
    table: Table,
    source: &mut dyn StoreContent,
    mut target: Option<&mut dyn StoreTarget>,
    done: &AtomicU64,
) -> Result<Summary, StoreError> {
    let mut summing = Summing::new();
    let mut last = None;
    loop {
        let rows = source.rows(table, last.as_ref(), PAGE).await?;
        if rows.is_empty() {
            return Ok(summing.finish());
        }
        if let Some(target) = &mut target {
            target.write(table, &rows).await?;
        }
        summing.add(&rows);
        done.fetch_add(count(&rows), Ordering::Relaxed);
        last = rows.into_iter().next_back();
    }
}

fn count(rows: &[Row]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}

/// A summary that is not complete yet.
struct Summing {
    rows: u64,
    digest: digest::Context,
}

impl Summing {
    fn new() -> Self {
        Self { rows: 0, digest: digest::Context::new(&SHA256) }
    }

    fn add(&mut self, rows: &[Row]) {
        self.rows += count(rows);
        for value in rows.iter().flatten() {
            let number;
            let (kind, bytes) = match value {
                Value::Null => (0, &[][..]),
                Value::Number(value) => {
                    number = value.to_be_bytes();
                    (1, &number[..])
                }
                Value::Text(text) => (2, text.as_bytes()),
                Value::Bytes(bytes) => (3, bytes.as_slice()),
            };
            // With its kind and length, so that no two rows have the same bytes.
            self.digest.update(&[kind]);
            self.digest.update(&bytes.len().to_be_bytes());
            self.digest.update(bytes);
        }
    }

    fn finish(self) -> Summary {
        Summary { rows: self.rows, digest: self.digest.finish().as_ref().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(rows: &[Row]) -> Summary {
        let mut summing = Summing::new();
        summing.add(rows);
        summing.finish()
    }

    #[test]
    fn rows_that_differ_in_anything_have_other_summaries() {
        let text = |text: &str| Value::Text(text.to_owned());
        let all = [
            vec![],
            vec![vec![Value::Null]],
            vec![vec![text("")]],
            vec![vec![Value::Bytes(Vec::new())]],
            vec![vec![Value::Number(0)]],
            vec![vec![text("ab"), text("c")]],
            vec![vec![text("a"), text("bc")]],
            vec![vec![text("c"), text("ab")]],
        ];
        for (at, rows) in all.iter().enumerate() {
            assert_eq!(summary(rows), summary(rows));
            for other in &all[..at] {
                assert_ne!(summary(rows), summary(other), "{rows:?} {other:?}");
            }
        }
    }
}
