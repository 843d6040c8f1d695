//! The keyring: what is published and who signs, kept up to date round by round, swapped in one step.
//!
//! What to change in the store is `rotation`'s; what an operator may ask for is in `operations` and `rekey`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::master_key::MasterKey;
use super::rotation::{Draft, Intent, Refused, Step, all, wanted};
use super::snapshot::{KeyringSnapshot, Publication, Unreadable};
use super::{BlockingPool, Context, IssuerError, WorkError, lock};
use crate::domain::clock::{ClockAnchor, Timestamp};
use crate::domain::jose::external_key::ExternalKey;
use crate::domain::jose::private_key::PrivateKey;
use crate::domain::key::lifecycle::{self, KeyMetadata, PlanContext, RotationPolicy};
use crate::domain::key::status::{KeyStatus, RotationStatus, StatusReport};
use crate::domain::key::{self, Kid, SigningKey};
use crate::store::{KeySnapshot, Refusal, Select, StoreError};

/// Without a completed round for this long, the rotation counts as dead.
const TICK_OVERDUE: Duration = Duration::from_mins(1);

/// How many keys are made side by side: the two of a first start.
const KEYS_AT_ONCE: usize = 2;

/// How often a change is tried again for want of a key that had to be made first.
const ATTEMPTS: usize = 5;

/// The keys of a store.
pub struct Keyring {
    pub(super) context: Context,
    pub(super) master_key: MasterKey,
    policy: RotationPolicy,
    /// BlockingPool of its own: no crowd of passwords holds up the rotation.
    pool: BlockingPool,
    snapshot: ArcSwap<KeyringSnapshot>,
    /// Where both clocks stood when this process first saw each key, or when the wall clock went back since.
    anchors: Mutex<HashMap<Kid, ClockAnchor>>,
    last_tick: Mutex<Duration>,
    master_key_changed: AtomicBool,
    failures: AtomicU32,
}

impl Keyring {
    /// Opens the keys as they are. A store without any gets its first two.
    ///
    /// # Errors
    /// Whatever the store or the making of a key says.
    pub async fn open(
        context: Context,
        master_key: MasterKey,
        policy: RotationPolicy,
    ) -> Result<Self, IssuerError> {
        let pool = BlockingPool::new(KEYS_AT_ONCE, Arc::clone(&context.clock))?;
        let keyring = Self {
            last_tick: Mutex::new(context.clock.monotonic()),
            context,
            master_key,
            policy,
            pool,
            snapshot: ArcSwap::from_pointee(KeyringSnapshot::empty()),
            anchors: Mutex::default(),
            master_key_changed: AtomicBool::new(false),
            failures: AtomicU32::new(0),
        };
        keyring.reload().await?;
        if keyring.snapshot.load().lives().is_empty() {
            keyring.tick().await?;
        }
        Ok(keyring)
    }

    /// One round: takes over what other processes changed, and rotates what is due.
    ///
    /// # Errors
    /// Whatever the store or the making of a key says; what was published before still is.
    pub async fn tick(&self) -> Result<(), IssuerError> {
        let done = self.try_tick().await;
        match done {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(_) => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
        done
    }

    async fn try_tick(&self) -> Result<(), IssuerError> {
        if self.context.store.key_changes().await? != self.snapshot.load().changes() {
            self.reload().await?;
            tracing::info!(
                "another process has changed the keys: {}",
                self.snapshot.load().in_words(self.context.clock.now())
            );
        }
        let snapshot = self.snapshot.load_full();
        let now = self.moment(snapshot.newest_signer());
        let is_due = || !lifecycle::plan(snapshot.lives(), &self.policy, &now).is_empty();
        if snapshot.has_adoptable() || snapshot.has_unrecorded_end() || is_due() {
            self.change(&Intent::Keep).await?;
        }
        *lock(&self.last_tick) = self.context.clock.monotonic();
        Ok(())
    }

    /// All keys that can be used, with their phases and times.
    #[must_use]
    pub fn report(&self) -> Vec<KeyStatus> {
        self.look().keys()
    }

    /// The rotation in figures.
    #[must_use]
    pub fn rotation_status(&self) -> RotationStatus {
        self.look().rotation_status()
    }

    /// How many rounds have failed since the last that did not.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The rows of `keys` that are left out, each with the reason.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.snapshot.load().unreadable().to_vec()
    }

    /// What verifiers get at this moment.
    pub(super) fn publication(&self, now: Timestamp) -> Option<Publication> {
        self.snapshot.load().publication(now)
    }

    /// Keys of others that are published now.
    pub(super) fn uploaded(&self) -> Vec<ExternalKey> {
        self.snapshot.load().uploaded(self.context.clock.now()).cloned().collect()
    }

    /// The key that signs at this moment.
    pub(super) fn signer(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        self.snapshot.load().signer(now, self.policy.token_ttl())
    }

    /// The key that `?expired` signs with.
    pub(super) fn expired_signer(&self) -> Option<Arc<SigningKey>> {
        self.snapshot.load().expired_signer()
    }

    /// Whether tokens can be issued for their whole life, from a store that answers, by keys that rotate.
    pub(super) async fn readiness(&self) -> Result<(), NotReady> {
        let now = self.context.clock.now();
        let ttl = self.policy.token_ttl();
        if self.master_key_changed.load(Ordering::Relaxed) {
            return Err(NotReady::MasterKeyChanged);
        }
        if self.signer(now).is_none_or(|key| now.plus(ttl).as_secs() > key.exp().as_secs()) {
            return Err(NotReady::NoSigner);
        }
        let last_tick = *lock(&self.last_tick);
        if self.context.clock.monotonic().saturating_sub(last_tick) > TICK_OVERDUE {
            return Err(NotReady::RotationStalled);
        }
        self.context.store.key_changes().await.map_err(NotReady::Store)?;
        Ok(())
    }

    /// Changes the keys as intended and as the plan then says, in one transaction, and takes over the outcome.
    ///
    /// The transaction finds out which keys have to be made; they are made outside of it, and it is tried again.
    pub(super) async fn change(&self, intent: &Intent<'_>) -> Result<(), IssuerError> {
        let mut made = Vec::new();
        for _ in 0..ATTEMPTS {
            match self.carry_out(intent, &mut made).await? {
                Attempt::Done => return self.reload().await,
                Attempt::NeedsKeys(needed) => self.make_keys(&mut made, needed).await?,
            }
        }
        Err(IssuerError::Store(StoreError::Refused))
    }

    async fn carry_out(
        &self,
        intent: &Intent<'_>,
        made: &mut Vec<PrivateKey>,
    ) -> Result<Attempt, IssuerError> {
        let snapshot = self.snapshot.load_full();
        let unreadable: Vec<_> = snapshot.unreadable().iter().map(|row| row.kid).collect();
        let clock = Arc::clone(&self.context.clock);
        let imports = matches!(intent, Intent::Import(_));
        let select = move |lives: &[KeyMetadata]| {
            // Whatever is brought in is compared with everything that is here.
            if imports { all(lives) } else { wanted(lives, clock.now(), &unreadable) }
        };
        let (mut refused, mut steps) = (None, Vec::new());
        let mut decide = |picture: &KeySnapshot| {
            // The time is read when the lock is held: waiting for it may have taken long.
            let now = self.moment(picture.newest_signer);
            let draft =
                Draft::of(picture, &self.master_key.sealer, &self.policy, &now, &snapshot.ended().keys);
            match draft.intend(intent).and_then(|draft| draft.plan(intent).settle(made, &self.context.rng)) {
                Ok((changes, log)) => {
                    steps = log;
                    Ok(changes)
                }
                Err(why) => {
                    refused = Some(why);
                    Err(Refusal)
                }
            }
        };
        let changed = self.context.store.change_keys(&self.master_key.record, &select, &mut decide).await;
        match (changed, refused) {
            (Ok(()), _) => {
                steps.into_iter().for_each(Step::report);
                Ok(Attempt::Done)
            }
            (Err(StoreError::Refused), Some(Refused::NeedsKeys(needed))) => Ok(Attempt::NeedsKeys(needed)),
            (Err(StoreError::Refused), Some(Refused::Operation(why))) => Err(why.into()),
            (Err(error), _) => Err(self.taken(error)),
        }
    }

    /// Makes keys side by side until there are this many.
    async fn make_keys(&self, made: &mut Vec<PrivateKey>, needed: usize) -> Result<(), IssuerError> {
        let making: Vec<_> = (made.len()..needed)
            .map(|_| {
                let pool = self.pool.clone();
                tokio::spawn(async move { pool.run(key::generate).await })
            })
            .collect();
        for key in making {
            made.push(key.await.map_err(|_| WorkError::Lost)???);
        }
        Ok(())
    }

    /// Makes a key, beside those that passwords are hashed by.
    pub(super) async fn generate(&self) -> Result<PrivateKey, IssuerError> {
        Ok(self.pool.run(key::generate).await??)
    }

    pub(super) async fn reload(&self) -> Result<(), IssuerError> {
        let mut unreadable = Vec::new();
        let snapshot = loop {
            let snapshot = self.open_snapshot(unreadable.clone()).await?;
            let known = unreadable.len();
            unreadable = snapshot.unreadable().iter().map(|row| row.kid).collect();
            if !snapshot.lacks_expired(self.context.clock.now()) || unreadable.len() <= known {
                break snapshot;
            }
        };
        let before = self.snapshot.swap(Arc::new(snapshot));
        self.notice(&before);
        Ok(())
    }

    async fn open_snapshot(&self, unreadable: Vec<Kid>) -> Result<KeyringSnapshot, IssuerError> {
        let (now, ended) = (self.context.clock.now(), self.snapshot.load().ended());
        let picture = self.picture(&move |lives| wanted(lives, now, &unreadable)).await?;
        let sealer = self.master_key.sealer.clone();
        Ok(self.pool.run(move || KeyringSnapshot::open(picture, &sealer, now, ended)).await?)
    }

    /// The keys as they are, provided that they are still sealed under our master key.
    pub(super) async fn picture(&self, select: Select<'_>) -> Result<KeySnapshot, IssuerError> {
        let picture = self.context.store.keys(select).await?;
        if picture.master_key.as_ref() == Some(&self.master_key.record) {
            return Ok(picture);
        }
        // What cannot be opened any more can still be seen to have been revoked.
        let snapshot = self.snapshot.load_full();
        self.snapshot.store(Arc::new(snapshot.without_ended(&picture.lives, self.context.clock.now())));
        Err(self.taken(StoreError::MasterKeyChanged))
    }

    /// Remembers that the store has another master key by now: nothing more is sealed or read, what is in memory stays.
    pub(super) fn taken(&self, error: StoreError) -> IssuerError {
        if matches!(error, StoreError::MasterKeyChanged) {
            self.master_key_changed.store(true, Ordering::Relaxed);
        }
        error.into()
    }

    /// Notes when each key was first seen, and names the rows that are left out, once.
    fn notice(&self, before: &KeyringSnapshot) {
        let snapshot = self.snapshot.load();
        let anchor = ClockAnchor::now(self.context.clock.as_ref());
        let mut anchors = lock(&self.anchors);
        let present: HashSet<_> = snapshot.lives().iter().map(|life| life.kid).collect();
        anchors.retain(|kid, _| present.contains(kid));
        for life in snapshot.lives() {
            anchors.entry(life.kid).or_insert(anchor);
        }
        for row in snapshot.unreadable().iter().filter(|row| !before.unreadable().contains(row)) {
            tracing::warn!(kid = %row.kid, "key {} is left out of signing and of the JWKS: {}", row.kid, row.why);
        }
        for kid in snapshot.changed_uploads().iter().filter(|kid| !before.changed_uploads().contains(kid)) {
            tracing::warn!(
                kid,
                "the uploaded key {kid:?} is left out of the JWKS: it was changed after it was sealed"
            );
        }
    }

    fn moment(&self, newest_signer: Option<Kid>) -> PlanContext {
        let (wall, monotonic) = (self.context.clock.now(), self.context.clock.monotonic());
        let watched = lock(&self.anchors)
            .iter_mut()
            .map(|(kid, anchor)| (*kid, anchor.trusted_now(wall, monotonic)))
            .collect();
        PlanContext { wall, watched, newest_signer }
    }

    fn look(&self) -> StatusReport {
        let snapshot = self.snapshot.load();
        StatusReport::new(
            snapshot.lives().to_vec(),
            snapshot.newest_signer(),
            self.policy,
            self.context.clock.now(),
        )
    }
}

enum Attempt {
    Done,
    NeedsKeys(usize),
}

/// Why an issuer cannot do its work.
#[derive(Debug, Error)]
pub enum NotReady {
    /// The store is sealed under another master key by now.
    #[error("the store was moved to another master key: restart with the new NOT_MY_KEY")]
    MasterKeyChanged,
    /// No key can sign a token of full life.
    #[error("no key can sign a token of full TOKEN_TTL")]
    NoSigner,
    /// The rotation has not completed a round for a minute.
    #[error("the key rotation has not completed a round for {} s", TICK_OVERDUE.as_secs())]
    RotationStalled,
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[source] StoreError),
}
