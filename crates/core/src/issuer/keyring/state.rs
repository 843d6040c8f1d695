//! The keyring itself: one snapshot of the keys that requests read, brought up to date tick by tick.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use tokio::sync::MutexGuard;

use super::anchors::Anchors;
use super::inspect::UnreadableRow;
use super::last_pulse::LastPulse;
use super::master_key::{APPLY_ATTEMPTS, MasterKey, unlock};
use super::rotation::{Basis, Draft, Intent, Settled, log_all};
use super::self_check_log::SelfCheckLog;
use super::snapshot::{KeyringSnapshot, LaterKeys, Publication};
use super::successor::Successor;
use crate::clock::Timestamp;
use crate::issuer::blocking_pool::{BlockingPool, WorkError};
use crate::issuer::context::Context;
use crate::issuer::error::IssuerError;
use crate::issuer::mutex::lock;
use crate::key::external_key::ExternalKey;
use crate::key::lifecycle::{self, Action, MAX_PUBLISHED, Phase, PlanContext, RotationPolicy};
use crate::key::seal::MasterSecret;
use crate::key::self_check::{self, SelfCheck, SelfCheckError};
use crate::key::status::{KeyStatus, RotationStatus, StatusReport};
use crate::key::{KeyError, KeySpec, Kid, SigningKey};
use crate::store::{Applied, KeyChange, KeySnapshot, Pulse, SealedRows, StoreError};
use jwksd_jose::jws::Jws;
use jwksd_jose::private_key::PrivateKey;
use jwksd_jose::verify_error::VerifyError;

/// Keys that are generated at the same time: the two of a first start.
const PARALLEL_KEYS: usize = 2;

/// Time without an answer of the store after which the JWKS may only be cached briefly.
const TOLERATED_SILENCE: Duration = Duration::from_secs(2);

/// How long it may be cached then.
const SILENT_FRESHNESS: Duration = Duration::from_secs(10);

/// The keys of a store.
pub struct Keyring {
    pub(super) context: Context,
    master_key: ArcSwap<MasterKey>,
    successor: Successor,
    pub(super) policy: RotationPolicy,
    /// Which keys this process creates.
    pub(super) spec: KeySpec,
    /// A pool of its own: many sign-ins must not delay the rotation.
    pub(super) pool: BlockingPool,
    pub(super) snapshot: ArcSwap<KeyringSnapshot>,
    /// For each key, both clocks at the time this process first saw it, or when the wall clock last went back.
    pub(super) anchors: Mutex<Anchors>,
    /// The key that this process has created last, and when.
    last_created: Mutex<Option<(Kid, Timestamp)>>,
    /// Until when tokens may be valid that a server with a longer `TOKEN_TTL` has issued.
    longer_tokens_until: Mutex<Option<Timestamp>>,
    /// When keys could not be deleted, by the monotonic clock. Nothing after a success.
    pub(super) deletion_failed_at: Mutex<Option<Duration>>,
    pub(super) last_tick: Mutex<Duration>,
    pub(super) last_pulse: LastPulse,
    /// Whether the store failed to answer since the last reload. What it says then may be of another server.
    must_reload: AtomicBool,
    /// The greatest number of a key that this process has seen. A store that lost changes would give it out again.
    greatest_kid: AtomicI64,
    pub(super) failed_ticks: AtomicU32,
    pub(super) master_key_changed: AtomicBool,
    /// Whether there are keys whose thumbprints are not recorded.
    pub(super) lacks_thumbprints: AtomicBool,
    /// The key that this process has last recorded to sign in open mode.
    pub(super) open_mode_key: AtomicI64,
    /// Held by each reload: an older snapshot must not replace a newer one, with keys that were revoked between them.
    reloading: tokio::sync::Mutex<()>,
    pub(super) self_check: SelfCheck,
    pub(super) self_check_log: SelfCheckLog,
}

impl Keyring {
    /// Opens the keys of the store. A store without keys gets its first two.
    ///
    /// # Errors
    /// [`IssuerError`] when the store or the generation of a key fails.
    pub async fn open(
        context: Context,
        master_key: MasterKey,
        policy: RotationPolicy,
        spec: KeySpec,
    ) -> Result<Self, IssuerError> {
        Self::open_with(context, master_key, policy, spec, self_check::check).await
    }

    /// A keyring with a self-check of the caller, for tests.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(
        context: Context,
        master_key: MasterKey,
        policy: RotationPolicy,
        spec: KeySpec,
        self_check: SelfCheck,
    ) -> Result<Self, IssuerError> {
        let pool = BlockingPool::new(PARALLEL_KEYS, Arc::clone(&context.clock))?;
        let keyring = Self {
            last_tick: Mutex::new(context.clock.monotonic()),
            last_pulse: LastPulse::default(),
            must_reload: AtomicBool::new(false),
            greatest_kid: AtomicI64::new(0),
            anchors: Mutex::new(Anchors::new(context.clock.as_ref())),
            context,
            master_key: ArcSwap::from_pointee(master_key),
            successor: Successor::default(),
            policy,
            spec,
            pool,
            snapshot: ArcSwap::from_pointee(KeyringSnapshot::empty()),
            last_created: Mutex::default(),
            longer_tokens_until: Mutex::default(),
            deletion_failed_at: Mutex::default(),
            failed_ticks: AtomicU32::new(0),
            master_key_changed: AtomicBool::new(false),
            lacks_thumbprints: AtomicBool::new(false),
            open_mode_key: AtomicI64::new(i64::MIN),
            reloading: tokio::sync::Mutex::default(),
            self_check,
            self_check_log: SelfCheckLog::default(),
        };
        keyring.reload().await?;
        // Waits for the first keys, so that a new server does not start with an empty JWKS.
        if keyring.snapshot.load().keys().is_empty() {
            keyring.tick().await?;
        }
        Ok(keyring)
    }

    /// The same keyring, which goes over to this master key when a rekey moves the store to it.
    #[must_use]
    pub fn with_successor(mut self, successor: Option<MasterSecret>) -> Self {
        self.successor = Successor::new(successor);
        self
    }

    /// The master key that the store is sealed under.
    pub(super) fn master_key(&self) -> Arc<MasterKey> {
        self.master_key.load_full()
    }

    /// One tick of the rotation: takes over what other processes have changed, and changes what is due.
    ///
    /// # Errors
    /// [`IssuerError`] when the store or the generation of a key fails. What was published before still is, except for keys
    /// that have ended.
    pub async fn tick(&self) -> Result<(), IssuerError> {
        let ticked = self.try_tick().await;
        match ticked {
            Ok(()) => self.failed_ticks.store(0, Ordering::Relaxed),
            Err(_) => drop(self.failed_ticks.fetch_add(1, Ordering::Relaxed)),
        }
        ticked
    }

    async fn try_tick(&self) -> Result<(), IssuerError> {
        // A set that was kept says nothing about the keys as they are stored.
        let is_kept = matches!(self.refresh().await?, Some(Reloaded::Kept(_)));
        self.record_some_thumbprints().await?;
        let snapshot = self.snapshot.load_full();
        let context = self.plan_context(snapshot.newest_signer());
        let planned = lifecycle::plan(snapshot.keys(), &self.policy, &context);
        if is_kept
            || snapshot.has_adoptable()
            || snapshot.has_duplicates()
            || snapshot.has_unrecorded_expiry()
            || !snapshot.twins().is_empty()
            || !planned.iter().all(Action::is_deletion)
        {
            self.change(&Intent::Keep).await?;
        }
        if planned.iter().any(Action::is_deletion) {
            self.delete_ended().await?;
        }
        // Only after a complete tick, so that readiness notices a rotation that fails or hangs.
        *lock(&self.last_tick) = self.context.clock.monotonic();
        Ok(())
    }

    /// The keys that a round of the rotation needs, with their phases and times: all that are published, and some that have
    /// ended.
    #[must_use]
    pub fn report(&self) -> Vec<KeyStatus> {
        self.status_report().keys()
    }

    /// Every key in the store that can be used, with its phase and times: also those that ended long ago, which
    /// [`report`](Self::report) may leave out.
    ///
    /// # Errors
    /// [`IssuerError::Store`] when the store fails.
    pub async fn full_report(&self) -> Result<Vec<KeyStatus>, IssuerError> {
        let stored = self.stored_keys(&SealedRows::None).await?;
        let unreadable: HashSet<_> = self.unreadable_kids().into_iter().collect();
        let keys = stored.keys.into_iter().filter(|key| !unreadable.contains(&key.kid)).collect();
        Ok(StatusReport::new(keys, stored.newest_signer, self.policy, self.context.clock.now()).keys())
    }

    /// The state of the rotation.
    #[must_use]
    pub fn rotation_status(&self) -> RotationStatus {
        let mut status = self.status_report().rotation_status();
        let unloaded = self.snapshot.load().unloaded();
        for (phase, keys) in [(Phase::Expired, unloaded.expired), (Phase::Revoked, unloaded.revoked)] {
            if keys > 0 {
                *status.by_phase.entry(phase).or_default() += keys;
            }
        }
        status
    }

    fn status_report(&self) -> StatusReport {
        let snapshot = self.snapshot.load();
        let (keys, newest_signer) = (snapshot.keys().to_vec(), snapshot.newest_signer());
        StatusReport::new(keys, newest_signer, self.policy, self.context.clock.now())
    }

    /// How many ticks in a row have failed.
    #[must_use]
    pub fn failed_ticks(&self) -> u32 {
        self.failed_ticks.load(Ordering::Relaxed)
    }

    /// How many key sets were not published because a probe token did not verify.
    #[must_use]
    pub fn self_check_failures(&self) -> u64 {
        self.self_check_log.failures()
    }

    /// The rows of `keys` that are left out, each with the reason.
    #[must_use]
    pub fn unreadable(&self) -> Vec<UnreadableRow> {
        self.snapshot.load().unreadable().to_vec()
    }

    /// What verifiers get now: nothing if there is no key to publish.
    #[must_use]
    pub fn publication(&self) -> Option<Publication> {
        let mut publication = self.snapshot.load().publication(self.context.clock.now())?;
        publication.fresh_for = self.limit_freshness(publication.fresh_for);
        Some(publication)
    }

    /// How long something may be cached that could be so for this long: briefly while the store is silent, because other
    /// processes may have changed it.
    #[must_use]
    pub fn limit_freshness(&self, fresh_for: Duration) -> Duration {
        if self.store_silence() > TOLERATED_SILENCE { fresh_for.min(SILENT_FRESHNESS) } else { fresh_for }
    }

    /// For how long a store that others change too has not answered; zero for a file.
    #[must_use]
    pub fn store_silence(&self) -> Duration {
        self.last_pulse.silence(self.context.clock.monotonic())
    }

    /// The `alg` values of all published keys, each once, in the order of the JWKS.
    #[must_use]
    pub fn published_algorithms(&self) -> Vec<&'static str> {
        self.snapshot.load().algorithms(self.context.clock.now())
    }

    /// The external keys that are published now.
    pub(super) fn external(&self) -> Vec<ExternalKey> {
        self.snapshot.load().external(self.context.clock.now()).cloned().collect()
    }

    /// Verifies the signature of a token with our own published keys, and returns its claims.
    pub(in crate::issuer) fn verify(&self, token: &str) -> Result<Map<String, Value>, VerifyError> {
        let keys = self.snapshot.load().trusted(self.context.clock.now());
        Jws::parse(token)?.verify(&keys)
    }

    /// The key that signs at this time.
    pub fn signer(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        self.snapshot.load().signer(now, self.policy.token_ttl())
    }

    /// The key that signs tokens that are made expired.
    pub(in crate::issuer) fn expired_signer(&self) -> Option<Arc<SigningKey>> {
        self.snapshot.load().expired_signer()
    }

    /// Changes the keys as intended and then as the plan says, and takes over the result.
    ///
    /// Plans from a snapshot of the store, and again from a newer one if the keys have changed before the plan was
    /// stored. Keys that the plan needs are generated in between.
    pub(super) async fn change(&self, intent: &Intent<'_>) -> Result<(), IssuerError> {
        let mut generated = Vec::new();
        for _ in 0..APPLY_ATTEMPTS {
            let stored = self.stored_keys(&self.usable_rows()).await?;
            // Keys to delete may be in memory only now. The wall clock by itself must not decide about them.
            lock(&self.anchors).see(&stored.keys, self.context.clock.as_ref());
            let context = self.plan_context(stored.newest_signer);
            // Keys that this process saw expire stay expired, also if the clock went back before the store knew.
            let ended = self.snapshot.load().ended();
            let known = self.known_keys(&stored, &self.wanted_by(intent, &stored)).await?;
            let master_key = self.master_key();
            let basis = Basis {
                stored: &stored,
                sealer: &master_key.sealer,
                policy: &self.policy,
                spec: self.spec,
                context: &context,
                known: &known,
            };
            let draft = Draft::new(basis, &ended.keys, self.twins(&stored).await?);
            let (changes, log) =
                match draft.intend(intent)?.plan(intent).settle(&generated, &self.context.rng)? {
                    Settled::Changes(changes, log) => (changes, log),
                    Settled::NeedsKeys(needed) => {
                        // That takes a while, so the time of this plan is stale afterwards: plan again.
                        self.generate_keys(&mut generated, needed).await?;
                        continue;
                    }
                };
            if changes.is_empty() {
                return Ok(());
            }
            let created = newest_created(&changes);
            if self.context.store.apply(stored.version, changes).await? == Applied::Yes {
                if created.is_some() {
                    *lock(&self.last_created) = created;
                }
                // Not earlier: a plan that was not stored has not happened.
                log_all(log);
                return match (intent, self.reload().await?) {
                    // No caller waits for a tick's result. Readiness and the log say what stays published.
                    (Intent::Keep | Intent::DeleteEnded, _) | (_, Reloaded::Swapped) => Ok(()),
                    (_, Reloaded::Kept(error)) => Err(IssuerError::NotPublished(error)),
                };
            }
        }
        Err(IssuerError::Contention)
    }

    pub(super) fn usable_rows(&self) -> SealedRows {
        self.usable_rows_at(self.context.clock.now(), self.unreadable_kids())
    }

    fn usable_rows_at(&self, now: Timestamp, unreadable: Vec<Kid>) -> SealedRows {
        // The wall clock only selects what to read. Whether to delete is decided by the clock that is trusted.
        SealedRows::Usable { now, deletable: self.policy.deletable_at(now), unreadable }
    }

    fn unreadable_kids(&self) -> Vec<Kid> {
        self.snapshot.load().unreadable().iter().map(|row| row.kid).collect()
    }

    /// Generates keys in parallel until there are `needed`.
    async fn generate_keys(&self, generated: &mut Vec<PrivateKey>, needed: usize) -> Result<(), IssuerError> {
        let tasks: Vec<_> = (generated.len()..needed)
            .map(|_| {
                let (pool, spec) = (self.pool.clone(), self.spec);
                tokio::spawn(async move { pool.run(move || spec.generate()).await })
            })
            .collect();
        for task in tasks {
            let key = task.await.map_err(|_| WorkError::Lost)??;
            generated.push(key.map_err(KeyError::from)?);
        }
        Ok(())
    }

    /// Generates a key outside of the threads that hash passwords.
    pub(in crate::issuer) async fn generate(&self, spec: KeySpec) -> Result<PrivateKey, IssuerError> {
        Ok(self.pool.run(move || spec.generate()).await?.map_err(KeyError::from)?)
    }

    /// Takes over what has changed in the store, if anything.
    pub(in crate::issuer) async fn refresh(&self) -> Result<Option<Reloaded>, IssuerError> {
        let reloading = self.reloading.lock().await;
        // Four times a second, and for many sign-ins at a time if their key was revoked. So it reads one number before it
        // reads and opens all keys.
        let is_current = Some(self.observe_pulse().await?.version) == self.snapshot.load().version();
        // A self-check that failed is done again, until it passes. And a number that is the same says nothing after a failover,
        // which can turn it back.
        if is_current && self.self_check_log.failure().is_none() && !self.must_reload.load(Ordering::Relaxed)
        {
            return Ok(None);
        }
        let reloaded = self.reload_locked(&reloading).await?;
        self.must_reload.store(false, Ordering::Relaxed);
        if reloaded == Reloaded::Swapped && !is_current {
            let summary = self.snapshot.load().summary(self.context.clock.now());
            tracing::info!("the keys in the store have changed: {summary}");
        }
        Ok(Some(reloaded))
    }

    /// Asks the store whether it answers, and for the version of its keys.
    pub(super) async fn observe_pulse(&self) -> Result<Pulse, StoreError> {
        let pulse = self.context.observe_store().await;
        match &pulse {
            Ok(pulse) => self.last_pulse.record(pulse, self.context.clock.monotonic()),
            Err(_) => self.must_reload.store(true, Ordering::Relaxed),
        }
        pulse
    }

    /// Takes over the keys as they are stored, unless the key set that they make fails the self-check.
    pub(super) async fn reload(&self) -> Result<Reloaded, IssuerError> {
        self.reload_locked(&self.reloading.lock().await).await
    }

    async fn reload_locked(&self, _: &MutexGuard<'_, ()>) -> Result<Reloaded, IssuerError> {
        let mut unreadable = Vec::new();
        let opened = loop {
            let opened = self.open_snapshot(unreadable.clone()).await?;
            let known = unreadable.len();
            unreadable = opened.snapshot.unreadable().iter().map(|row| row.kid).collect();
            // The newest expired key does not open: read again, with the next one.
            if !opened.snapshot.lacks_expired(self.context.clock.now()) || unreadable.len() <= known {
                break opened;
            }
        };
        // Whether or not they are published: the plan of the next tick is about these keys.
        lock(&self.anchors).see(opened.snapshot.keys(), self.context.clock.as_ref());
        self.self_check_log.record(&opened.checked);
        // Verifiers can still use the old set. With the new one they would refuse every new token.
        if let Err(error) = opened.checked {
            self.keep_published(opened.snapshot);
            return Ok(Reloaded::Kept(error));
        }
        self.note_longer_tokens(&opened.snapshot);
        let before = self.snapshot.swap(Arc::new(opened.snapshot));
        self.log_left_out(&before);
        self.log_other_policy(&before);
        Ok(Reloaded::Swapped)
    }

    /// Remembers tokens that a server with a longer `TOKEN_TTL` may have issued until now, by the policy that it has recorded.
    fn note_longer_tokens(&self, snapshot: &KeyringSnapshot) {
        if let Some(recorded) = snapshot.policy()
            && recorded.token_ttl > self.policy.token_ttl()
        {
            let until = self.context.clock.now().plus(recorded.token_ttl);
            let mut longest = lock(&self.longer_tokens_until);
            *longest = (*longest).max(Some(until));
        }
    }

    /// Keeps the published set instead of a newer one. At the start there is no set yet, so nothing is published.
    fn keep_published(&self, newer: KeyringSnapshot) {
        if self.snapshot.load().version().is_none() {
            self.snapshot.store(Arc::new(newer.withheld()));
        } else {
            // A revocation counts whatever the self-check says: the old set must not outlive what its keys may do.
            self.remove_ended(&newer.present(self.context.clock.now()));
        }
    }

    async fn open_snapshot(&self, unreadable: Vec<Kid>) -> Result<Opened, IssuerError> {
        let (now, ended) = (self.context.clock.now(), self.snapshot.load().ended());
        let stored = self.complete_keys(&self.usable_rows_at(now, unreadable)).await?;
        if !self.is_ours(&stored) && !self.follow_rekey(&stored).await? {
            self.master_key_changed.store(true, Ordering::Relaxed);
            // Revocations are not sealed: they still count, although the keys themselves no longer open.
            self.remove_ended(&LaterKeys::sealed(&stored));
            return Err(IssuerError::MasterKeyChanged);
        }
        self.lacks_thumbprints.store(stored.lacks_thumbprints, Ordering::Relaxed);
        let twins = self.twins(&stored).await?;
        let (sealer, check) = (self.master_key().sealer.clone(), self.self_check);
        let open = move || {
            let snapshot = KeyringSnapshot::open(stored, &sealer, now, ended, twins);
            Opened { checked: snapshot.check(check, now), snapshot }
        };
        // Parsing RSA keys and signing the probe take milliseconds, too long for an async thread.
        Ok(self.pool.run(open).await?)
    }

    /// The keys as they are stored, if they are still sealed under our master key.
    pub(super) async fn stored_keys(&self, sealed: &SealedRows) -> Result<KeySnapshot, IssuerError> {
        // Clients wait for most of these changes.
        self.context.store.expect_reachable()?;
        let mut stored = self.context.store.keys(sealed).await?;
        self.reserve_kids(&mut stored);
        if !self.is_ours(&stored) {
            // What to do about it is decided in one place, by one caller at a time.
            self.reload().await?;
            return Err(IssuerError::MasterKeyChanged);
        }
        Ok(stored)
    }

    /// The keys as they are stored, once the store has back what it has lost of those in memory.
    async fn complete_keys(&self, wanted: &SealedRows) -> Result<KeySnapshot, IssuerError> {
        for _ in 0..APPLY_ATTEMPTS {
            let mut stored = self.context.store.keys(wanted).await?;
            let lost = self.snapshot.load().lost_by(&stored, self.context.clock.now());
            self.reserve_kids(&mut stored);
            if lost.is_empty() || !self.is_ours(&stored) {
                return Ok(stored);
            }
            // After a conflict, another process may have put it back.
            if self.context.store.apply(stored.version, lost.changes()).await? == Applied::Yes {
                lost.log();
            }
        }
        Err(IssuerError::Contention)
    }

    /// Keeps the store from giving out a number again that it has lost.
    fn reserve_kids(&self, stored: &mut KeySnapshot) {
        let greatest = self.greatest_kid.fetch_max(stored.next_kid.0.saturating_sub(1), Ordering::Relaxed);
        stored.next_kid = stored.next_kid.max(Kid(greatest.saturating_add(1)));
    }

    /// Goes over to the master key that a rekey has moved the store to, if this process has it.
    async fn follow_rekey(&self, stored: &KeySnapshot) -> Result<bool, IssuerError> {
        let Some(record) = stored.master_key.clone() else { return Ok(false) };
        let Some(secret) = self.successor.for_record(&record) else { return Ok(false) };
        let wanted = record.clone();
        // A passphrase takes a while.
        let Ok(master_key) = self.pool.run(move || unlock(&secret, wanted)).await? else {
            self.successor.refuse(record);
            return Ok(false);
        };
        self.master_key.store(Arc::new(master_key));
        self.master_key_changed.store(false, Ordering::Relaxed);
        tracing::info!(
            "the store was moved to the master key NEW_NOT_MY_KEY, which this process uses from now on: make it NOT_MY_KEY"
        );
        Ok(true)
    }

    fn is_ours(&self, stored: &KeySnapshot) -> bool {
        stored.master_key.as_ref() == Some(&self.master_key().record)
    }

    fn remove_ended(&self, later: &LaterKeys<'_>) {
        let now = self.context.clock.now();
        self.snapshot.rcu(|snapshot| snapshot.without_ended(later, now));
    }

    /// Names the rows that are left out, once each.
    fn log_left_out(&self, before: &KeyringSnapshot) {
        let snapshot = self.snapshot.load();
        for row in snapshot.unreadable().iter().filter(|row| !before.unreadable().contains(row)) {
            let (kid, why, remedy) = (row.kid, &row.why, row.remedy.in_words(row.kid));
            tracing::warn!(%kid, "key {kid} is left out of signing and of the JWKS: {why}; {remedy}");
        }
        let surplus = snapshot.surplus();
        if surplus > 0 && before.surplus() == 0 {
            tracing::warn!(
                "{surplus} keys are not published, because the JWKS has at most {MAX_PUBLISHED} of ours: revoke or expire \
                 those that are not needed"
            );
        }
        for kid in snapshot.twins().iter().filter(|kid| !before.twins().contains(kid)) {
            tracing::warn!(
                kid,
                "the external key {kid:?} is withdrawn: it is a key of our own, and one key must not be published twice"
            );
        }
        for kid in snapshot.tampered().iter().filter(|kid| !before.tampered().contains(kid)) {
            tracing::warn!(
                kid,
                "the external key {kid:?} is left out of the JWKS: it was changed after it was sealed"
            );
        }
    }

    fn plan_context(&self, newest_signer: Option<Kid>) -> PlanContext {
        let (wall, monotonic) = (self.context.clock.now(), self.context.clock.monotonic());
        let watched = lock(&self.anchors).trusted_now(wall, monotonic);
        PlanContext {
            wall,
            watched,
            newest_signer,
            last_created: *lock(&self.last_created),
            longer_tokens_until: *lock(&self.longer_tokens_until),
        }
    }
}

/// The newest key that these changes publish, and when it was created.
fn newest_created(changes: &[KeyChange]) -> Option<(Kid, Timestamp)> {
    let created = changes.iter().filter_map(|change| match change {
        // The expired key of a new store is not published.
        KeyChange::Insert { key, .. } if key.published_at.is_some() => Some((key.kid, key.created_at)),
        _ => None,
    });
    created.max()
}

/// A snapshot that was opened, and the result of its self-check.
struct Opened {
    snapshot: KeyringSnapshot,
    checked: Result<(), SelfCheckError>,
}

/// Whether a reload replaced the snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::issuer) enum Reloaded {
    /// The old one stays, because the new one failed its self-check.
    Kept(SelfCheckError),
    /// The new one is in place.
    Swapped,
}
