//! What the keyring does when a key set fails its self-check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use jwksd_core::clock::{Clock as _, ManualClock, Timestamp};
use jwksd_core::issuer::{
    BlockingPool, Context, IssuerError, Keyring, MasterKey, NotReady, SharedRng, initialize,
};
use jwksd_core::key::lifecycle::{Phase, RotationPolicy};
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::key::self_check::{self, SelfCheck, SelfCheckError};
use jwksd_core::key::uploaded_set::UploadedSet;
use jwksd_core::key::{KeySpec, Kid, SigningKey};
use jwksd_core::store::KeyVersion;
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use jwksd_store_sqlite::{DatabaseFile, SqliteStore};

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

/// A new store, and what its processes have in common.
struct Setup {
    _directory: TempDir,
    context: Context,
    clock: Arc<ManualClock>,
    master_key: MasterKey,
}

impl Setup {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
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
        Self { _directory: directory, context, clock, master_key }
    }

    /// The keyring of one process.
    async fn keyring(&self, check: SelfCheck) -> Keyring {
        let policy = RotationPolicy::new(24 * HOUR, 24 * HOUR, 2 * HOUR, HOUR / 4, HOUR / 12).unwrap();
        let (context, master_key) = (self.context.clone(), self.master_key.clone());
        Keyring::open_with(context, master_key, policy, KeySpec::default(), check).await.unwrap()
    }

    fn signer(&self, keyring: &Keyring) -> Option<Kid> {
        keyring.signer(self.clock.now()).map(|key| key.kid())
    }

    async fn version(&self) -> KeyVersion {
        self.context.store.key_version().await.unwrap()
    }
}

#[tokio::test]
async fn a_key_set_that_fails_its_self_check_is_not_published_and_the_old_one_stays() {
    let setup = Setup::new().await;
    let keyring = setup.keyring(check::<0>).await;
    let before = keyring.publication().unwrap();
    assert!(keyring.readiness().await.is_ok());

    fail(0, true);
    expect_not_published(keyring.rotate(true).await, 3);
    keyring.tick().await.unwrap();
    assert_eq!(keyring.publication().unwrap().body, before.body);
    assert_eq!(setup.signer(&keyring), Some(Kid(1)));
    assert!(keyring.self_check_failures() >= 2);
    match keyring.readiness().await {
        Err(NotReady::SelfCheck(SelfCheckError::KeyMissing(Kid(3)))) => {}
        other => panic!("{other:?}"),
    }

    fail(0, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
    assert_ne!(keyring.publication().unwrap().body, before.body);
    assert_eq!(setup.signer(&keyring), Some(Kid(3)));
    assert_eq!(phases(&keyring), [(1, Phase::Retiring), (2, Phase::Expired), (3, Phase::Current)]);
}

#[tokio::test]
async fn a_revoked_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let setup = Setup::new().await;
    let keyring = setup.keyring(check::<1>).await;

    fail(1, true);
    expect_not_published(keyring.revoke(Kid(1)).await, 3);
    let published = keyring.publication().map(|publication| publication.body.to_vec()).unwrap_or_default();
    assert!(
        !String::from_utf8(published).unwrap().contains(r#""kid":"1""#),
        "verifiers stop trusting the key"
    );
    assert_ne!(setup.signer(&keyring), Some(Kid(1)), "it signs nothing more");

    fail(1, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
}

#[tokio::test]
async fn a_next_key_that_fails_its_self_check_is_not_published() {
    let setup = Setup::new().await;
    let keyring = setup.keyring(check_key_3).await;
    let before = keyring.publication().unwrap();
    expect_not_published(keyring.rotate(false).await, 3);
    assert_eq!(keyring.publication().unwrap().body, before.body);
}

#[tokio::test]
async fn a_withdrawn_external_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let setup = Setup::new().await;
    let keyring = setup.keyring(check::<2>).await;
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
    let setup = Setup::new().await;
    let (keyring, clock) = (setup.keyring(check::<4>).await, &setup.clock);
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
    let setup = Setup::new().await;
    fail(3, true);
    let keyring = setup.keyring(check::<3>).await;
    let version = setup.version().await;
    for _ in 0..3 {
        keyring.tick().await.unwrap();
    }
    assert!(keyring.publication().is_none());
    assert!(matches!(keyring.readiness().await, Err(NotReady::SelfCheck(_))));
    assert_eq!(setup.version().await, version);

    fail(3, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
    assert_eq!(phases(&keyring), [(1, Phase::Current), (2, Phase::Expired)]);
}

#[tokio::test]
async fn keys_that_fail_the_self_check_from_the_start_are_listed_and_can_be_revoked() {
    let setup = Setup::new().await;
    setup.keyring(self_check::check).await;
    let keyring = setup.keyring(check_none).await;
    assert!(keyring.publication().is_none());
    assert_eq!(setup.signer(&keyring), None);
    assert_eq!(phases(&keyring), [(1, Phase::Current), (2, Phase::Expired)]);
    expect_not_published(keyring.revoke(Kid(1)).await, 3);
    assert_eq!(phases(&keyring), [(1, Phase::Revoked), (2, Phase::Expired), (3, Phase::Current)]);
}

#[tokio::test]
async fn a_replaced_external_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let setup = Setup::new().await;
    let (keyring, clock) = (setup.keyring(check::<5>).await, &setup.clock);
    let other = setup.keyring(self_check::check).await;
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
    let setup = Setup::new().await;
    let keyring = setup.keyring(check::<6>).await;
    let other = setup.keyring(self_check::check).await;
    fail(6, true);
    other.rotate(false).await.unwrap();
    keyring.tick().await.unwrap();
    assert!(matches!(keyring.readiness().await, Err(NotReady::SelfCheck(_))));
    assert!(keyring.publication().is_some());
    let failures = keyring.self_check_failures();
    keyring.tick().await.unwrap();
    assert_eq!(keyring.self_check_failures(), failures + 1, "a tick tries it once");

    fail(6, false);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
}
