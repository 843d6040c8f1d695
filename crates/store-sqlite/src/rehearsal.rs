//! Tries what jwksd writes on an empty copy of a file's schema, before it writes anything to the file itself.
//!
//! The constraints of another program's tables can forbid anything. The writes themselves show it, whatever form a
//! constraint has. The copy is in memory, and has no rows of the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::error::{WAY_OUT, failed, in_words, unavailable};
use super::schema::{has_table, run_migrations};
use super::{accounts, keys, sign_in_batch, sign_ins};
use jwksd_core::account::{EMAIL_MAX, Email, NewAccount, USERNAME_MAX, UserId, Username};
use jwksd_core::clock::Timestamp;
use jwksd_core::key::Kid;
use jwksd_core::key::lifecycle::{Activation, KeyMetadata};
use jwksd_core::key::seal::SALT_LEN;
use jwksd_core::password::{HashCost, PasswordHash};
use jwksd_core::store::{AccountChange, KeyChange, MasterKeyRecord, NewSignIn, StoreError, Unique};

/// Lengths in bytes of a sealed Ed25519 key, and of RSA keys of 2048 and of 4096 bits.
const SEALED_LENGTHS: [usize; 3] = [148, 1_705, 3_273];

const HOUR: Duration = Duration::from_hours(1);

/// Something that some requests or commands ask for, and that a rule of the schema forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForbiddenAct {
    pub(super) act: &'static str,
    pub(super) why: String,
}

/// Refuses a schema to which our tables cannot be added, or that forbids one of our ordinary writes. Returns the others that
/// it forbids.
///
/// # Errors
/// [`StoreError::Foreign`] names the act that fails, the reason and the way out.
pub(super) async fn expect_writable(file: &mut SqliteConnection) -> Result<Vec<ForbiddenAct>, StoreError> {
    let mut copy = copy_schema(file).await?;
    run_migrations(&mut copy).await?;
    let now = now(&mut copy).await?;
    try_keys(&mut copy, now).await?;
    let alice = try_accounts(&mut copy, now).await?;
    let forbidden = forbidden_acts(&mut copy, alice, now).await?;
    copy.close().await.map_err(failed)?;
    Ok(forbidden)
}

fn expect<T>(act: &str, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    outcome.map_err(|error| {
        let why = in_words(&error);
        StoreError::Foreign(format!("jwksd could not {act} in it ({why}): {WAY_OUT}"))
    })
}

/// From SQLite, because this layer has no clock.
async fn now(db: &mut SqliteConnection) -> Result<Timestamp, StoreError> {
    sqlx::query_scalar("SELECT unixepoch()").fetch_one(db).await.map(Timestamp::from_secs).map_err(failed)
}

/// A row of `sqlite_schema`: `type`, `name`, `tbl_name`, `sql`, and the kind of its pages: `table`, `index` or `none`.
type Object = (Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>, String);

/// A database in memory with the schema of the file, without rows.
async fn copy_schema(file: &mut SqliteConnection) -> Result<SqliteConnection, StoreError> {
    let objects: Vec<Object> = sqlx::query_as(
        "SELECT CAST(object.type AS BLOB), CAST(object.name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB),
                CASE WHEN coalesce(rootpage, 0) = 0 THEN 'none'
                     WHEN object.type = 'index' OR listed.wr THEN 'index' ELSE 'table' END
         FROM sqlite_schema AS object
         LEFT JOIN pragma_table_list AS listed
             ON listed.schema = 'main' AND listed.name = object.name AND object.type = 'table'
         ORDER BY object.rowid",
    )
    .fetch_all(&mut *file)
    .await
    .map_err(failed)?;
    let mut copy = SqliteConnection::connect("sqlite::memory:").await.map_err(failed)?;
    // The statements in the file are only parsed, as SQLite does when it opens the file. Run, they could do anything.
    run(&mut copy, "PRAGMA trusted_schema = OFF; PRAGMA writable_schema = ON").await?;
    for (number, object) in objects.into_iter().enumerate() {
        copy_object(&mut copy, number, object).await?;
    }
    run(&mut copy, "PRAGMA writable_schema = RESET").await?;
    copy_migrations(file, &mut copy).await?;
    Ok(copy)
}

/// Adds a row to the schema of the copy, with an empty tree of pages if it has pages.
async fn copy_object(copy: &mut SqliteConnection, number: usize, object: Object) -> Result<(), StoreError> {
    let (kind, name, table, sql, pages) = object;
    let place = format!("jwksd_copy_{number}");
    let reserve = match &*pages {
        "index" => format!("CREATE TABLE {place}(x PRIMARY KEY) WITHOUT ROWID"),
        "table" => format!("CREATE TABLE {place}(x)"),
        _ => format!("INSERT INTO sqlite_schema (name, rootpage) VALUES ('{place}', 0)"),
    };
    sqlx::query(AssertSqlSafe(reserve)).execute(&mut *copy).await.map_err(failed)?;
    sqlx::query(
        "UPDATE sqlite_schema SET type = CAST(? AS TEXT), name = CAST(? AS TEXT), tbl_name = CAST(? AS TEXT),
             sql = CAST(? AS TEXT) WHERE name = ?",
    )
    .bind(kind)
    .bind(name)
    .bind(table)
    .bind(sql)
    .bind(place)
    .execute(copy)
    .await
    .map(drop)
    .map_err(failed)
}

async fn run(db: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql).execute(db).await.map(drop).map_err(failed)
}

/// Which migrations the file has: only the others are tried.
async fn copy_migrations(file: &mut SqliteConnection, copy: &mut SqliteConnection) -> Result<(), StoreError> {
    if !has_table(file, "_sqlx_migrations").await? {
        return Ok(());
    }
    let rows: Vec<(i64, String, bool, Vec<u8>)> =
        sqlx::query_as("SELECT version, description, success, checksum FROM _sqlx_migrations")
            .fetch_all(file)
            .await
            .map_err(failed)?;
    for (version, description, success, checksum) in rows {
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (?, ?, ?, ?, 0)",
        )
        .bind(version)
        .bind(description)
        .bind(success)
        .bind(checksum)
        .execute(&mut *copy)
        .await
        .map_err(failed)?;
    }
    Ok(())
}

/// Creates keys, seals one again and deletes it.
async fn try_keys(db: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    let record = MasterKeyRecord { number: 1, salt: [0; SALT_LEN], check_value: vec![1; 29] };
    try_change(db, "record its master key", KeyChange::SetMasterKey(record)).await?;
    let (later, earlier) = (now.plus(HOUR * 24), now.minus(HOUR));
    let [short, medium, long] = SEALED_LENGTHS;
    // The last two have the same `exp` and the same length. No two sealed keys are equal.
    for (kid, exp, length) in [(1, later, long), (2, earlier, medium), (3, later, short), (4, later, short)] {
        let key = KeyMetadata::created(Kid(kid), exp, Activation::AfterLead, now);
        let insert = KeyChange::Insert { key, sealed: sealed(length, kid) };
        try_change(db, "store a sealed key", insert).await?;
    }
    let again = KeyChange::Reseal { kid: Kid(1), exp: now, sealed: sealed(short, 1) };
    try_change(db, "seal a key again", again).await?;
    for kid in [1, 2] {
        try_change(db, "delete a key", KeyChange::Delete { kid: Kid(kid), at: now }).await?;
    }
    Ok(())
}

async fn try_change(db: &mut SqliteConnection, act: &str, change: KeyChange) -> Result<(), StoreError> {
    expect(act, keys::apply(db, vec![change]).await).map(drop)
}

/// The version byte of sealed data, then bytes that are not a text.
fn sealed(length: usize, kid: i64) -> Vec<u8> {
    let noise = kid.to_be_bytes().into_iter().chain((0..=u8::MAX).rev().cycle());
    [1].into_iter().chain(noise).take(length).collect()
}

/// Registers ordinary accounts, changes one and signs in to it.
async fn try_accounts(db: &mut SqliteConnection, now: Timestamp) -> Result<UserId, StoreError> {
    let alice = account("alice", Some("alice@example.com"), DEFAULT_COST)?;
    let user = expect("register an account", accounts::insert(db, &alice, now).await)?;
    let bob = account("bob.smith", Some("bob.smith@example.com"), DEFAULT_COST)?;
    expect("register an account", accounts::insert(db, &bob, now).await)?;
    let same_name = account("alice", Some("carol@example.com"), DEFAULT_COST)?;
    expect_taken("alice", Unique::Username, accounts::insert(db, &same_name, now).await)?;
    let same_email = account("carol", Some("alice@example.com"), DEFAULT_COST)?;
    expect_taken("alice@example.com", Unique::Email, accounts::insert(db, &same_email, now).await)?;
    let email = parsed(Email::parse("alice.miller@example.com"))?;
    for (act, change) in [
        ("change an e-mail address", AccountChange::SetEmail(Some(email))),
        ("change a password", AccountChange::SetHash { hash: hash(DEFAULT_COST), instead_of: None }),
        ("disable an account", AccountChange::Disable),
        ("enable an account", AccountChange::Enable),
        ("sign an account out", AccountChange::SignOut),
    ] {
        expect(act, accounts::change(db, user, &change, now).await)?;
    }
    let signed_in = try_sign_ins(db, user, Ipv4Addr::new(192, 0, 2, 1).into(), now).await;
    expect("record a sign-in", signed_in)?;
    Ok(user)
}

/// Tries what an ordinary store never does, or what its operator can do without: only that fails then.
async fn forbidden_acts(
    db: &mut SqliteConnection,
    user: UserId,
    now: Timestamp,
) -> Result<Vec<ForbiddenAct>, StoreError> {
    let long_name = "Z9._-@+a".repeat(USERNAME_MAX / 8);
    let long_email = format!("{}@{}.example", "b".repeat(60), long_domain());
    let mut outcomes = Vec::new();
    for (act, name, email, cost) in [
        ("register an account without an e-mail address", "dave", None, DEFAULT_COST),
        ("register a username of one character", "e", Some("erin@example.com"), DEFAULT_COST),
        ("register a username of the maximum length", &*long_name, Some("frank@example.com"), DEFAULT_COST),
        ("register an e-mail address of few characters", "grace", Some("c@x.io"), DEFAULT_COST),
        ("register an e-mail address of the maximum length", "heidi", Some(&*long_email), DEFAULT_COST),
        ("store a hash of the highest cost", "ivan", Some("ivan@example.com"), HIGHEST_COST),
    ] {
        outcomes.push((act, accounts::insert(db, &account(name, email, cost)?, now).await.map(drop)));
    }
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666);
    outcomes
        .push(("record a sign-in from an IPv6 address", try_sign_ins(db, user, address.into(), now).await));
    for (act, change) in [
        ("remove an e-mail address", AccountChange::SetEmail(None)),
        ("delete an account", AccountChange::Delete),
    ] {
        outcomes.push((act, accounts::change(db, user, &change, now).await.map(drop)));
    }
    let forbidden = outcomes
        .into_iter()
        .filter_map(|(act, outcome)| Some(ForbiddenAct { act, why: in_words(&outcome.err()?) }));
    Ok(forbidden.collect())
}

/// A constraint `ON CONFLICT REPLACE` or `IGNORE` makes the second registration of a name succeed.
fn expect_taken(
    value: &str,
    unique: Unique,
    registered: Result<UserId, StoreError>,
) -> Result<(), StoreError> {
    match registered {
        Err(StoreError::Conflict(found)) if found == unique => Ok(()),
        Err(error) => expect("refuse what is taken", Err(error)),
        Ok(_) => Err(StoreError::Foreign(format!(
            "it does not refuse a second account with the {unique} {value:?} (ON CONFLICT REPLACE or IGNORE): {WAY_OUT}"
        ))),
    }
}

/// Records sign-ins of the same moment, and deletes them.
async fn try_sign_ins(
    db: &mut SqliteConnection,
    user: UserId,
    from: IpAddr,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sign_in = NewSignIn {
        user,
        checked: hash(DEFAULT_COST),
        signed_out_at: None,
        signed_by: Some(Kid(3)),
        from,
        at: now,
    };
    let recorded = [sign_in.clone(), sign_in];
    for _ in 0..2 {
        sign_in_batch::insert_all(db, &recorded).await?;
    }
    sign_ins::delete_before(db, now.plus(HOUR), u32::MAX).await.map(drop)
}

const DEFAULT_COST: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// The one that needs the most digits.
const HIGHEST_COST: &str = "$argon2id$v=19$m=1048576,t=4,p=64$";

fn hash(cost: &str) -> PasswordHash {
    PasswordHash::dummy(&HashCost(cost.to_owned()))
}

fn account(name: &str, email: Option<&str>, cost: &str) -> Result<NewAccount, StoreError> {
    Ok(NewAccount {
        username: parsed(Username::parse(name))?,
        email: email.map(|email| parsed(Email::parse(email))).transpose()?,
        password_hash: hash(cost),
    })
}

fn parsed<T, E: std::error::Error + Send + Sync + 'static>(value: Result<T, E>) -> Result<T, StoreError> {
    value.map_err(unavailable)
}

/// A domain so long that an address of 60 characters in it has the maximum length.
fn long_domain() -> String {
    let labels = ["d".repeat(60), "e".repeat(60), "f".repeat(60)].join(".");
    labels.chars().take(EMAIL_MAX - 60 - "@.example".len()).collect()
}
