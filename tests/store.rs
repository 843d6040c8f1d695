//! The contract of a store: what the issuer relies on, for every kind of store.
//!
//! Most cases use two handles on one store, as two processes do.

#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jwksd_core::account::{AccountReport, AccountState, Email, NewAccount, TokenHolder, UserId, Username};
use jwksd_core::clock::Timestamp;
use jwksd_core::key::lifecycle::{Activation, Deletable, KeyMetadata};
use jwksd_core::key::{KeyProfile, Kid};
use jwksd_core::password::{HashCost, PasswordHash};
use jwksd_core::store::{
    AccountChange, Applied, KeyChange, KeySnapshot, KeyVersion, MAX_DELETABLE, MAX_DELETED_NEXT,
    MasterKeyRecord, NewSignIn, Page, SealedExternalKey, SealedRows, ServingMode, SignIn, SignInFilter,
    SignInOutcome, Store, StoreError, Unique,
};
use jwksd_store_postgres::{PostgresStore, ServerUrl};
use jwksd_store_sqlite::{DatabaseFile, SqliteStore};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::support::TestDatabase;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

/// A kind of store.
#[derive(Clone, Copy)]
enum Kind {
    Postgres,
    Sqlite,
}

/// Where the store of a test is.
enum Place {
    Database(TestDatabase),
    Directory(TempDir),
}

impl Place {
    /// Nothing if there is no server for this kind.
    async fn new(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Postgres => TestDatabase::create().await.map(Self::Database),
            Kind::Sqlite => Some(Self::Directory(tempfile::tempdir().unwrap())),
        }
    }

    /// Keeps every other transaction from writing until it is dropped.
    async fn lock(&self) -> Lock {
        match self {
            Self::Database(database) => {
                let mut db = database.connect().await;
                sqlx::raw_sql("BEGIN; SELECT * FROM jwksd.store FOR UPDATE").execute(&mut db).await.unwrap();
                Lock::Postgres(db)
            }
            Self::Directory(dir) => {
                let url = format!("sqlite://{}", dir.path().join("store.db").display());
                let mut db = SqliteConnection::connect(&url).await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
                Lock::Sqlite(db)
            }
        }
    }
}

/// A transaction of another program.
enum Lock {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Lock {
    async fn release(self) {
        match self {
            Self::Postgres(mut db) => drop(sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap()),
            Self::Sqlite(mut db) => drop(sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap()),
        }
    }
}

/// An empty store. The test ends here if there is no server for it.
macro_rules! empty {
    ($kind:expr) => {{
        let Some(place) = Place::new($kind).await else { return };
        let store = handle(&place).await;
        (place, store)
    }};
}

/// A store that has a master key.
macro_rules! initialized {
    ($kind:expr) => {{
        let (place, store) = empty!($kind);
        change(&store, |_| vec![KeyChange::SetMasterKey(record(1))]).await;
        (place, store)
    }};
}

/// Two handles on a store that has a master key.
macro_rules! two_handles {
    ($kind:expr) => {{
        let (place, one) = initialized!($kind);
        let other = handle(&place).await;
        (place, [one, other])
    }};
}

/// One more handle on the same store, as another process has.
async fn handle(place: &Place) -> Arc<dyn Store> {
    match place {
        Place::Database(database) => {
            let server = ServerUrl::parse(&database.url).unwrap();
            Arc::new(PostgresStore::open(&server, 4, Duration::from_secs(20)).await.unwrap())
        }
        Place::Directory(dir) => {
            let file = DatabaseFile::parse(dir.path().join("store.db").to_str().unwrap()).unwrap();
            Arc::new(SqliteStore::open(&file).await.unwrap())
        }
    }
}

/// Runs each case on each kind of store.
macro_rules! contract {
    ($($case:ident,)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Kind::Sqlite).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Kind::Postgres).await;
            })*
        }
    };
}

contract! {
    of_two_first_master_keys_exactly_one_is_kept,
    a_master_key_is_replaced_only_by_its_successor,
    a_key_comes_back_as_it_was_stored_and_changed,
    a_snapshot_contains_the_sealed_rows_that_were_asked_for,
    external_keys_are_published_replaced_and_withdrawn,
    a_kid_is_never_used_again,
    of_two_changes_to_one_version_exactly_one_is_stored,
    a_change_to_an_old_version_stores_nothing,
    a_change_that_waited_too_long_for_the_lock_is_a_conflict,
    a_change_that_fails_halfway_stores_nothing,
    the_version_counts_changes_to_the_keys_and_nothing_else,
    a_sign_in_is_recorded_only_while_its_key_is_valid,
    a_sign_in_that_does_not_know_of_the_latest_sign_out_is_not_recorded,
    no_sign_in_is_recorded_after_the_account_was_disabled_by_another_process,
    of_two_registrations_of_one_name_exactly_one_succeeds,
    a_name_and_an_address_are_given_out_once,
    a_candidate_is_found_regardless_of_case_and_a_sign_in_with_an_old_hash_is_not_recorded,
    each_sign_in_of_a_batch_gets_its_own_answer,
    a_deleted_account_keeps_its_number_and_its_name_is_never_given_out_again,
    a_token_holder_has_its_state_and_its_latest_sign_out,
    a_disabled_account_cannot_sign_in,
    a_hash_is_replaced_only_if_it_is_the_expected_one,
    an_address_can_be_changed_only_to_an_unused_one,
    accounts_are_listed_page_by_page,
    sign_ins_are_listed_by_time_account_and_address_and_deleted_oldest_first,
    a_client_has_signed_in_if_its_address_or_another_of_its_network_is_in_the_log_since_then,
    the_first_serving_mode_is_recorded_and_stays,
    keys_that_sign_in_open_mode_are_remembered_as_long_as_they_exist,
    a_key_is_known_by_its_thumbprint_until_its_row_is_gone_and_a_revoked_one_longer,
    keys_of_another_program_that_must_stay_do_not_keep_others_from_being_deleted,
    a_snapshot_of_usable_keys_has_those_to_delete_and_leaves_out_most_others_that_have_ended,
}

fn record(number: i64) -> MasterKeyRecord {
    MasterKeyRecord { number, salt: [1; 16], check_value: vec![u8::try_from(number).unwrap(); 20] }
}

fn account(name: &str, email: Option<&str>) -> NewAccount {
    NewAccount {
        username: Username::parse(name).unwrap(),
        email: email.map(|email| Email::parse(email).unwrap()),
        password_hash: hash(),
    }
}

fn hash() -> PasswordHash {
    PasswordHash::stored(HASH.to_owned())
}

fn key(kid: Kid) -> KeyMetadata {
    KeyMetadata::created(kid, Timestamp::from_secs(NOW.as_secs() + 100), Activation::Immediately, NOW)
}

async fn change(store: &Arc<dyn Store>, changes: impl Fn(&KeySnapshot) -> Vec<KeyChange>) {
    let snapshot = snapshot(store).await;
    assert_eq!(store.apply(snapshot.version, changes(&snapshot)).await.unwrap(), Applied::Yes);
}

fn insert_into(snapshot: &KeySnapshot) -> Vec<KeyChange> {
    vec![KeyChange::Insert { key: key(snapshot.next_kid), sealed: b"sealed".to_vec() }]
}

async fn insert(store: &Arc<dyn Store>) -> Kid {
    change(store, insert_into).await;
    snapshot(store).await.keys.last().unwrap().kid
}

/// Without the store's time, which goes on.
async fn snapshot(store: &Arc<dyn Store>) -> KeySnapshot {
    KeySnapshot { store_time: None, ..store.keys(&SealedRows::All).await.unwrap() }
}

fn sign_in(user: UserId, checked: PasswordHash, signed_by: Option<Kid>) -> NewSignIn {
    NewSignIn { user, checked, signed_out_at: None, signed_by, from: [127, 0, 0, 1].into(), at: NOW }
}

async fn of_two_first_master_keys_exactly_one_is_kept(on: Kind) {
    let (place, one) = empty!(on);
    let other = handle(&place).await;
    let version = snapshot(&one).await.version;
    assert_eq!(snapshot(&one).await.master_key, None);
    let set = |number| {
        let mut record = record(1);
        record.check_value = vec![number; 20];
        vec![KeyChange::SetMasterKey(record)]
    };
    let (first, second) = tokio::join!(one.apply(version, set(1)), other.apply(version, set(2)));
    let applied = [first.unwrap(), second.unwrap()];
    assert!(applied.contains(&Applied::Yes) && applied.contains(&Applied::Conflict), "{applied:?}");
    let kept = if applied[0] == Applied::Yes { 1 } else { 2 };
    assert_eq!(snapshot(&other).await.master_key.unwrap().check_value, vec![kept; 20]);
}

async fn a_master_key_is_replaced_only_by_its_successor(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    change(&one, |_| vec![KeyChange::SetMasterKey(record(2))]).await;
    let version = snapshot(&other).await.version;
    for number in [1, 2, 4] {
        let applied = other.apply(version, vec![KeyChange::SetMasterKey(record(number))]).await.unwrap();
        assert_eq!(applied, Applied::Conflict, "{number}");
    }
    assert_eq!(snapshot(&one).await.master_key, Some(record(2)));
}

async fn a_key_comes_back_as_it_was_stored_and_changed(on: Kind) {
    let (_place, [store, other]) = two_handles!(on);
    let kid = insert(&store).await;
    let at = |seconds: i64| Timestamp::from_millis(NOW.as_millis() + seconds * 1000 + 7);
    let exp = Timestamp::from_secs(NOW.as_secs() + 5);
    change(&store, |_| {
        vec![
            KeyChange::ResetPublishedAt { kid, at: at(1) },
            KeyChange::Promote { kid, at: at(2) },
            KeyChange::Revoke { kid, at: at(3) },
            KeyChange::Expire { kid, at: at(4) },
            KeyChange::Reseal { kid, exp, sealed: b"again".to_vec() },
        ]
    })
    .await;
    let snapshot = snapshot(&other).await;
    let expected = KeyMetadata {
        kid,
        exp,
        created_at: NOW,
        published_at: Some(at(1)),
        activated_at: Some(at(2)),
        revoked_at: Some(at(3)),
        expired_at: Some(at(4)),
        is_taken_over: false,
        profile: Some(KeyProfile::default()),
    };
    assert_eq!((snapshot.keys, snapshot.newest_signer), (vec![expected], Some(kid)));
    let row = &snapshot.sealed[0];
    assert_eq!((row.kid, row.exp, row.bytes.as_slice()), (kid, exp, b"again".as_slice()));
    assert_eq!(snapshot.store_time, None);
}

async fn a_snapshot_contains_the_sealed_rows_that_were_asked_for(on: Kind) {
    let (_place, store) = initialized!(on);
    let kids = [insert(&store).await, insert(&store).await, insert(&store).await, insert(&store).await];
    let [expired, revoked, newest_expired, usable] = kids;
    change(&store, |_| {
        vec![
            KeyChange::Expire { kid: expired, at: NOW },
            KeyChange::Revoke { kid: revoked, at: NOW },
            KeyChange::Expire { kid: newest_expired, at: NOW },
        ]
    })
    .await;
    let rows = async |sealed: SealedRows| {
        let snapshot = store.keys(&sealed).await.unwrap();
        let listed = if matches!(sealed, SealedRows::One(_)) { 1 } else { 4 };
        assert_eq!(snapshot.keys.len(), listed);
        snapshot.sealed.into_iter().map(|row| row.kid).collect::<Vec<_>>()
    };
    assert_eq!(rows(SealedRows::All).await, kids);
    assert_eq!(rows(SealedRows::One(revoked)).await, [revoked]);
    let usable_rows = |unreadable| SealedRows::Usable { now: NOW, deletable: deletable(NOW), unreadable };
    assert_eq!(rows(usable_rows(Vec::new())).await, [newest_expired, usable]);
    assert_eq!(rows(usable_rows(vec![newest_expired])).await, [expired, newest_expired, usable]);
}

async fn external_keys_are_published_replaced_and_withdrawn(on: Kind) {
    let (_place, [store, other]) = two_handles!(on);
    let row = |sealed: &[u8], exp| SealedExternalKey {
        kid: "theirs".to_owned(),
        exp,
        added_at: NOW,
        sealed: sealed.to_vec(),
    };
    let exp = Some(Timestamp::from_secs(NOW.as_secs() + 9));
    for row in [row(b"one", None), row(b"two", exp)] {
        change(&store, |_| vec![KeyChange::Publish(row.clone())]).await;
        let stored = snapshot(&other).await.external;
        assert_eq!(format!("{stored:?}"), format!("{:?}", [row]));
    }
    change(&other, |_| vec![KeyChange::Withdraw { kid: "theirs".to_owned() }]).await;
    assert!(snapshot(&store).await.external.is_empty());
}

async fn a_kid_is_never_used_again(on: Kind) {
    let (_place, store) = initialized!(on);
    let (first, second) = (insert(&store).await, insert(&store).await);
    change(&store, |_| {
        vec![KeyChange::Delete { kid: second, at: NOW }, KeyChange::Delete { kid: first, at: NOW }]
    })
    .await;
    let snapshot = snapshot(&store).await;
    assert!(snapshot.keys.is_empty() && snapshot.next_kid > second, "{snapshot:?}");
}

async fn of_two_changes_to_one_version_exactly_one_is_stored(on: Kind) {
    let (_place, stores) = two_handles!(on);
    for round in 1..=20 {
        let version = snapshot(&stores[0]).await.version;
        let before = snapshot(&stores[0]).await;
        let (one, other) = tokio::join!(
            stores[0].apply(version, insert_into(&before)),
            stores[1].apply(version, insert_into(&before)),
        );
        let applied = [one.unwrap(), other.unwrap()];
        assert!(applied.contains(&Applied::Yes) && applied.contains(&Applied::Conflict), "{applied:?}");
        assert_eq!(snapshot(&stores[1]).await.keys.len(), round);
    }
}

async fn a_change_to_an_old_version_stores_nothing(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    let old = snapshot(&one).await;
    insert(&other).await;
    let before = format!("{:?}", snapshot(&one).await);
    assert_eq!(one.apply(old.version, insert_into(&old)).await.unwrap(), Applied::Conflict);
    assert_eq!(one.apply(KeyVersion(i64::MAX), Vec::new()).await.unwrap(), Applied::Conflict);
    assert_eq!(format!("{:?}", snapshot(&one).await), before);
}

async fn a_change_that_waited_too_long_for_the_lock_is_a_conflict(on: Kind) {
    let (place, store) = initialized!(on);
    let before = snapshot(&store).await;
    let lock = place.lock().await;
    let changes = insert_into(&before);
    let version = before.version;
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.apply(version, changes).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    lock.release().await;
    assert_eq!(waiting.await.unwrap().unwrap(), Applied::Conflict);
    assert!(snapshot(&store).await.keys.is_empty());
    assert_eq!(
        store.apply(version, insert_into(&before)).await.unwrap(),
        Applied::Yes,
        "the next one is stored"
    );
}

async fn a_change_that_fails_halfway_stores_nothing(on: Kind) {
    let (_place, store) = initialized!(on);
    insert(&store).await;
    let before = snapshot(&store).await;
    let mut changes = insert_into(&before);
    changes.push(KeyChange::Promote { kid: Kid(99), at: NOW });
    let failed = store.apply(before.version, changes).await;
    assert!(matches!(failed, Err(StoreError::Corrupt(_))), "{failed:?}");
    assert_eq!(format!("{:?}", snapshot(&store).await), format!("{before:?}"));
}

async fn the_version_counts_changes_to_the_keys_and_nothing_else(on: Kind) {
    let (_place, [store, other]) = two_handles!(on);
    let before = store.key_version().await.unwrap();
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let recorded = store.record_sign_in(sign_in(id, hash(), None)).await.unwrap();
    assert_eq!((recorded, store.key_version().await.unwrap()), (SignInOutcome::Recorded, before));
    insert(&store).await;
    let after = other.key_version().await.unwrap();
    assert!(after > before);
    assert_eq!(snapshot(&store).await.version, after);
}

async fn a_sign_in_is_recorded_only_while_its_key_is_valid(on: Kind) {
    let (_place, [store, other]) = two_handles!(on);
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let [valid, revoked, expired] = [insert(&store).await, insert(&store).await, insert(&store).await];
    change(&other, |_| {
        vec![KeyChange::Revoke { kid: revoked, at: NOW }, KeyChange::Expire { kid: expired, at: NOW }]
    })
    .await;
    let at_exp = key(valid).exp;
    for (signed_by, at, expected) in [
        (Some(valid), NOW, SignInOutcome::Recorded),
        (Some(valid), at_exp, SignInOutcome::KeyEnded),
        (Some(revoked), NOW, SignInOutcome::KeyEnded),
        (Some(expired), NOW, SignInOutcome::KeyEnded),
        (Some(Kid(99)), NOW, SignInOutcome::KeyEnded),
        (None, NOW, SignInOutcome::Recorded),
    ] {
        let outcome = store.record_sign_in(NewSignIn { at, ..sign_in(id, hash(), signed_by) }).await.unwrap();
        assert_eq!(outcome, expected, "{signed_by:?}");
    }
    assert_eq!(store.newest_sign_in().await.unwrap(), 2);
}

async fn a_sign_in_that_does_not_know_of_the_latest_sign_out_is_not_recorded(on: Kind) {
    let (_place, [store, other]) = two_handles!(on);
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let record = async |signed_out_at| {
        let sign_in = NewSignIn { signed_out_at, ..sign_in(id, hash(), None) };
        store.record_sign_in(sign_in).await.unwrap()
    };
    assert_eq!(record(None).await, SignInOutcome::Recorded);
    assert!(other.change_account(id, &AccountChange::SignOut, NOW).await.unwrap());
    assert_eq!(record(None).await, SignInOutcome::AccountChanged);
    let earlier = NOW.minus(Duration::from_millis(1));
    assert_eq!(record(Some(earlier)).await, SignInOutcome::AccountChanged);
    assert_eq!(record(Some(NOW)).await, SignInOutcome::Recorded);
    assert_eq!(store.newest_sign_in().await.unwrap(), 2);
}

async fn no_sign_in_is_recorded_after_the_account_was_disabled_by_another_process(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    let id = one.register(account("alice", None), NOW).await.unwrap();
    let (mut recorded, mut refused) = (0, 0);
    for _ in 0..10 {
        let mut sign_ins = JoinSet::new();
        for _ in 0..20 {
            let store = Arc::clone(&one);
            // One after the other, because sign-ins of one moment are recorded in one batch.
            sign_ins.spawn(async move {
                let mut outcomes = Vec::new();
                for _ in 0..20 {
                    outcomes.push(store.record_sign_in(sign_in(id, hash(), None)).await.unwrap());
                }
                outcomes
            });
        }
        // So that the change meets sign-ins that are recorded, waiting and not yet begun.
        while one.newest_sign_in().await.unwrap() == recorded {}
        assert!(changed(&other, id, AccountChange::Disable).await);
        let rows_when_disabled = other.newest_sign_in().await.unwrap();
        for outcome in sign_ins.join_all().await.into_iter().flatten() {
            match outcome {
                SignInOutcome::Recorded => recorded += 1,
                SignInOutcome::AccountChanged => refused += 1,
                SignInOutcome::KeyEnded => panic!("no key was asked for"),
            }
        }
        assert_eq!(recorded, rows_when_disabled, "each was recorded before the change, or not at all");
        assert_eq!(other.newest_sign_in().await.unwrap(), rows_when_disabled);
        assert!(changed(&other, id, AccountChange::Enable).await);
    }
    assert!(refused > 0, "the change never met a sign-in");
}

async fn of_two_registrations_of_one_name_exactly_one_succeeds(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    for number in 0..20 {
        let name = format!("user{number}");
        let (first, second) =
            tokio::join!(one.register(account(&name, None), NOW), other.register(account(&name, None), NOW));
        let conflict = match (first, second) {
            (Ok(_), Err(conflict)) | (Err(conflict), Ok(_)) => conflict,
            other => panic!("{other:?}"),
        };
        assert!(matches!(conflict, StoreError::Conflict(Unique::Username)), "{conflict:?}");
    }
}

async fn a_name_and_an_address_are_given_out_once(on: Kind) {
    let (_place, store) = initialized!(on);
    store.register(account("alice", Some("a@example.com")), NOW).await.unwrap();
    for (account, taken) in
        [(account("ALICE", None), Unique::Username), (account("bob", Some("A@example.com")), Unique::Email)]
    {
        match store.register(account, NOW).await {
            Err(StoreError::Conflict(what)) => assert_eq!(what, taken),
            other => panic!("{other:?}"),
        }
    }
    store.register(account("bob", None), NOW).await.unwrap();
    store.register(account("carol", None), NOW).await.unwrap();
}

async fn a_candidate_is_found_regardless_of_case_and_a_sign_in_with_an_old_hash_is_not_recorded(on: Kind) {
    let (_place, store) = initialized!(on);
    let unknown = store.sign_in_candidate("alice").await.unwrap();
    assert!(unknown.account.is_none() && unknown.costs.is_empty());
    store.register(account("Alice", None), NOW).await.unwrap();
    let candidate = store.sign_in_candidate("aLICE").await.unwrap();
    let found = candidate.account.unwrap();
    assert_eq!((found.id, found.username.as_str()), (UserId(1), "Alice"));
    assert_eq!(candidate.costs, [HashCost("$argon2id$v=19$m=8,t=1,p=1$".to_owned())]);
    let another = PasswordHash::stored("$argon2id$…".to_owned());
    for (user, checked) in [(found.id, another), (UserId(9), found.password_hash)] {
        let outcome = store.record_sign_in(sign_in(user, checked, None)).await.unwrap();
        assert_eq!(outcome, SignInOutcome::AccountChanged);
    }
}

async fn each_sign_in_of_a_batch_gets_its_own_answer(on: Kind) {
    let (_place, store) = initialized!(on);
    let another = PasswordHash::stored("$argon2id$…\0\"'".to_owned());
    let mut ids = Vec::new();
    for name in ["alice", "bob", "carol"] {
        ids.push(store.register(account(name, None), NOW).await.unwrap());
    }
    assert!(changed(&store, ids[2], AccountChange::Disable).await);
    let sign_ins = (0..300).map(|n| {
        let (store, later) = (Arc::clone(&store), Timestamp::from_secs(NOW.as_secs() + n));
        // Alice twice in a row, Bob with a wrong hash, Carol who is disabled, and an unknown account.
        let (user, checked) = match n % 5 {
            0 | 1 => (ids[0], hash()),
            2 => (ids[1], another.clone()),
            3 => (ids[2], hash()),
            _ => (UserId(9), hash()),
        };
        tokio::spawn(async move {
            let gone = n % 10 == 1;
            let recording = store.record_sign_in(NewSignIn { at: later, ..sign_in(user, checked, None) });
            // Some clients disconnect.
            if gone {
                tokio::time::timeout(Duration::ZERO, recording).await.ok()
            } else {
                Some(recording.await)
            }
        })
    });
    let sign_ins: Vec<_> = sign_ins.collect();
    for (n, sign_in) in sign_ins.into_iter().enumerate() {
        if let Some(recorded) = sign_in.await.unwrap() {
            let expected = if n % 5 < 2 { SignInOutcome::Recorded } else { SignInOutcome::AccountChanged };
            assert_eq!(recorded.unwrap(), expected, "{n}");
        }
    }
    let rows = self::sign_ins(&store, &SignInFilter::default()).await;
    assert!((90..=120).contains(&rows.len()), "{}", rows.len());
    assert!(rows.iter().all(|row| row.user == Some(ids[0])));
    let alice = store.account("alice").await.unwrap().unwrap();
    assert!(alice.last_login.is_some_and(|at| (0..300).contains(&(at.as_secs() - NOW.as_secs()))));
}

async fn changed(store: &Arc<dyn Store>, user: UserId, change: AccountChange) -> bool {
    store.change_account(user, &change, NOW).await.unwrap()
}

async fn a_deleted_account_keeps_its_number_and_its_name_is_never_given_out_again(on: Kind) {
    let (_place, store) = initialized!(on);
    let id = store.register(account("alice", Some("a@example.com")), NOW).await.unwrap();
    let recorded = store.record_sign_in(sign_in(id, hash(), None)).await.unwrap();
    assert_eq!(recorded, SignInOutcome::Recorded);
    assert!(changed(&store, id, AccountChange::Delete).await);

    let report = store.account(&format!("deleted:{id}")).await.unwrap().unwrap();
    let expected = AccountReport {
        id,
        username: format!("deleted:{id}"),
        email: None,
        registered: Some(NOW),
        last_login: None,
        state: AccountState::Deleted,
        signed_out_at: None,
        cost: None,
    };
    assert_eq!(report, expected);
    assert_eq!(store.account("alice").await.unwrap(), None);
    let candidate = store.sign_in_candidate("alice").await.unwrap();
    assert!(candidate.account.is_none() && candidate.costs.is_empty(), "{candidate:?}");
    assert!(matches!(
        store.register(account("ALICE", None), NOW).await,
        Err(StoreError::Conflict(Unique::Username))
    ));
    store.register(account("bob", Some("a@example.com")), NOW).await.unwrap();
    for change in [
        AccountChange::Delete,
        AccountChange::Disable,
        AccountChange::Enable,
        AccountChange::SetEmail(None),
        AccountChange::SetHash { hash: hash(), instead_of: None },
        AccountChange::SignOut,
    ] {
        assert!(!changed(&store, id, change).await, "a deleted account cannot be changed");
    }
    let rows = sign_ins(&store, &SignInFilter::default()).await;
    assert_eq!((rows.len(), rows[0].user), (1, Some(id)));
}

async fn a_token_holder_has_its_state_and_its_latest_sign_out(on: Kind) {
    let (_place, store) = initialized!(on);
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let holder = |username: &str, state, signed_out_at| {
        Some(TokenHolder { username: username.to_owned(), state, signed_out_at })
    };
    assert_eq!(store.token_holder(id).await.unwrap(), holder("alice", AccountState::Active, None));
    let earlier = NOW.minus(Duration::from_mins(1));
    for at in [NOW, earlier] {
        assert!(store.change_account(id, &AccountChange::SignOut, at).await.unwrap());
        let expected = holder("alice", AccountState::Active, Some(NOW));
        assert_eq!(store.token_holder(id).await.unwrap(), expected);
    }
    let account = store.sign_in_candidate("alice").await.unwrap().account.unwrap();
    assert_eq!(account.signed_out_at, Some(NOW));
    assert_eq!(store.account("alice").await.unwrap().unwrap().signed_out_at, Some(NOW));
    for (change, username, state) in [
        (AccountChange::Disable, "alice".to_owned(), AccountState::Disabled),
        (AccountChange::Delete, format!("deleted:{id}"), AccountState::Deleted),
    ] {
        assert!(changed(&store, id, change).await);
        assert_eq!(store.token_holder(id).await.unwrap(), holder(&username, state, Some(NOW)));
    }
    assert_eq!(store.token_holder(UserId(id.0 + 1)).await.unwrap(), None);
}

async fn a_disabled_account_cannot_sign_in(on: Kind) {
    let (_place, store) = initialized!(on);
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let signs_in = async || {
        let is_candidate = store.sign_in_candidate("alice").await.unwrap().account.is_some();
        let outcome = store.record_sign_in(sign_in(id, hash(), None)).await.unwrap();
        (is_candidate, outcome)
    };
    assert!(changed(&store, id, AccountChange::Disable).await);
    assert!(changed(&store, id, AccountChange::Disable).await, "disabling twice is allowed");
    assert_eq!(signs_in().await, (false, SignInOutcome::AccountChanged));
    assert!(changed(&store, id, AccountChange::Enable).await);
    assert_eq!(signs_in().await, (true, SignInOutcome::Recorded));
}

async fn a_hash_is_replaced_only_if_it_is_the_expected_one(on: Kind) {
    let (_place, store) = initialized!(on);
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let hash = |memory: u32| PasswordHash::stored(HASH.replace("m=8", &format!("m={memory}")));
    let set = |new, old: Option<u32>| AccountChange::SetHash { hash: hash(new), instead_of: old.map(hash) };
    assert!(!changed(&store, id, set(16, Some(32))).await);
    assert!(changed(&store, id, set(16, Some(8))).await);
    assert!(changed(&store, id, set(24, None)).await);
    assert!(changed(&store, id, AccountChange::Disable).await);
    assert!(!changed(&store, id, set(16, Some(24))).await, "a disabled account cannot change its password");
    let costs = store.sign_in_candidate("alice").await.unwrap().costs;
    assert_eq!(costs, [HashCost("$argon2id$v=19$m=24,t=1,p=1$".to_owned())]);
}

async fn an_address_can_be_changed_only_to_an_unused_one(on: Kind) {
    let (_place, store) = initialized!(on);
    let alice = store.register(account("alice", Some("a@example.com")), NOW).await.unwrap();
    store.register(account("bob", Some("b@example.com")), NOW).await.unwrap();
    let email = |text: &str| AccountChange::SetEmail(Some(Email::parse(text).unwrap()));
    let taken = store.change_account(alice, &email("B@example.com"), NOW).await;
    assert!(matches!(taken, Err(StoreError::Conflict(Unique::Email))), "{taken:?}");
    assert!(changed(&store, alice, email("A@EXAMPLE.com")).await, "its own in another case");
    assert!(changed(&store, alice, AccountChange::SetEmail(None)).await);
    assert_eq!(store.account("alice").await.unwrap().unwrap().email, None);
}

async fn accounts_are_listed_page_by_page(on: Kind) {
    let (_place, store) = initialized!(on);
    for number in 0..5 {
        store.register(account(&format!("user{number}"), None), NOW).await.unwrap();
    }
    let mut names = Vec::new();
    let mut after = UserId(0);
    loop {
        let page = store.accounts(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        names.extend(page.into_iter().map(|account| account.username));
    }
    assert_eq!(names, ["user0", "user1", "user2", "user3", "user4"]);
}

/// All rows that match, read in pages of two.
async fn sign_ins(store: &Arc<dyn Store>, filter: &SignInFilter) -> Vec<SignIn> {
    let (mut rows, mut cursor): (Vec<SignIn>, _) = (Vec::new(), None);
    loop {
        let page = store.sign_ins(filter, &Page::After { cursor, up_to: i64::MAX }, 2).await.unwrap();
        let Some(last) = page.last() else { return rows };
        cursor = Some(last.cursor.clone());
        rows.extend(page);
    }
}

async fn sign_ins_are_listed_by_time_account_and_address_and_deleted_oldest_first(on: Kind) {
    let (_place, store) = initialized!(on);
    let alice = store.register(account("alice", None), NOW).await.unwrap();
    let bob = store.register(account("bob", None), NOW).await.unwrap();
    let at = |seconds: i64| Timestamp::from_secs(NOW.as_secs() + seconds);
    // The clock goes back before the fourth.
    for (user, ip, seconds) in [(alice, 1, 0), (bob, 1, 10), (alice, 2, 20), (alice, 1, 5), (bob, 2, 30)] {
        let from = [192, 0, 2, ip].into();
        let row = NewSignIn { from, at: at(seconds), ..sign_in(user, hash(), None) };
        assert_eq!(store.record_sign_in(row).await.unwrap(), SignInOutcome::Recorded);
    }
    let ids = async |filter: SignInFilter| {
        sign_ins(&store, &filter).await.iter().map(|row| row.cursor.id).collect::<Vec<_>>()
    };
    let all = SignInFilter::default();
    assert_eq!(ids(all).await, [1, 4, 2, 3, 5]);
    assert_eq!(ids(SignInFilter { user: Some(alice), ..all }).await, [1, 4, 3]);
    assert_eq!(ids(SignInFilter { from: Some([192, 0, 2, 1].into()), ..all }).await, [1, 4, 2]);
    assert_eq!(ids(SignInFilter { since: Some(at(10)), user: Some(bob), from: None }).await, [2, 5]);

    let last = store.before_last_sign_ins(&all, 2, i64::MAX).await.unwrap().unwrap();
    assert_eq!(last.id, 2, "the last two come after it");
    assert!(store.before_last_sign_ins(&all, 5, i64::MAX).await.unwrap().is_none());
    assert_eq!(store.newest_sign_in().await.unwrap(), 5);
    let newer =
        store.sign_ins(&SignInFilter { user: Some(alice), ..all }, &Page::NewerThan(2), 10).await.unwrap();
    assert_eq!(newer.iter().map(|row| row.cursor.id).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(
        (newer[0].at, newer[0].from.as_str(), newer[0].username.as_deref()),
        (Some(at(20)), "192.0.2.2", Some("alice"))
    );

    assert_eq!(store.delete_sign_ins_before(at(10), 1).await.unwrap(), 1, "at most one");
    assert_eq!(store.delete_sign_ins_before(at(10), 10).await.unwrap(), 1);
    assert_eq!(ids(all).await, [2, 3, 5]);
}

async fn a_client_has_signed_in_if_its_address_or_another_of_its_network_is_in_the_log_since_then(on: Kind) {
    let (_place, store) = initialized!(on);
    let alice = store.register(account("alice", None), NOW).await.unwrap();
    let bob = store.register(account("bob", None), NOW).await.unwrap();
    // The second address of each pair belongs to the same client. Zeros change how an IPv6 address is written.
    let clients = [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:a:b::1", "2001:db8:a:b:c:d:e:f"),
        ("2001:db8:a:c:1:2:3:4", "2001:db8:a:c::"),
        ("2001:db8:a::1:2:3", "2001:db8:a:0:1:2:3:4"),
        ("2001:db8:b:0:1:2:3:4", "2001:db8:b::"),
        ("2001:db8::1", "2001:db8:0:0:1::"),
        ("2001:0:0:5:6:7:8:9", "2001:0:0:5::"),
        ("2001:0:0:6::1", "2001:0:0:6:1:2:3:4"),
        ("::5:0:1:2:3", "0:0:0:5::"),
        ("::1", "0:0:0:0:1:2:3:4"),
    ];
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let since = |seconds: i64| Timestamp::from_secs(NOW.as_secs() + seconds);
    let has_signed_in =
        async |user, text, since| store.has_signed_in(user, address(text).into(), since).await.unwrap();
    for (n, (first, second)) in clients.into_iter().enumerate() {
        assert!(!has_signed_in(alice, first, since(0)).await, "{first} before");
        let at = since(i64::try_from(n).unwrap());
        let row = NewSignIn { from: address(first), at, ..sign_in(alice, hash(), None) };
        assert_eq!(store.record_sign_in(row).await.unwrap(), SignInOutcome::Recorded);
        for text in [first, second] {
            assert!(has_signed_in(alice, text, at).await, "{text} like {first}");
            assert!(
                !has_signed_in(alice, text, Timestamp::from_secs(at.as_secs() + 1)).await,
                "{text} later"
            );
            assert!(!has_signed_in(bob, text, since(0)).await, "{text} of another account");
            assert!(!has_signed_in(UserId(i64::MIN), text, since(0)).await, "{text} without an account");
        }
    }
    for other in ["192.0.2.10", "192.0.2.2", "2001:db8:a:b0::1", "2001:db8:a:d::1", "2001:db8:0:1::1", "1::1"]
    {
        assert!(!has_signed_in(alice, other, since(0)).await, "{other}");
    }
}

async fn the_first_serving_mode_is_recorded_and_stays(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    assert_eq!(one.serving_mode().await.unwrap(), None);
    for (store, mode) in [(&one, ServingMode::Open), (&other, ServingMode::Password)] {
        assert_eq!(store.record_serving_mode(mode).await.unwrap(), Some(ServingMode::Open));
        assert_eq!(store.serving_mode().await.unwrap(), Some(ServingMode::Open));
    }
}

async fn keys_that_sign_in_open_mode_are_remembered_as_long_as_they_exist(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    let kids = [insert(&one).await, insert(&one).await];
    for kid in [kids[0], kids[1], kids[1]] {
        one.record_open_mode_key(kid).await.unwrap();
    }
    assert_eq!(snapshot(&other).await.open_mode_keys, kids);
    change(&other, |_| vec![KeyChange::Delete { kid: kids[0], at: NOW }]).await;
    assert_eq!(snapshot(&one).await.open_mode_keys, [kids[1]]);
}

async fn a_key_is_known_by_its_thumbprint_until_its_row_is_gone_and_a_revoked_one_longer(on: Kind) {
    let (_place, [one, other]) = two_handles!(on);
    let [kept, revoked] = [insert(&one).await, insert(&one).await];
    assert!(snapshot(&one).await.lacks_thumbprints);
    let thumbprints = ["kept", "revoked", "unknown"].map(str::to_owned);
    let record =
        |kid, thumbprint: &str| KeyChange::RecordThumbprint { kid, thumbprint: thumbprint.to_owned() };
    change(&one, |_| vec![record(kept, "kept"), record(revoked, "revoked")]).await;
    assert!(!snapshot(&other).await.lacks_thumbprints);
    let known = async || {
        let known = other.known_keys(&thumbprints).await.unwrap();
        known.into_iter().map(|key| (key.thumbprint, key.kid, key.is_revoked)).collect::<Vec<_>>()
    };
    let expected = |thumbprint: &str, kid, is_revoked| (thumbprint.to_owned(), kid, is_revoked);
    assert_eq!(
        known().await,
        [expected("kept", Some(kept), false), expected("revoked", Some(revoked), false)]
    );
    change(&one, |_| vec![KeyChange::Revoke { kid: revoked, at: NOW }]).await;
    assert_eq!(
        known().await,
        [expected("kept", Some(kept), false), expected("revoked", Some(revoked), true)]
    );
    change(&one, |_| [kept, revoked].map(|kid| KeyChange::Delete { kid, at: NOW }).into()).await;
    assert_eq!(known().await, [expected("revoked", None, true)]);
}

/// Keys of every origin.
fn deletable(expired_by: Timestamp) -> Deletable {
    Deletable { expired_by, taken_over_by: NOW }
}

async fn keys_of_another_program_that_must_stay_do_not_keep_others_from_being_deleted(on: Kind) {
    let (_place, store) = initialized!(on);
    let taken_over = i64::from(MAX_DELETABLE) + 50;
    change(&store, |snapshot| {
        let kids = (0..=taken_over).map(|n| Kid(snapshot.next_kid.0 + n));
        let ended = |kid: Kid| {
            let is_taken_over = kid.0 <= taken_over;
            let exp = key(kid).exp.as_secs() - i64::from(is_taken_over);
            let key = KeyMetadata { is_taken_over, exp: Timestamp::from_secs(exp), ..key(kid) };
            [KeyChange::Insert { key, sealed: b"sealed".to_vec() }, KeyChange::Expire { kid, at: NOW }]
        };
        kids.flat_map(ended).collect()
    })
    .await;
    let own = Kid(taken_over + 1);
    let loaded = async |taken_over_by| {
        let deletable = Deletable { expired_by: key(own).exp, taken_over_by };
        let rows = SealedRows::Usable { now: NOW, deletable, unreadable: Vec::new() };
        store.keys(&rows).await.unwrap().keys.iter().map(|key| key.kid).collect::<Vec<_>>()
    };
    let early = loaded(Timestamp::from_secs(NOW.as_secs() - 1)).await;
    assert_eq!((early.len(), early.last()), (1 + usize::try_from(MAX_DELETED_NEXT).unwrap(), Some(&own)));
    let late = loaded(NOW).await;
    assert_eq!((late.len(), late.last()), (1 + usize::try_from(MAX_DELETABLE).unwrap(), Some(&own)));
}

async fn a_snapshot_of_usable_keys_has_those_to_delete_and_leaves_out_most_others_that_have_ended(on: Kind) {
    let (_place, store) = initialized!(on);
    let keys = 2 * i64::from(MAX_DELETABLE);
    change(&store, |snapshot| {
        let kids = (0..keys).map(|n| Kid(snapshot.next_kid.0 + n));
        let ended = |kid| {
            let end = if kid == Kid(7) {
                KeyChange::Revoke { kid, at: NOW }
            } else {
                KeyChange::Expire { kid, at: NOW }
            };
            [KeyChange::Insert { key: key(kid), sealed: b"sealed".to_vec() }, end]
        };
        kids.flat_map(ended).collect()
    })
    .await;
    let alive = insert(&store).await;
    let exp = key(alive).exp;
    let before = Timestamp::from_secs(exp.as_secs() - 1);
    for (expired_by, at_most) in [(before, MAX_DELETED_NEXT), (exp, MAX_DELETABLE)] {
        let rows = SealedRows::Usable { now: NOW, deletable: deletable(expired_by), unreadable: Vec::new() };
        let usable = store.keys(&rows).await.unwrap();
        let loaded: Vec<_> = usable.keys.iter().map(|key| key.kid).collect();
        assert!(loaded.contains(&alive) && loaded.contains(&Kid(keys)), "the newest expired one is there");
        assert!(loaded.contains(&Kid(7)), "so is the newest revoked one");
        let oldest = usize::try_from(at_most).unwrap();
        assert!((oldest..=oldest + 3).contains(&loaded.len()), "{}", loaded.len());
        let left_out = usable.unloaded.expired + usable.unloaded.revoked;
        assert_eq!(loaded.len() + left_out, usize::try_from(keys).unwrap() + 1);
        assert_eq!(usable.next_kid, Kid(alive.0 + 1));
    }
}
