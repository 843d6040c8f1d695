//! What a store does when the database server aborts an act, or does not answer one.

use std::net::ToSocketAddrs as _;
use std::time::{Duration, Instant};

use jwksd_core::account::{NewAccount, UserId, Username};
use jwksd_core::clock::Timestamp;
use jwksd_core::password::PasswordHash;
use jwksd_core::store::{
    AccountChange, Applied, KeyChange, MasterKeyRecord, NewSignIn, SealedRows, SignInOutcome, Store as _,
    StoreError,
};
use jwksd_store_postgres::{PostgresStore, ServerUrl};
use sqlx::{AssertSqlSafe, PgConnection};
use url::Url;

use crate::postgres::TestDatabase;
use crate::proxy::{Network, Proxy};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const TIMEOUT: Duration = Duration::from_secs(2);

/// A store behind a proxy, and a connection that is not.
struct Faulty {
    store: PostgresStore,
    proxy: Proxy,
    direct: PgConnection,
    _database: TestDatabase,
}

impl Faulty {
    async fn open() -> Option<Self> {
        let database = TestDatabase::create().await?;
        let mut url = Url::parse(&database.url).unwrap();
        let address =
            (url.host_str().unwrap(), url.port().unwrap_or(5432)).to_socket_addrs().unwrap().next().unwrap();
        let proxy = Proxy::start(address).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.port)).unwrap();
        let server = ServerUrl::parse(url.as_str()).unwrap();
        let store = PostgresStore::open(&server, 1, TIMEOUT).await.unwrap();
        // So that its connections are open.
        register(&store, "first").await.unwrap();
        let applied = store.apply(version(&store).await, vec![KeyChange::SetMasterKey(record(1))]).await;
        assert_eq!(applied.unwrap(), Applied::Yes);
        let direct = database.connect().await;
        Some(Self { store, proxy, direct, _database: database })
    }

    async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.direct).await.unwrap();
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.direct).await.unwrap()
    }
}

async fn register(store: &PostgresStore, name: &str) -> Result<UserId, StoreError> {
    let account = NewAccount { username: Username::parse(name).unwrap(), email: None, password_hash: hash() };
    store.register(account, NOW).await
}

fn hash() -> PasswordHash {
    let text = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    PasswordHash::stored(text.to_owned())
}

async fn sign_in(store: &PostgresStore, user: UserId) -> Result<SignInOutcome, StoreError> {
    let from = [127, 0, 0, 1].into();
    let sign_in = NewSignIn { user, checked: hash(), signed_out_at: None, signed_by: None, from, at: NOW };
    store.record_sign_in(sign_in).await
}

fn record(number: i64) -> MasterKeyRecord {
    MasterKeyRecord { number, salt: [1; 16], check_value: vec![7; 20] }
}

async fn version(store: &PostgresStore) -> jwksd_core::store::KeyVersion {
    store.keys(&SealedRows::None).await.unwrap().version
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_other_transactions_abort_is_done_again_and_fails_as_a_whole_if_they_go_on() {
    let Some(mut db) = Faulty::open().await else { return };
    let first = UserId(db.number("SELECT id FROM jwksd.accounts").await);
    db.execute(
        "CREATE SEQUENCE public.failures;
         CREATE TABLE public.plan(failures bigint); INSERT INTO public.plan VALUES (0);
         CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('public.failures') <= (SELECT failures FROM public.plan) THEN
                 RAISE EXCEPTION 'injected' USING ERRCODE = '40001';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON jwksd.accounts FOR EACH ROW EXECUTE FUNCTION public.fail();
         CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON jwksd.auth_logs FOR EACH ROW EXECUTE FUNCTION public.fail();
         CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON jwksd.store FOR EACH ROW EXECUTE FUNCTION public.fail();",
    )
    .await;
    for (failures, is_done) in [(3, true), (1000, false)] {
        let plan = format!(
            "UPDATE public.plan SET failures = {failures}; SELECT setval('public.failures', 1, false)"
        );
        let (accounts, sign_ins) = (
            db.number("SELECT count(*) FROM jwksd.accounts").await,
            db.number("SELECT count(*) FROM jwksd.auth_logs").await,
        );
        let before = db.number("SELECT key_version FROM jwksd.store").await;

        db.execute(&plan).await;
        let registered = register(&db.store, &format!("after{failures}")).await;
        db.execute(&plan).await;
        let signed_in = sign_in(&db.store, first).await;
        db.execute(&plan).await;
        let change = vec![KeyChange::SetMasterKey(record(2))];
        let applied = db.store.apply(jwksd_core::store::KeyVersion(before), change).await;

        let added = i64::from(is_done);
        assert_eq!(registered.is_ok(), is_done, "{registered:?}");
        assert_eq!(signed_in.is_ok(), is_done, "{signed_in:?}");
        assert_eq!(applied.is_ok(), is_done, "{applied:?}");
        assert_eq!(db.number("SELECT count(*) FROM jwksd.accounts").await, accounts + added);
        assert_eq!(db.number("SELECT count(*) FROM jwksd.auth_logs").await, sign_ins + added);
        assert_eq!(db.number("SELECT key_version FROM jwksd.store").await, before + added);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_answer_was_lost_is_known_to_have_succeeded() {
    let Some(mut db) = Faulty::open().await else { return };
    for round in 0..5 {
        let name = format!("lost{round}");
        db.proxy.set(Network::LoseAnswerTo("COMMIT\0"));
        let user = register(&db.store, &name).await.unwrap();
        let stored = sqlx::query_scalar("SELECT id FROM jwksd.accounts WHERE username = $1").bind(&name);
        assert_eq!(user, UserId(stored.fetch_one(&mut db.direct).await.unwrap()));
    }
    assert!(matches!(register(&db.store, "LOST3").await, Err(StoreError::Conflict(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_keys_whose_commit_got_no_answer_is_there_or_not_but_never_half() {
    let Some(mut db) = Faulty::open().await else { return };
    let before = version(&db.store).await;
    db.proxy.set(Network::LoseAnswerTo("COMMIT\0"));
    let change = vec![KeyChange::SetMasterKey(record(2))];
    let lost = db.store.apply(before, change.clone()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    // Here the server has carried it out. Planned again from the old version, it is a conflict.
    assert_eq!(db.number("SELECT master_key_number FROM jwksd.store").await, 2);
    assert_eq!(db.store.apply(before, change).await.unwrap(), Applied::Conflict);
    assert_eq!(version(&db.store).await.0, before.0 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_on_a_frozen_connection_ends_in_time_and_later_ones_work() {
    let Some(db) = Faulty::open().await else { return };
    db.proxy.set(Network::Swallow);
    let begun = Instant::now();
    let frozen = register(&db.store, "frozen").await;
    assert!(matches!(frozen, Err(StoreError::Unavailable(_))), "{frozen:?}");
    // The act, and the attempt to find out whether it was done.
    assert!(begun.elapsed() < 3 * TIMEOUT, "{:?}", begun.elapsed());
    assert!(db.store.pulse().await.is_err());
    assert!(db.store.expect_reachable().is_err());
    db.proxy.set(Network::Pass);
    db.store.pulse().await.unwrap();
    db.store.expect_reachable().unwrap();
    let begun = Instant::now();
    match register(&db.store, "frozen").await {
        // Whether the first attempt reached the server before it froze is the network's affair.
        Ok(_) | Err(StoreError::Conflict(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
    assert!(begun.elapsed() < TIMEOUT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_and_a_new_password_that_were_refused_in_time_do_not_happen_later() {
    let Some(mut db) = Faulty::open().await else { return };
    let first = UserId(db.number("SELECT id FROM jwksd.accounts").await);
    let new = PasswordHash::stored(hash().as_str().replace("c29tZXNhbHQ", "b3RoZXJzYWx0"));
    let change = AccountChange::SetHash { hash: new, instead_of: Some(hash()) };
    // So that the statements are prepared, and only their execution waits.
    register(&db.store, "warm").await.unwrap();
    let none = AccountChange::SetHash { hash: hash(), instead_of: None };
    assert!(db.store.change_account(first, &none, NOW).await.unwrap());
    db.execute("BEGIN; LOCK TABLE jwksd.reserved_usernames, jwksd.accounts IN ACCESS EXCLUSIVE MODE").await;
    let late = register(&db.store, "late").await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    let changed = db.store.change_account(first, &change, NOW).await;
    assert!(matches!(changed, Err(StoreError::Unavailable(_))), "{changed:?}");
    db.execute("COMMIT").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(db.number("SELECT count(*) FROM jwksd.accounts").await, 2, "first and warm");
    register(&db.store, "late").await.unwrap();
    assert!(db.store.change_account(first, &change, NOW).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_whose_answer_was_lost_is_known_to_be_set() {
    let Some(mut db) = Faulty::open().await else { return };
    let first = UserId(db.number("SELECT id FROM jwksd.accounts").await);
    let new = PasswordHash::stored(hash().as_str().replace("c29tZXNhbHQ", "b3RoZXJzYWx0"));
    db.proxy.set(Network::LoseAnswerTo("COMMIT\0"));
    let change = AccountChange::SetHash { hash: new.clone(), instead_of: Some(hash()) };
    assert!(db.store.change_account(first, &change, NOW).await.unwrap());
    let stored: String = sqlx::query_scalar("SELECT password_hash FROM jwksd.accounts")
        .fetch_one(&mut db.direct)
        .await
        .unwrap();
    assert_eq!(stored, new.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_network_swallowed_do_not_keep_their_places() {
    let Some(db) = Faulty::open().await else { return };
    for _ in 0..3 {
        db.proxy.set(Network::Swallow);
        // Callers that do not wait, as clients that hang up.
        for _ in 0..3 {
            let _ = tokio::time::timeout(Duration::from_millis(200), db.store.pulse()).await;
            let _ = tokio::time::timeout(Duration::from_millis(200), db.store.newest_sign_in()).await;
        }
        db.proxy.set(Network::Pass);
        let begun = Instant::now();
        while db.store.pulse().await.is_err() || db.store.newest_sign_in().await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the store is back, and not used");
        }
        println!("used again {:?} after the return", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_freezes_with_the_lock_loses_it() {
    let Some(mut db) = Faulty::open().await else { return };
    let before = version(&db.store).await;
    // What a frozen process leaves: a transaction that holds the lock, and does not go on.
    let sql = format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 5000; UPDATE jwksd.store SET key_version = {}",
        before.0 + 1
    );
    db.execute(&sql).await;
    let (begun, change) = (Instant::now(), vec![KeyChange::SetMasterKey(record(2))]);
    while db.store.apply(before, change.clone()).await.ok() != Some(Applied::Yes) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the lock is still held");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
