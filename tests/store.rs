//! What the issuer relies on in a store: one contract, to be run against every kind of store there is.

use std::sync::Arc;
use std::time::Duration;

use jwksd::domain::account::{AccountReport, AccountState, Email, NewAccount, UserId, Username};
use jwksd::domain::clock::Timestamp;
use jwksd::domain::key::Kid;
use jwksd::domain::key::lifecycle::{Activation, KeyMetadata};
use jwksd::domain::password::{HashCost, PasswordHash};
use jwksd::store::{
    AccountChange, DatabaseFile, KeyChange, KeySnapshot, MasterKeyRecord, Page, Refusal, SignIn,
    SignInFilter, SqliteStore, Store, StoreError, Unique,
};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

/// A store with nothing in it. Another kind of store is another one of these.
async fn empty() -> (TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let location = DatabaseFile::parse(dir.path().join("store.db").to_str().unwrap()).unwrap();
    let store = SqliteStore::open(&location).await.unwrap();
    (dir, Arc::new(store))
}

fn record(number: i64) -> MasterKeyRecord {
    MasterKeyRecord { number, salt: [1; 16], check_value: vec![u8::try_from(number).unwrap(); 20] }
}

/// A store that has a master key.
async fn founded() -> (TempDir, Arc<dyn Store>) {
    let (dir, store) = empty().await;
    assert_eq!(store.initialize(record(1), &mut |_| Ok(Vec::new())).await.unwrap(), record(1));
    (dir, store)
}

fn account(name: &str, email: Option<&str>) -> NewAccount {
    NewAccount {
        username: Username::parse(name).unwrap(),
        email: email.map(|email| Email::parse(email).unwrap()),
        password_hash: PasswordHash::stored(HASH.to_owned()),
    }
}

fn life(kid: Kid) -> KeyMetadata {
    KeyMetadata::created(kid, Timestamp::from_secs(NOW.as_secs() + 100), Activation::Immediately, NOW)
}

async fn change(store: &Arc<dyn Store>, change: impl Fn(&KeySnapshot) -> Vec<KeyChange> + Send + Sync) {
    store.change_keys(&record(1), &|_| Vec::new(), &mut |picture| Ok(change(picture))).await.unwrap();
}

async fn insert(store: &Arc<dyn Store>) -> Kid {
    change(store, |picture| {
        vec![KeyChange::Insert { life: life(picture.next_kid), sealed: b"sealed".to_vec() }]
    })
    .await;
    picture(store).await.lives.last().unwrap().kid
}

async fn picture(store: &Arc<dyn Store>) -> KeySnapshot {
    store.keys(&|lives| lives.iter().map(|life| life.kid).collect()).await.unwrap()
}

#[tokio::test]
async fn the_first_master_key_stays_whoever_comes_second() {
    let (_dir, store) = empty().await;
    assert_eq!(store.master_key().await.unwrap(), None);
    store.initialize(record(1), &mut |_| Ok(Vec::new())).await.unwrap();
    let present = store.initialize(record(2), &mut |_| panic!("it is not asked")).await.unwrap();
    assert_eq!((present, store.master_key().await.unwrap()), (record(1), Some(record(1))));
}

#[tokio::test]
async fn a_key_comes_back_as_it_went_in_and_its_life_as_it_went_on() {
    let (_dir, store) = founded().await;
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
    let picture = picture(&store).await;
    let expected = KeyMetadata {
        kid,
        exp,
        created_at: NOW,
        published_at: Some(at(1)),
        activated_at: Some(at(2)),
        revoked_at: Some(at(3)),
        expired_at: Some(at(4)),
    };
    assert_eq!(picture.lives, [expected]);
    let row = &picture.sealed[0];
    assert_eq!((row.kid, row.exp, row.bytes.as_slice()), (kid, exp, b"again".as_slice()));
}

#[tokio::test]
async fn a_kid_is_never_used_again() {
    let (_dir, store) = founded().await;
    let (first, second) = (insert(&store).await, insert(&store).await);
    change(&store, |_| {
        vec![KeyChange::Delete { kid: second, at: NOW }, KeyChange::Delete { kid: first, at: NOW }]
    })
    .await;
    let picture = picture(&store).await;
    assert!(picture.lives.is_empty() && picture.next_kid > second, "{picture:?}");
}

#[tokio::test]
async fn a_change_that_was_refused_or_failed_half_way_leaves_nothing() {
    let (_dir, store) = founded().await;
    insert(&store).await;
    let before = format!("{:?}", picture(&store).await);
    let refused = store.change_keys(&record(1), &|_| Vec::new(), &mut |_| Err(Refusal)).await;
    assert!(matches!(refused, Err(StoreError::Refused)));
    let failed = store
        .change_keys(&record(1), &|_| Vec::new(), &mut |picture| {
            let life = life(picture.next_kid);
            let missing = KeyChange::Promote { kid: Kid(99), at: NOW };
            Ok(vec![KeyChange::Insert { life, sealed: Vec::new() }, missing])
        })
        .await;
    assert!(matches!(failed, Err(StoreError::Corrupt(_))), "{failed:?}");
    assert_eq!(format!("{:?}", picture(&store).await), before);
}

#[tokio::test]
async fn nothing_is_changed_under_a_master_key_that_is_no_more() {
    let (_dir, store) = founded().await;
    store.replace_master_key(&record(1), &record(2), &mut |_| Ok(Vec::new()), &|_| Ok(())).await.unwrap();
    let changed = store.change_keys(&record(1), &|_| Vec::new(), &mut |_| panic!("it is not asked")).await;
    assert!(matches!(changed, Err(StoreError::MasterKeyChanged)));
    let replaced =
        store.replace_master_key(&record(1), &record(3), &mut |_| Ok(Vec::new()), &|_| Ok(())).await;
    assert!(matches!(replaced, Err(StoreError::MasterKeyChanged)));
    assert_eq!(store.master_key().await.unwrap(), Some(record(2)));
}

#[tokio::test]
async fn a_master_key_that_does_not_pass_the_check_is_not_kept() {
    let (_dir, store) = founded().await;
    let replaced = store
        .replace_master_key(&record(1), &record(2), &mut |_| Ok(Vec::new()), &|picture| {
            assert_eq!(picture.master_key, Some(record(2)));
            Err(Refusal)
        })
        .await;
    assert!(matches!(replaced, Err(StoreError::Refused)));
    assert_eq!(store.master_key().await.unwrap(), Some(record(1)));
}

#[tokio::test]
async fn changes_to_the_keys_are_counted_and_nothing_else_is() {
    let (_dir, store) = founded().await;
    let before = store.key_changes().await.unwrap();
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let hash = PasswordHash::stored(HASH.to_owned());
    assert!(store.record_sign_in(id, &hash, [127, 0, 0, 1].into(), NOW).await.unwrap());
    assert_eq!(store.key_changes().await.unwrap(), before);
    insert(&store).await;
    let after = store.key_changes().await.unwrap();
    assert!(after > before);
    assert_eq!(picture(&store).await.changes, after);
}

#[tokio::test]
async fn names_and_addresses_are_given_out_once() {
    let (_dir, store) = founded().await;
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

#[tokio::test]
async fn a_candidate_is_found_whatever_the_case_and_a_sign_in_of_an_old_hash_is_not_recorded() {
    let (_dir, store) = founded().await;
    let nobody = store.sign_in_candidate("alice").await.unwrap();
    assert!(nobody.account.is_none() && nobody.costs.is_empty());
    store.register(account("Alice", None), NOW).await.unwrap();
    let candidate = store.sign_in_candidate("aLICE").await.unwrap();
    let found = candidate.account.unwrap();
    assert_eq!((found.id, found.username.as_str()), (UserId(1), "Alice"));
    assert_eq!(candidate.costs, [HashCost("$argon2id$v=19$m=8,t=1,p=1$".to_owned())]);
    let another = PasswordHash::stored("$argon2id$…".to_owned());
    assert!(!store.record_sign_in(found.id, &another, [127, 0, 0, 1].into(), NOW).await.unwrap());
    assert!(
        !store.record_sign_in(UserId(9), &found.password_hash, [127, 0, 0, 1].into(), NOW).await.unwrap()
    );
}

#[tokio::test]
async fn of_sign_ins_that_come_together_each_is_answered_for_itself() {
    let (dir, store) = founded().await;
    let hash = PasswordHash::stored(HASH.to_owned());
    let another = PasswordHash::stored("$argon2id$…\0\"'".to_owned());
    let mut ids = Vec::new();
    for name in ["alice", "bob", "carol"] {
        ids.push(store.register(account(name, None), NOW).await.unwrap());
    }
    assert!(changed(&store, ids[2], AccountChange::Disable).await);
    let sign_ins = (0..300).map(|n| {
        let (store, later) = (Arc::clone(&store), Timestamp::from_secs(NOW.as_secs() + n));
        // Alice twice in a row, Bob by a hash that is not his, Carol who may not, and somebody who is not there.
        let (user, hash) = match n % 5 {
            0 | 1 => (ids[0], hash.clone()),
            2 => (ids[1], another.clone()),
            3 => (ids[2], hash.clone()),
            _ => (UserId(9), hash.clone()),
        };
        tokio::spawn(async move {
            let gone = n % 10 == 1;
            let recording = store.record_sign_in(user, &hash, [127, 0, 0, 1].into(), later);
            // Some are not waited for.
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
            assert_eq!(recorded.unwrap(), n % 5 < 2, "{n}");
        }
    }
    let url = format!("sqlite://{}", dir.path().join("store.db").display());
    let mut db = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let (rows, users): (i64, i64) = sqlx::query_as("SELECT count(*), count(DISTINCT user_id) FROM auth_logs")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert!((90..=120).contains(&rows) && users == 1, "{rows} of {users}");
    let alice = store.account("alice").await.unwrap().unwrap();
    assert!(alice.last_login.is_some_and(|at| (0..300).contains(&(at.as_secs() - NOW.as_secs()))));
}

async fn changed(store: &Arc<dyn Store>, user: UserId, change: AccountChange) -> bool {
    store.change_account(user, &change, NOW).await.unwrap()
}

#[tokio::test]
async fn a_deleted_account_leaves_its_number_and_a_name_that_is_used_up() {
    let (_dir, store) = founded().await;
    let id = store.register(account("alice", Some("a@example.com")), NOW).await.unwrap();
    let hash = PasswordHash::stored(HASH.to_owned());
    assert!(store.record_sign_in(id, &hash, [127, 0, 0, 1].into(), NOW).await.unwrap());
    assert!(changed(&store, id, AccountChange::Delete).await);

    let report = store.account(&format!("deleted:{id}")).await.unwrap().unwrap();
    let expected = AccountReport {
        id,
        username: format!("deleted:{id}"),
        email: None,
        registered: Some(NOW),
        last_login: None,
        state: AccountState::Deleted,
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
        AccountChange::SetHash { hash, instead_of: None },
    ] {
        assert!(!changed(&store, id, change).await, "there is nothing left to change");
    }
    let rows = sign_ins(&store, &SignInFilter::default()).await;
    assert_eq!((rows.len(), rows[0].user), (1, Some(id)));
}

#[tokio::test]
async fn a_disabled_account_is_no_candidate_and_its_sign_in_is_not_recorded() {
    let (_dir, store) = founded().await;
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let hash = PasswordHash::stored(HASH.to_owned());
    let signs_in = async || {
        let is_candidate = store.sign_in_candidate("alice").await.unwrap().account.is_some();
        let is_recorded = store.record_sign_in(id, &hash, [127, 0, 0, 1].into(), NOW).await.unwrap();
        (is_candidate, is_recorded)
    };
    assert!(changed(&store, id, AccountChange::Disable).await);
    assert!(changed(&store, id, AccountChange::Disable).await, "twice is no mistake");
    assert_eq!(signs_in().await, (false, false));
    assert!(changed(&store, id, AccountChange::Enable).await);
    assert_eq!(signs_in().await, (true, true));
}

#[tokio::test]
async fn a_hash_is_replaced_only_where_it_is_the_one_that_was_expected() {
    let (_dir, store) = founded().await;
    let id = store.register(account("alice", None), NOW).await.unwrap();
    let hash = |memory: u32| PasswordHash::stored(HASH.replace("m=8", &format!("m={memory}")));
    let set = |new, old: Option<u32>| AccountChange::SetHash { hash: hash(new), instead_of: old.map(hash) };
    assert!(!changed(&store, id, set(16, Some(32))).await);
    assert!(changed(&store, id, set(16, Some(8))).await);
    assert!(changed(&store, id, set(24, None)).await);
    let costs = store.sign_in_candidate("alice").await.unwrap().costs;
    assert_eq!(costs, [HashCost("$argon2id$v=19$m=24,t=1,p=1$".to_owned())]);
}

#[tokio::test]
async fn an_address_can_be_changed_to_one_that_nobody_has() {
    let (_dir, store) = founded().await;
    let alice = store.register(account("alice", Some("a@example.com")), NOW).await.unwrap();
    store.register(account("bob", Some("b@example.com")), NOW).await.unwrap();
    let email = |text: &str| AccountChange::SetEmail(Some(Email::parse(text).unwrap()));
    let taken = store.change_account(alice, &email("B@example.com"), NOW).await;
    assert!(matches!(taken, Err(StoreError::Conflict(Unique::Email))), "{taken:?}");
    assert!(changed(&store, alice, email("A@EXAMPLE.com")).await, "its own in another case");
    assert!(changed(&store, alice, AccountChange::SetEmail(None)).await);
    assert_eq!(store.account("alice").await.unwrap().unwrap().email, None);
}

#[tokio::test]
async fn accounts_are_listed_page_by_page() {
    let (_dir, store) = founded().await;
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

/// All that match, read in pages of two.
async fn sign_ins(store: &Arc<dyn Store>, filter: &SignInFilter) -> Vec<SignIn> {
    let (mut rows, mut cursor): (Vec<SignIn>, _) = (Vec::new(), None);
    loop {
        let page = store.sign_ins(filter, &Page::After { cursor, up_to: i64::MAX }, 2).await.unwrap();
        let Some(last) = page.last() else { return rows };
        cursor = Some(last.cursor.clone());
        rows.extend(page);
    }
}

#[tokio::test]
async fn sign_ins_are_listed_by_time_account_and_address_and_trimmed_from_the_oldest_on() {
    let (_dir, store) = founded().await;
    let alice = store.register(account("alice", None), NOW).await.unwrap();
    let bob = store.register(account("bob", None), NOW).await.unwrap();
    let hash = PasswordHash::stored(HASH.to_owned());
    let at = |seconds: i64| Timestamp::from_secs(NOW.as_secs() + seconds);
    // The clock goes back before the fourth.
    for (user, ip, seconds) in [(alice, 1, 0), (bob, 1, 10), (alice, 2, 20), (alice, 1, 5), (bob, 2, 30)] {
        store.record_sign_in(user, &hash, [192, 0, 2, ip].into(), at(seconds)).await.unwrap();
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
    assert_eq!(last.id, 2, "behind it lie the last two");
    assert!(store.before_last_sign_ins(&all, 5, i64::MAX).await.unwrap().is_none());
    assert_eq!(store.newest_sign_in().await.unwrap(), 5);
    let newer =
        store.sign_ins(&SignInFilter { user: Some(alice), ..all }, &Page::NewerThan(2), 10).await.unwrap();
    assert_eq!(newer.iter().map(|row| row.cursor.id).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(
        (newer[0].at, newer[0].from.as_str(), newer[0].username.as_deref()),
        (Some(at(20)), "192.0.2.2", Some("alice"))
    );

    assert_eq!(store.delete_sign_ins_before(at(10), 1).await.unwrap(), 1, "no more at once than was said");
    assert_eq!(store.delete_sign_ins_before(at(10), 10).await.unwrap(), 1);
    assert_eq!(ids(all).await, [2, 3, 5]);
}
