//! What the keyring does when a key set fails its self-check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::state::{Keyring, Reloaded};
use super::{NotReady, initialize};
use crate::domain::clock::{Clock as _, ManualClock, Timestamp};
use crate::domain::key::lifecycle::{Phase, RotationPolicy};
use crate::domain::key::seal::MasterSecret;
use crate::domain::key::self_check::{self, SelfCheck, SelfCheckError};
use crate::domain::key::uploaded_set::UploadedSet;
use crate::domain::key::{KeySpec, Kid, SigningKey};
use crate::issuer::{BlockingPool, Context, IssuerError, SharedRng};
use crate::store::sqlite::{DatabaseFile, SqliteStore};
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};

const HOUR: Duration = Duration::from_hours(1);

/// Whether the self-checks of a test fail. A test has an index of its own, because tests run at the same time.
static IS_FAILING: [AtomicBool; 7] = [const { AtomicBool::new(false) }; 7];

fn check<const TEST: usize>(sets: &[&[u8]], key: &SigningKey, now: Timestamp) -> Result<(), SelfCheckError> {
    if IS_FAILING[TEST].load(Ordering::Relaxed) {
        return Err(SelfCheckError::KeyMissing(key.kid()));
    }
    self_check::check(sets, key, now)
}

/// Fails for key 3 only.
fn check_key_3(sets: &[&[u8]], key: &SigningKey, now: Timestamp) -> Result<(), SelfCheckError> {
    if key.kid() == Kid(3) {
        Err(SelfCheckError::KeyMissing(Kid(3)))
    } else {
        self_check::check(sets, key, now)
    }
}

/// Fails for every key.
fn check_none(_: &[&[u8]], key: &SigningKey, _: Timestamp) -> Result<(), SelfCheckError> {
    Err(SelfCheckError::KeyMissing(key.kid()))
}

fn fail(test: usize, fails: bool) {
    IS_FAILING[test].store(fails, Ordering::Relaxed);
}

fn expect_not_published(changed: Result<(), IssuerError>, kid: i64) {
    match changed {
        Err(IssuerError::NotPublished(SelfCheckError::KeyMissing(missing))) => assert_eq!(missing, Kid(kid)),
        other => panic!("{other:?}"),
    }
}

fn phases(keyring: &Keyring) -> Vec<(i64, Phase)> {
    keyring.report().into_iter().map(|key| (key.kid.0, key.phase)).collect()
}

/// A JWK of another issuer, as it is uploaded.
fn external_jwk(exp: Option<Timestamp>) -> Vec<u8> {
    let key = PrivateKey::generate(NewKey::for_algorithm(Algorithm::Es256)).unwrap();
    let jwk = Jwk::new(key.public().clone(), "external".to_owned(), Algorithm::Es256).unwrap();
    let mut jwk = serde_json::to_value(&jwk).unwrap();
    if let Some(exp) = exp {
        jwk["exp"] = exp.as_secs().into();
    }
    jwk.to_string().into_bytes()
}

async fn keyring(directory: &TempDir, check: SelfCheck) -> Keyring {
    keyring_and_clock(directory, check).await.0
}

async fn keyring_and_clock(directory: &TempDir, check: SelfCheck) -> (Keyring, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let file = DatabaseFile::parse(directory.path().join("store.db").to_str().unwrap()).unwrap();
    let context = Context {
        store: Arc::new(SqliteStore::open(&file).await.unwrap()),
        rng: SharedRng::new(StdRng::seed_from_u64(1)),
        pool: BlockingPool::new(2, Arc::clone(&clock) as _).unwrap(),
        clock: Arc::clone(&clock) as _,
    };
    let secret = MasterSecret::parse("correct horse battery staple").unwrap();
    let master_key = initialize(&secret, &context).await.unwrap();
    let policy = RotationPolicy::new(24 * HOUR, 24 * HOUR, 2 * HOUR, HOUR / 4, HOUR / 12).unwrap();
    (Keyring::open_with(context, master_key, policy, KeySpec::default(), check).await.unwrap(), clock)
}

/// The keyring of another process on the same store, whose self-checks pass.
async fn second_keyring(first: &Keyring) -> Keyring {
    let (context, master_key) = (first.context.clone(), first.master_key.clone());
    Keyring::open(context, master_key, first.policy, KeySpec::default()).await.unwrap()
}

#[tokio::test]
async fn a_key_set_that_fails_its_self_check_is_not_published_and_the_old_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check::<0>).await;
    let before = keyring.publication().unwrap();
    assert!(keyring.readiness().await.is_ok());

    fail(0, true);
    expect_not_published(keyring.rotate(true).await, 3);
    keyring.tick().await.unwrap();
    assert_eq!(keyring.publication().unwrap().body, before.body);
    assert_eq!(keyring.signer(keyring.context.clock.now()).unwrap().kid(), Kid(1));
    assert!(keyring.self_check_failures() >= 2);
    match keyring.readiness().await {
        Err(NotReady::SelfCheck(SelfCheckError::KeyMissing(Kid(3)))) => {}
        other => panic!("{other:?}"),
    }

    fail(0, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
    assert_ne!(keyring.publication().unwrap().body, before.body);
    assert_eq!(keyring.signer(keyring.context.clock.now()).unwrap().kid(), Kid(3));
    assert_eq!(phases(&keyring), [(1, Phase::Retiring), (2, Phase::Expired), (3, Phase::Current)]);
}

#[tokio::test]
async fn a_revoked_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check::<1>).await;

    fail(1, true);
    expect_not_published(keyring.revoke(Kid(1)).await, 3);
    let published = keyring.publication().map(|publication| publication.body.to_vec()).unwrap_or_default();
    assert!(
        !String::from_utf8(published).unwrap().contains(r#""kid":"1""#),
        "verifiers stop trusting the key"
    );
    let signer = keyring.signer(keyring.context.clock.now());
    assert_ne!(signer.map(|key| key.kid()), Some(Kid(1)), "it signs nothing more");

    fail(1, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
}

#[tokio::test]
async fn a_next_key_that_fails_its_self_check_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check_key_3).await;
    let before = keyring.publication().unwrap();
    expect_not_published(keyring.rotate(false).await, 3);
    assert_eq!(keyring.publication().unwrap().body, before.body);
}

#[tokio::test]
async fn a_withdrawn_external_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check::<2>).await;
    let before = keyring.publication().unwrap();
    let uploads = UploadedSet::parse(&external_jwk(None)).unwrap().keys;
    keyring.upload(uploads).await.unwrap();
    assert_ne!(keyring.publication().unwrap().body, before.body);

    fail(2, true);
    match keyring.withdraw("external").await {
        Err(IssuerError::NotPublished(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(keyring.publication().unwrap().body, before.body);
}

#[tokio::test]
async fn keys_that_expired_stay_expired_in_an_old_set_when_the_clock_is_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let (keyring, clock) = keyring_and_clock(&directory, check::<4>).await;
    let before = keyring.publication().unwrap();
    let jwk = external_jwk(Some(clock.now().plus(HOUR)));
    keyring.upload(UploadedSet::parse(&jwk).unwrap().keys).await.unwrap();
    let with_external = keyring.publication().unwrap();
    assert_ne!(with_external.body, before.body);

    fail(4, true);
    clock.advance(2 * HOUR);
    assert_eq!(keyring.publication().unwrap().body, before.body);
    expect_not_published(keyring.rotate(false).await, 1);
    clock.set(clock.now().minus(2 * HOUR));
    keyring.tick().await.unwrap();
    keyring.tick().await.unwrap();
    assert_eq!(keyring.publication().unwrap().body, before.body);
}

#[tokio::test]
async fn a_store_whose_keys_fail_the_self_check_from_the_start_gets_no_further_keys() {
    let directory = tempfile::tempdir().unwrap();
    fail(3, true);
    let keyring = keyring(&directory, check::<3>).await;
    let version = keyring.context.store.key_version().await.unwrap();
    for _ in 0..3 {
        keyring.tick().await.unwrap();
    }
    assert!(keyring.publication().is_none());
    assert!(matches!(keyring.readiness().await, Err(NotReady::SelfCheck(_))));
    assert_eq!(keyring.context.store.key_version().await.unwrap(), version);

    fail(3, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
    assert_eq!(phases(&keyring), [(1, Phase::Current), (2, Phase::Expired)]);
}

#[tokio::test]
async fn keys_that_fail_the_self_check_from_the_start_are_listed_and_can_be_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let first = keyring(&directory, self_check::check).await;
    let keyring = Keyring::open_with(
        first.context.clone(),
        first.master_key.clone(),
        first.policy,
        KeySpec::default(),
        check_none,
    );
    let keyring = keyring.await.unwrap();
    assert!(keyring.publication().is_none());
    assert!(keyring.signer(keyring.context.clock.now()).is_none());
    assert_eq!(phases(&keyring), [(1, Phase::Current), (2, Phase::Expired)]);
    expect_not_published(keyring.revoke(Kid(1)).await, 3);
    assert_eq!(phases(&keyring), [(1, Phase::Revoked), (2, Phase::Expired), (3, Phase::Current)]);
}

#[tokio::test]
async fn a_replaced_external_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let directory = tempfile::tempdir().unwrap();
    let (keyring, clock) = keyring_and_clock(&directory, check::<5>).await;
    let other = second_keyring(&keyring).await;
    let before = keyring.publication().unwrap();
    for shortened in [false, true] {
        let upload = |exp| {
            let jwk = external_jwk(exp);
            UploadedSet::parse(&jwk).unwrap().keys
        };
        let first = upload(Some(clock.now().plus(2 * HOUR)));
        keyring.upload(first.clone()).await.unwrap();
        assert_ne!(keyring.publication().unwrap().body, before.body);

        fail(5, true);
        if shortened {
            let mut jwk = serde_json::to_value(first[0].jwk()).unwrap();
            jwk["exp"] = clock.now().plus(HOUR).as_secs().into();
            other.upload(UploadedSet::parse(jwk.to_string().as_bytes()).unwrap().keys).await.unwrap();
        } else {
            other.withdraw("external").await.unwrap();
            other.upload(upload(None)).await.unwrap();
        }
        keyring.tick().await.unwrap();
        assert_eq!(keyring.publication().unwrap().body, before.body, "shortened: {shortened}");

        fail(5, false);
        keyring.tick().await.unwrap();
        assert_ne!(keyring.publication().unwrap().body, before.body);
        keyring.withdraw("external").await.unwrap();
    }
}

#[tokio::test]
async fn a_self_check_that_failed_is_done_again_although_no_key_has_changed() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check::<6>).await;
    fail(6, true);
    assert!(matches!(keyring.reload().await.unwrap(), Reloaded::Kept(_)));
    assert!(matches!(keyring.readiness().await, Err(NotReady::SelfCheck(_))));
    assert!(keyring.publication().is_some());
    let failures = keyring.self_check_failures();
    keyring.tick().await.unwrap();
    assert_eq!(keyring.self_check_failures(), failures + 1, "a tick tries it once");

    fail(6, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
}
