//! The tables `accounts`, `reserved_usernames` and `hash_costs`.

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::error::{conflict, failed};
use jwksd_core::account::{Account, AccountReport, AccountState, NewAccount, TokenHolder, UserId};
use jwksd_core::clock::Timestamp;
use jwksd_core::password::{HashCost, PasswordHash};
use jwksd_core::store::{AccountChange, SignInCandidate, StoreError};

/// The columns of [`Row`]. The rest of the query says which rows.
macro_rules! select_rows {
    ($which:literal) => {
        concat!(
            "SELECT id, username, email, cost, registered_at_seconds, last_login_seconds, disabled_at, deleted_at, signed_out_at
             FROM jwksd.accounts ",
            $which
        )
    };
}
/// The form by which names and addresses are compared: only ASCII is folded, as in the file of a store. A `lower` of the server
/// would depend on its collation.
///
/// A text with U+0000 cannot be sent to the server. It is replaced by one that no account has.
fn folded(text: &str) -> String {
    if text.contains('\0') { String::new() } else { text.to_ascii_lowercase() }
}

/// Creates an account. The constraints decide whether its name and address are free.
pub(crate) async fn insert(
    db: &mut PgConnection,
    account: &NewAccount,
    now: Timestamp,
) -> Result<UserId, StoreError> {
    let email = account.email.as_ref().map(AsRef::as_ref);
    let id: i64 = sqlx::query_scalar(
        "WITH reserved AS (INSERT INTO jwksd.reserved_usernames (username_key) VALUES ($2)),
              cost AS (INSERT INTO jwksd.hash_costs (cost) SELECT $6 WHERE $6 IS NOT NULL ON CONFLICT DO NOTHING)
         INSERT INTO jwksd.accounts (username, username_key, email, email_key, password_hash, cost, registered_at_seconds)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
    )
    .bind(account.username.as_ref())
    .bind(folded(account.username.as_ref()))
    .bind(email)
    .bind(email.map(folded))
    .bind(account.password_hash.as_str())
    .bind(account.password_hash.cost().map(|cost| cost.0))
    .bind(now.as_secs())
    .fetch_one(db)
    .await
    .map_err(conflict)?;
    Ok(UserId(id))
}

/// The account with this name and this very hash, which no other process can have made: its salt is random.
pub(crate) async fn find_registered(
    db: &mut PgConnection,
    account: &NewAccount,
) -> Result<Option<UserId>, StoreError> {
    let id: Option<i64> =
        sqlx::query_scalar("SELECT id FROM jwksd.accounts WHERE username_key = $1 AND password_hash = $2")
            .bind(folded(account.username.as_ref()))
            .bind(account.password_hash.as_str())
            .fetch_optional(db)
            .await
            .map_err(failed)?;
    Ok(id.map(UserId))
}

/// Whether the account has this hash now. Its salt is that of no other.
pub(crate) async fn has_hash(
    db: &mut PgConnection,
    user: UserId,
    hash: &PasswordHash,
) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jwksd.accounts WHERE id = $1 AND password_hash = $2)")
        .bind(user.0)
        .bind(hash.as_str())
        .fetch_one(db)
        .await
        .map_err(failed)
}

#[derive(FromRow)]
struct CandidateRow {
    costs: Vec<String>,
    id: Option<i64>,
    username: Option<String>,
    password_hash: Option<String>,
    is_active: Option<bool>,
    signed_out_at: Option<i64>,
}

/// The account of this name, and the costs of all hashes, in one statement for every name.
pub(crate) async fn candidate(db: &mut PgConnection, username: &str) -> Result<SignInCandidate, StoreError> {
    let row: CandidateRow = sqlx::query_as(
        "SELECT costs.costs, id, username, password_hash, disabled_at IS NULL AND deleted_at IS NULL AS is_active, signed_out_at
         FROM (SELECT coalesce(array_agg(cost ORDER BY cost), '{}') AS costs FROM jwksd.hash_costs
               WHERE EXISTS (SELECT 1 FROM jwksd.accounts WHERE accounts.cost = hash_costs.cost)) AS costs
         LEFT JOIN jwksd.accounts ON username_key = $1",
    )
    .bind(folded(username))
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let costs = row.costs.into_iter().map(HashCost).collect();
    // A disabled account looks like a missing one, so that callers cannot test its password.
    let is_active = row.is_active == Some(true);
    let (Some(id), Some(username), Some(hash), true) =
        (row.id, row.username.clone(), row.password_hash, is_active)
    else {
        return Ok(SignInCandidate { account: None, disabled: row.username, costs });
    };
    let account = Account {
        id: UserId(id),
        username,
        password_hash: PasswordHash::stored(hash),
        signed_out_at: row.signed_out_at.map(Timestamp::from_millis),
    };
    Ok(SignInCandidate { account: Some(account), disabled: None, costs })
}

pub(crate) async fn token_holder(
    db: &mut PgConnection,
    user: UserId,
) -> Result<Option<TokenHolder>, StoreError> {
    let row: Option<Row> = sqlx::query_as(select_rows!("WHERE id = $1"))
        .bind(user.0)
        .fetch_optional(db)
        .await
        .map_err(failed)?;
    Ok(row.map(|row| TokenHolder {
        state: row.state(),
        username: row.username,
        signed_out_at: row.signed_out_at.map(Timestamp::from_millis),
    }))
}

/// Whether any account could sign in.
pub(crate) async fn any(db: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jwksd.accounts WHERE deleted_at IS NULL)")
        .fetch_one(db)
        .await
        .map_err(failed)
}

/// One page of hashes above this number, each with its number.
pub(crate) async fn hashes(db: &mut PgConnection, after: i64) -> Result<Vec<(i64, String)>, StoreError> {
    sqlx::query_as(
        "SELECT id, password_hash FROM jwksd.accounts WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT 10000",
    )
    .bind(after)
    .fetch_all(db)
    .await
    .map_err(failed)
}

#[derive(FromRow)]
struct Row {
    id: i64,
    username: String,
    email: Option<String>,
    cost: Option<String>,
    registered_at_seconds: Option<i64>,
    last_login_seconds: Option<i64>,
    disabled_at: Option<i64>,
    deleted_at: Option<i64>,
    signed_out_at: Option<i64>,
}

impl Row {
    fn state(&self) -> AccountState {
        match (self.deleted_at, self.disabled_at) {
            (Some(_), _) => AccountState::Deleted,
            (None, Some(_)) => AccountState::Disabled,
            (None, None) => AccountState::Active,
        }
    }

    fn report(self) -> AccountReport {
        AccountReport {
            id: UserId(self.id),
            state: self.state(),
            username: self.username,
            email: self.email,
            registered: self.registered_at_seconds.map(Timestamp::from_secs),
            last_login: self.last_login_seconds.map(Timestamp::from_secs),
            signed_out_at: self.signed_out_at.map(Timestamp::from_millis),
            cost: self.cost.map(HashCost),
        }
    }
}

pub(crate) async fn report(
    db: &mut PgConnection,
    username: &str,
) -> Result<Option<AccountReport>, StoreError> {
    let row: Option<Row> = sqlx::query_as(select_rows!("WHERE username_key = $1"))
        .bind(folded(username))
        .fetch_optional(db)
        .await
        .map_err(failed)?;
    Ok(row.map(Row::report))
}

pub(crate) async fn reports(
    db: &mut PgConnection,
    after: UserId,
    at_most: u32,
) -> Result<Vec<AccountReport>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(select_rows!("WHERE id > $1 ORDER BY id LIMIT $2"))
        .bind(after.0)
        .bind(i64::from(at_most))
        .fetch_all(db)
        .await
        .map_err(failed)?;
    Ok(rows.into_iter().map(Row::report).collect())
}

/// Changes an account, by one statement.
pub(crate) async fn change(
    db: &mut PgConnection,
    user: UserId,
    change: &AccountChange,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (user, now) = (user.0, now.as_millis());
    let query = match change {
        AccountChange::Delete => sqlx::query(
            // The name stays in reserved_usernames. No account can have a name with a colon.
            "UPDATE jwksd.accounts
             SET username = 'deleted:' || id, username_key = 'deleted:' || id, email = NULL, email_key = NULL,
                 password_hash = '', cost = NULL, last_login_seconds = NULL, deleted_at = $2
             WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(user)
        .bind(now),
        AccountChange::Disable => sqlx::query(
            "UPDATE jwksd.accounts SET disabled_at = coalesce(disabled_at, $2) WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(user)
        .bind(now),
        AccountChange::Enable => {
            sqlx::query("UPDATE jwksd.accounts SET disabled_at = NULL WHERE id = $1 AND deleted_at IS NULL").bind(user)
        }
        // Never earlier than before, also when the clock has gone back.
        AccountChange::SignOut => sqlx::query(
            "UPDATE jwksd.accounts SET signed_out_at = greatest(signed_out_at, $2) WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(user)
        .bind(now),
        AccountChange::SetEmail(email) => {
            let email = email.as_ref().map(AsRef::as_ref);
            sqlx::query("UPDATE jwksd.accounts SET email = $2, email_key = $3 WHERE id = $1 AND deleted_at IS NULL")
                .bind(user)
                .bind(email)
                .bind(email.map(folded))
        }
        AccountChange::SetHash { hash, instead_of } => sqlx::query(
            "WITH cost AS (INSERT INTO jwksd.hash_costs (cost) SELECT $3 WHERE $3 IS NOT NULL ON CONFLICT DO NOTHING)
             UPDATE jwksd.accounts SET password_hash = $2, cost = $3
             WHERE id = $1 AND deleted_at IS NULL
               AND ($4::text IS NULL OR password_hash = $4 AND disabled_at IS NULL)",
        )
        .bind(user)
        .bind(hash.as_str())
        .bind(hash.cost().map(|cost| cost.0))
        .bind(instead_of.as_ref().map(PasswordHash::as_str)),
    };
    query.execute(db).await.map(|done| done.rows_affected() > 0).map_err(conflict)
}
