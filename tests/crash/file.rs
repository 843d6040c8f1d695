//! The store's file as a kill has left it, read with SQL and not through the program.

use std::collections::BTreeMap;
use std::path::Path;

use crate::running::db;

pub(crate) const NAME: &str = "totally_not_my_privateKeys.db";

/// What must not be there: what it is called, and a query for how many there are.
const HALF_MADE: [(&str, &str); 10] = [
    (
        "keys without a life",
        "SELECT count(*) FROM keys LEFT JOIN key_lives USING (kid) WHERE made_at IS NULL",
    ),
    (
        "lives of keys that are neither there nor deleted",
        "SELECT count(*) FROM key_lives LEFT JOIN keys USING (kid) WHERE (key IS NULL) <> (deleted_at IS NOT NULL)",
    ),
    (
        "keys that are not sealed under the store's master key",
        "SELECT count(*) FROM keys JOIN key_lives USING (kid)
         WHERE sealed_under <> (SELECT number FROM master_key) OR substr(key, 1, 1) <> x'01'",
    ),
    ("missing records of a master key", "SELECT 1 - count(*) FROM master_key"),
    (
        "accounts whose name is not kept",
        "SELECT count(*) FROM users LEFT JOIN names_given ON name = username WHERE name IS NULL",
    ),
    (
        "names of nobody",
        "SELECT count(*) FROM names_given LEFT JOIN users ON name = username COLLATE NOCASE WHERE id IS NULL",
    ),
    (
        "accounts without a whole hash or an address",
        "SELECT count(*) FROM users
         WHERE password_hash NOT GLOB '$argon2id$v=19$m=8,t=1,p=1$*$*' OR length(password_hash) <> 93
         OR email IS NOT username || '@example.com'",
    ),
    (
        "accounts that were not counted by the cost of their hash",
        "SELECT abs((SELECT count(*) FROM users) - (SELECT coalesce(sum(accounts), 0) FROM hash_costs))",
    ),
    (
        "sign-ins of nobody",
        "SELECT count(*) FROM auth_logs LEFT JOIN users ON users.id = user_id WHERE username IS NULL",
    ),
    (
        "accounts whose last sign-in is not that of their last row",
        "SELECT count(*) FROM users WHERE last_login IS NOT
         (SELECT max(request_timestamp) FROM auth_logs WHERE user_id = users.id)",
    ),
];

/// Nothing in the file is damaged, points nowhere, or is half-made.
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

/// Every account, and how often it has signed in.
pub(crate) async fn accounts(dir: &Path) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT username, count(auth_logs.id) FROM users LEFT JOIN auth_logs ON user_id = users.id GROUP BY users.id",
    )
    .fetch_all(&mut db(dir).await)
    .await
    .unwrap();
    rows.into_iter().collect()
}

/// Every key, and when it expires.
pub(crate) async fn exps(dir: &Path) -> BTreeMap<i64, i64> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT kid, exp FROM keys").fetch_all(&mut db(dir).await).await.unwrap();
    rows.into_iter().collect()
}

/// How many keys a store has that has its master key; nothing if it has none.
pub(crate) async fn keys_if_founded(dir: &Path) -> Option<i64> {
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
