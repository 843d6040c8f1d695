//! What the keyring does when a key set fails its self-check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::state::Keyring;
use super::{NotReady, initialize};
use crate::domain::clock::{ManualClock, Timestamp};
use crate::domain::key::lifecycle::{Phase, RotationPolicy};
use crate::domain::key::seal::MasterSecret;
use crate::domain::key::self_check::{self, SelfCheckError};
use crate::domain::key::{Kid, SigningKey};
use crate::issuer::{BlockingPool, Context, SharedRng};
use crate::store::sqlite::{DatabaseFile, SqliteStore};

const HOUR: Duration = Duration::from_hours(1);

/// Fails all self-checks while it is set. Only one test uses it.
static IS_FAILING: AtomicBool = AtomicBool::new(false);

/// As [`IS_FAILING`], for the test of a revocation.
static FAILS_AT_REVOCATION: AtomicBool = AtomicBool::new(false);

type Check = fn(&[u8], &SigningKey, Timestamp) -> Result<(), SelfCheckError>;

fn check_at_revocation(jwks: &[u8], key: &SigningKey, now: Timestamp) -> Result<(), SelfCheckError> {
    if FAILS_AT_REVOCATION.load(Ordering::Relaxed) {
        return Err(SelfCheckError::KeyMissing(key.kid()));
    }
    self_check::check(jwks, key, now)
}

fn check(jwks: &[u8], key: &SigningKey, now: Timestamp) -> Result<(), SelfCheckError> {
    if IS_FAILING.load(Ordering::Relaxed) {
        return Err(SelfCheckError::KeyMissing(key.kid()));
    }
    self_check::check(jwks, key, now)
}

async fn keyring(directory: &TempDir, check: Check) -> Keyring {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let file = DatabaseFile::parse(directory.path().join("store.db").to_str().unwrap()).unwrap();
    let context = Context {
        store: Arc::new(SqliteStore::open(&file).await.unwrap()),
        rng: SharedRng::new(StdRng::seed_from_u64(1)),
        pool: BlockingPool::new(2, Arc::clone(&clock) as _).unwrap(),
        clock,
    };
    let secret = MasterSecret::parse("correct horse battery staple").unwrap();
    let master_key = initialize(&secret, &context).await.unwrap();
    let policy = RotationPolicy::new(24 * HOUR, 24 * HOUR, 2 * HOUR, HOUR / 4, HOUR / 12).unwrap();
    Keyring::open_with(context, master_key, policy, check).await.unwrap()
}

#[tokio::test]
async fn a_key_set_that_fails_its_self_check_is_not_published_and_the_old_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check).await;
    let before = keyring.publication().unwrap();
    assert!(keyring.readiness().await.is_ok());

    IS_FAILING.store(true, Ordering::Relaxed);
    keyring.rotate(true).await.unwrap();
    keyring.tick().await.unwrap();
    assert_eq!(keyring.publication().unwrap().body, before.body);
    assert_eq!(keyring.signer(keyring.context.clock.now()).unwrap().kid(), Kid(1));
    assert!(keyring.self_check_failures() >= 2);
    match keyring.readiness().await {
        Err(NotReady::SelfCheck(SelfCheckError::KeyMissing(Kid(3)))) => {}
        other => panic!("{other:?}"),
    }

    IS_FAILING.store(false, Ordering::Relaxed);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
    assert_ne!(keyring.publication().unwrap().body, before.body);
    assert_eq!(keyring.signer(keyring.context.clock.now()).unwrap().kid(), Kid(3));
    let phases: Vec<_> = keyring.report().into_iter().map(|key| (key.kid.0, key.phase)).collect();
    assert_eq!(phases, [(1, Phase::Retiring), (2, Phase::Expired), (3, Phase::Current)]);
}

#[tokio::test]
async fn a_revoked_key_is_gone_although_the_new_key_set_fails_its_self_check() {
    let directory = tempfile::tempdir().unwrap();
    let keyring = keyring(&directory, check_at_revocation).await;

    FAILS_AT_REVOCATION.store(true, Ordering::Relaxed);
    keyring.revoke(Kid(1)).await.unwrap();
    let published = keyring.publication().map(|publication| publication.body.to_vec()).unwrap_or_default();
    assert!(
        !String::from_utf8(published).unwrap().contains(r#""kid":"1""#),
        "verifiers stop trusting the key"
    );
    let signer = keyring.signer(keyring.context.clock.now());
    assert_ne!(signer.map(|key| key.kid()), Some(Kid(1)), "it signs nothing more");

    FAILS_AT_REVOCATION.store(false, Ordering::Relaxed);
    keyring.tick().await.unwrap();
    assert!(keyring.readiness().await.is_ok());
}
