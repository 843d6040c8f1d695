//! The tables `users`, `account_states`, `sign_outs`, `names_given` and `hash_costs`.

use sqlx::{FromRow, SqliteConnection};

use super::error::{failed, unavailable};
use super::schema::has_table;
use super::text::lossy;
use jwksd_core::account::{Account, AccountReport, AccountState, NewAccount, TokenHolder, UserId};
use jwksd_core::clock::Timestamp;
use jwksd_core::password::{HashCost, PasswordHash};
use jwksd_core::store::{AccountChange, SignInCandidate, StoreError, Unique};

/// `datetime` writes the time in the form of `CURRENT_TIMESTAMP`.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    account: &NewAccount,
    now: Timestamp,
) -> Result<UserId, StoreError> {
    sqlx::query(
        // Without a look-up before: two requests could both find the name free. The constraints decide.
        "INSERT INTO users (username, password_hash, email, date_registered)
         VALUES (?, ?, ?, datetime(?, 'unixepoch'))",
    )
    .bind(account.username.as_ref())
    .bind(account.password_hash.as_str())
    .bind(account.email.as_ref().map(AsRef::as_ref))
    .bind(now.as_secs())
    .execute(db)
    .await
    .map(|done| UserId(done.last_insert_rowid()))
    .map_err(conflict)
}

/// Finds the value that is taken in the message of the constraint or trigger that failed.
fn conflict(error: sqlx::Error) -> StoreError {
    // SQLite names the column only in the text of the message. NOT NULL and CHECK name it as well.
    let database_error = error.as_database_error().filter(|error| {
        !error.is_check_violation() && error.kind() != sqlx::error::ErrorKind::NotNullViolation
    });
    // SQLite spells the names as the table was declared, and another program may have written `Users`.
    let message = database_error.map(|error| error.message().to_ascii_lowercase()).unwrap_or_default();
    if message.contains("users.email") {
        StoreError::Conflict(Unique::Email)
    } else if message.contains("users.username")
        || message.contains("names_given.name")
        // An index on an expression is named instead of its column. A trigger of ours has looked for the address before,
        // and only names and addresses may be in such an index.
        || message.starts_with("unique constraint failed: index")
    {
        StoreError::Conflict(Unique::Username)
    } else {
        failed(error)
    }
}

type CandidateRow = (String, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>, bool, Option<i64>);

/// Names match regardless of case. A store that was taken over may hold two that differ by case: the exact spelling wins,
/// also if that account may not sign in.
// CAST, because other programs store a hash as a BLOB and texts that are not UTF-8.
pub(super) async fn candidate(
    db: &mut SqliteConnection,
    username: &str,
) -> Result<SignInCandidate, StoreError> {
    // One statement sees one state of the store and needs no transaction.
    let (costs, id, username, hash, is_active, signed_out_at): CandidateRow = sqlx::query_as(
        "SELECT costs, id, CAST(username AS BLOB), CAST(password_hash AS BLOB),
                disabled_at IS NULL AND deleted_at IS NULL, signed_out_at
         FROM (SELECT json_group_array(cost ORDER BY cost) AS costs FROM hash_costs WHERE accounts > 0)
         LEFT JOIN (SELECT id, username, password_hash FROM users WHERE username = ?1 COLLATE NOCASE
                    ORDER BY username = ?1 DESC, id LIMIT 1)
         LEFT JOIN account_states ON account_states.user_id = id
         LEFT JOIN sign_outs ON sign_outs.user_id = id",
    )
    .bind(username)
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let costs: Vec<String> = serde_json::from_str(&costs).map_err(unavailable)?;
    let costs = costs.into_iter().map(HashCost).collect();
    let username = username.map(lossy);
    // A disabled account looks like a missing one, so that callers cannot test its password.
    let Some(id) = id.filter(|_| is_active) else {
        return Ok(SignInCandidate { account: None, disabled: username, costs });
    };
    let account = Account {
        id: UserId(id),
        username: username.unwrap_or_default(),
        password_hash: PasswordHash::stored(lossy(hash.unwrap_or_default())),
        signed_out_at: signed_out_at.map(Timestamp::from_millis),
    };
    Ok(SignInCandidate { account: Some(account), disabled: None, costs })
}

pub(super) async fn token_holder(
    db: &mut SqliteConnection,
    user: UserId,
) -> Result<Option<TokenHolder>, StoreError> {
    let row: Option<(Vec<u8>, bool, bool, Option<i64>)> = sqlx::query_as(
        "SELECT coalesce(CAST(username AS BLOB), x''), disabled_at IS NOT NULL, deleted_at IS NOT NULL, signed_out_at
         FROM users LEFT JOIN account_states ON account_states.user_id = id
         LEFT JOIN sign_outs ON sign_outs.user_id = id WHERE id = ?",
    )
    .bind(user.0)
    .fetch_optional(db)
    .await
    .map_err(failed)?;
    Ok(row.map(|(username, is_disabled, is_deleted, signed_out_at)| TokenHolder {
        username: lossy(username),
        state: state(is_deleted, is_disabled),
        signed_out_at: signed_out_at.map(Timestamp::from_millis),
    }))
}

fn state(is_deleted: bool, is_disabled: bool) -> AccountState {
    match (is_deleted, is_disabled) {
        (true, _) => AccountState::Deleted,
        (false, true) => AccountState::Disabled,
        (false, false) => AccountState::Active,
    }
}

/// Whether any account could sign in. Works with files of every schema. A deleted account has an empty hash.
pub(super) async fn any(db: &mut SqliteConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE password_hash <> '')")
        .fetch_one(db)
        .await
        .map_err(failed)
}

/// How many accounts have a hash that no password matches. Works with files of every schema.
pub(super) async fn unusable_hashes(db: &mut SqliteConnection) -> Result<u64, StoreError> {
    let sql = if has_table(db, "account_states").await? {
        "SELECT id, coalesce(CAST(password_hash AS BLOB), x'') FROM users
         WHERE id > ? AND id NOT IN (SELECT user_id FROM account_states WHERE deleted_at IS NOT NULL)
         ORDER BY id LIMIT 10000"
    } else {
        "SELECT id, coalesce(CAST(password_hash AS BLOB), x'') FROM users WHERE id > ? ORDER BY id LIMIT 10000"
    };
    // Page by page, because there may be millions.
    let (mut after, mut unusable) = (i64::MIN, 0);
    loop {
        let page: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(sql).bind(after).fetch_all(&mut *db).await.map_err(failed)?;
        let Some((last, _)) = page.last() else {
            return Ok(unusable);
        };
        after = *last;
        for (_, hash) in page {
            unusable += u64::from(!PasswordHash::stored(lossy(hash)).is_usable());
        }
    }
}

/// A row of `users` with its state. `unixepoch` gives NULL for a value that is not a time.
#[derive(FromRow)]
struct Row {
    id: i64,
    username: Vec<u8>,
    email: Option<Vec<u8>>,
    registered: Option<i64>,
    last_login: Option<i64>,
    hash: Vec<u8>,
    is_disabled: bool,
    is_deleted: bool,
    signed_out_at: Option<i64>,
}

/// The columns of [`Row`], from `users`, `account_states` and `sign_outs`. The rest of the query says which rows.
macro_rules! select_rows {
    ($which:literal) => {
        concat!(
            "SELECT id, coalesce(CAST(username AS BLOB), x'') AS username, CAST(email AS BLOB) AS email,
                    unixepoch(date_registered) AS registered, unixepoch(last_login) AS last_login,
                    coalesce(CAST(password_hash AS BLOB), x'') AS hash,
                    disabled_at IS NOT NULL AS is_disabled, deleted_at IS NOT NULL AS is_deleted,
                    signed_out_at
             FROM users LEFT JOIN account_states ON account_states.user_id = id
             LEFT JOIN sign_outs ON sign_outs.user_id = id ",
            $which
        )
    };
}

impl Row {
    fn report(self) -> AccountReport {
        AccountReport {
            id: UserId(self.id),
            username: lossy(self.username),
            email: self.email.map(lossy),
            registered: self.registered.map(Timestamp::from_secs),
            last_login: self.last_login.map(Timestamp::from_secs),
            state: state(self.is_deleted, self.is_disabled),
            signed_out_at: self.signed_out_at.map(Timestamp::from_millis),
            cost: PasswordHash::stored(lossy(self.hash)).cost(),
        }
    }
}

pub(super) async fn report(
    db: &mut SqliteConnection,
    username: &str,
) -> Result<Option<AccountReport>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(select_rows!(
        // Two rows suffice to see that a name is ambiguous.
        "WHERE username = ?1 COLLATE NOCASE ORDER BY username = ?1 DESC, id LIMIT 2"
    ))
    .bind(username)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    match &rows[..] {
        [one, other] if one.username != username.as_bytes() => {
            Err(StoreError::Ambiguous(lossy(one.username.clone()), lossy(other.username.clone())))
        }
        _ => Ok(rows.into_iter().next().map(Row::report)),
    }
}

pub(super) async fn reports(
    db: &mut SqliteConnection,
    after: UserId,
    at_most: u32,
) -> Result<Vec<AccountReport>, StoreError> {
    sqlx::query_as(select_rows!("WHERE id > ? ORDER BY id LIMIT ?"))
        .bind(after.0)
        .bind(at_most)
        .fetch_all(db)
        .await
        .map(|rows: Vec<Row>| rows.into_iter().map(Row::report).collect())
        .map_err(failed)
}

pub(super) async fn change(
    db: &mut SqliteConnection,
    user: UserId,
    change: &AccountChange,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if !is_there(db, user).await? {
        return Ok(false);
    }
    let (user, now) = (user.0, now.as_millis());
    let query = match change {
        AccountChange::Delete => {
            erase(db, user).await?;
            sqlx::query(
                "INSERT INTO account_states (user_id, deleted_at) VALUES (?1, ?2)
                 ON CONFLICT (user_id) DO UPDATE SET deleted_at = ?2",
            )
            .bind(user)
            .bind(now)
        }
        AccountChange::Disable => sqlx::query(
            "INSERT INTO account_states (user_id, disabled_at) VALUES (?1, ?2)
             ON CONFLICT (user_id) DO UPDATE SET disabled_at = coalesce(disabled_at, ?2)",
        )
        .bind(user)
        .bind(now),
        AccountChange::Enable => {
            sqlx::query("UPDATE account_states SET disabled_at = NULL WHERE user_id = ?").bind(user)
        }
        // Never earlier than before, also when the clock has gone back.
        AccountChange::SignOut => sqlx::query(
            "INSERT INTO sign_outs (user_id, signed_out_at) VALUES (?1, ?2)
             ON CONFLICT (user_id) DO UPDATE SET signed_out_at = max(signed_out_at, ?2)",
        )
        .bind(user)
        .bind(now),
        AccountChange::SetEmail(email) => sqlx::query("UPDATE users SET email = ? WHERE id = ?")
            .bind(email.as_ref().map(AsRef::as_ref))
            .bind(user),
        AccountChange::SetHash { hash, instead_of } => sqlx::query(
            "UPDATE users SET password_hash = ?1
             WHERE id = ?2 AND (?3 IS NULL OR CAST(password_hash AS TEXT) = ?3 AND NOT EXISTS (
                 SELECT 1 FROM account_states WHERE user_id = ?2 AND disabled_at IS NOT NULL))",
        )
        .bind(hash.as_str())
        .bind(user)
        .bind(instead_of.as_ref().map(PasswordHash::as_str)),
    };
    let done = query.execute(db).await.map_err(conflict)?;
    // An account that was never disabled may have no row in account_states. Enabling it succeeds all the same.
    Ok(matches!(change, AccountChange::Enable) || done.rows_affected() > 0)
}

/// Erases everything of an account except its row. A username cannot contain a colon, but a name from another program may.
async fn erase(db: &mut SqliteConnection, user: i64) -> Result<(), StoreError> {
    sqlx::query(
        // The column is NOT NULL in the schema of the course. No password matches an empty hash.
        "UPDATE users SET password_hash = '', email = NULL, last_login = NULL,
             username = 'deleted:' || id || iif(
                 EXISTS (SELECT 1 FROM names_given WHERE name = 'deleted:' || id), ':' || hex(randomblob(8)), '')
         WHERE id = ?",
    )
    .bind(user)
    .execute(db)
    .await
    .map(drop)
    .map_err(conflict)
}

async fn is_there(db: &mut SqliteConnection, user: UserId) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM users LEFT JOIN account_states ON user_id = id
                        WHERE id = ? AND deleted_at IS NULL)",
    )
    .bind(user.0)
    .fetch_one(db)
    .await
    .map_err(failed)
}
