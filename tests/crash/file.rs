//! The store's file after a kill, read with SQL and not through the program.

use std::collections::BTreeMap;
use std::path::Path;

use crate::running::db;

pub(crate) const NAME: &str = "totally_not_my_privateKeys.db";

/// Rows that must not exist: a description, and a query that counts them.
const HALF_MADE: [(&str, &str); 10] = [
    (
        "keys without metadata",
        "SELECT count(*) FROM keys LEFT JOIN key_lives USING (kid) WHERE made_at IS NULL",
    ),
    (
        "metadata of keys that are neither stored nor deleted",
        "SELECT count(*) FROM key_lives LEFT JOIN keys USING (kid) WHERE (key IS NULL) <> (deleted_at IS NOT NULL)",
    ),
    (
        "keys that are not sealed under the store's master key",
        "SELECT count(*) FROM keys JOIN key_lives USING (kid)
         WHERE sealed_under <> (SELECT number FROM master_key) OR substr(key, 1, 1) <> x'01'",
    ),
    ("missing records of a master key", "SELECT 1 - count(*) FROM master_key"),
    (
        "accounts without a reserved username",
        "SELECT count(*) FROM users LEFT JOIN names_given ON name = username WHERE name IS NULL",
    ),
    (
        "reserved usernames without an account",
        "SELECT count(*) FROM names_given LEFT JOIN users ON name = username COLLATE NOCASE WHERE id IS NULL",
    ),
    (
        "accounts without a complete hash or an email address",
        "SELECT count(*) FROM users
         WHERE password_hash NOT GLOB '$argon2id$v=19$m=8,t=1,p=1$*$*' OR length(password_hash) <> 93
         OR email IS NOT username || '@example.com'",
    ),
    (
        "accounts missing in the count of hash costs",
        "SELECT abs((SELECT count(*) FROM users) - (SELECT coalesce(sum(accounts), 0) FROM hash_costs))",
    ),
    (
        "sign-ins without an account",
        "SELECT count(*) FROM auth_logs LEFT JOIN users ON users.id = user_id WHERE username IS NULL",
    ),
    (
        "accounts whose last_login differs from their last row",
        "SELECT count(*) FROM users WHERE last_login IS NOT
         (SELECT max(request_timestamp) FROM auth_logs WHERE user_id = users.id)",
    ),
];

/// Expects that the file has no corruption, no dangling reference and no partial row.
pub(crate) async fn expect_whole(dir: &Path) {
    let mut db = db(dir).await;
    let damage: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut db).await.unwrap();
    assert_eq!(damage, ["ok"]);
    let dangling = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut db).await.unwrap();
    assert!(dangling.is_empty());
    for (what, query) in HALF_MADE {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut db).await.unwrap();
        assert_eq!(count, 0, "{what}");
    }
}

/// Every account, with its number of sign-ins.
pub(crate) async fn accounts(dir: &Path) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT username, count(auth_logs.id) FROM users LEFT JOIN auth_logs ON user_id = users.id GROUP BY users.id",
    )
    .fetch_all(&mut db(dir).await)
    .await
    .unwrap();
    rows.into_iter().collect()
}

/// The expiry of every key.
pub(crate) async fn exps(dir: &Path) -> BTreeMap<i64, i64> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT kid, exp FROM keys").fetch_all(&mut db(dir).await).await.unwrap();
    rows.into_iter().collect()
}

/// The number of keys in an initialized store; `None` before its master key is recorded.
pub(crate) async fn keys_if_initialized(dir: &Path) -> Option<i64> {
    let mut db = db(dir).await;
    let has_table: bool =
        sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'master_key'")
            .fetch_one(&mut db)
            .await
            .unwrap();
    if !has_table {
        return None;
    }
    sqlx::query_scalar("SELECT (SELECT count(*) FROM keys) FROM master_key")
        .fetch_optional(&mut db)
        .await
        .unwrap()
}
