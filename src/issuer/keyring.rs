//! The keyring: loads the keys, plans, carries the plan out, and swaps what is published in one step.
//!
//! The plan that counts is made inside the transaction that carries it out, from what the store holds at that moment:
//! a plan carried out from a stale picture makes two of everything. The keys it needs are made before, outside.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::founding::MasterKey;
use super::ring::{self, Publication, Ring, Unreadable};
use super::{IssuerError, Lost, Premises};
use crate::domain::clock::Timestamp;
use crate::domain::key::lifecycle::{self, Action, FirstSignature, KeyLife, Keys, Moment, RotationPolicy};
use crate::domain::key::seal::Place;
use crate::domain::key::{Kid, PrivateKey, SigningKey};
use crate::store::{KeyChange, KeyPicture, Refusal, StoreError};

/// Without a completed round for this long, the rotation counts as dead.
const ROUND_OVERDUE: Duration = Duration::from_mins(1);

/// How often a plan is tried again that other processes keep outdating.
const ATTEMPTS: usize = 5;

/// The keys of a store, kept up to date by [`Keyring::round`].
pub struct Keyring {
    premises: Premises,
    master_key: MasterKey,
    policy: RotationPolicy,
    /// Where both clocks stood at the start: what the wall clock says beyond the steady one is not vouched for.
    started: (Timestamp, Duration),
    ring: ArcSwap<Ring>,
    last_round: Mutex<Duration>,
}

impl Keyring {
    /// Opens the keys and brings them up to date; an empty store gets its first two.
    ///
    /// # Errors
    /// Whatever the store or the making of a key says.
    pub async fn open(
        premises: Premises,
        master_key: MasterKey,
        policy: RotationPolicy,
    ) -> Result<Self, IssuerError> {
        let (now, elapsed) = (premises.clock.now(), premises.clock.elapsed());
        let picture = premises.store.keys(&move |lives| wanted(lives, now)).await?;
        let keyring = Self {
            ring: ArcSwap::from_pointee(Ring::open(picture, &master_key.sealer, now)),
            started: (now, elapsed),
            last_round: Mutex::new(elapsed),
            premises,
            master_key,
            policy,
        };
        keyring.report_unreadable(&[]);
        keyring.round().await?;
        Ok(keyring)
    }

    /// One round: takes over what other processes changed, and rotates what is due.
    ///
    /// # Errors
    /// Whatever the store or the making of a key says; what was published before still is.
    pub async fn round(&self) -> Result<(), IssuerError> {
        if self.premises.store.key_changes().await? != self.ring.load().changes() {
            self.reload().await?;
        }
        let ring = self.ring.load_full();
        if ring.has_adoptable() || !lifecycle::plan(ring.lives(), &self.policy, self.moment()).is_empty() {
            self.rotate().await?;
            self.reload().await?;
        }
        *self.last_round.lock().unwrap_or_else(PoisonError::into_inner) = self.premises.clock.elapsed();
        Ok(())
    }

    /// What verifiers get at this moment.
    #[must_use]
    pub(super) fn publication(&self, now: Timestamp) -> Option<Publication> {
        self.ring.load().publication(now)
    }

    /// The key that signs at this moment.
    #[must_use]
    pub(super) fn signer(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        self.ring.load().signer(now, self.policy.token_ttl())
    }

    /// The key that `?expired` signs with.
    #[must_use]
    pub(super) fn expired_signer(&self) -> Option<Arc<SigningKey>> {
        self.ring.load().expired_signer()
    }

    /// See [`Sealer::lot`](crate::domain::key::seal::Sealer::lot).
    pub(super) fn lot(&self, name: &str) -> u64 {
        self.master_key.sealer.lot(name)
    }

    /// The rows of `keys` that are left out, each with the reason.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.ring.load().unreadable().to_vec()
    }

    /// Whether tokens can be issued for their whole life, from a store that answers, by keys that rotate.
    pub(super) async fn readiness(&self) -> Result<(), NotReady> {
        let now = self.premises.clock.now();
        let ttl = self.policy.token_ttl();
        if self.signer(now).is_none_or(|key| now.plus(ttl).as_secs() > key.exp().as_secs()) {
            return Err(NotReady::NoSigner);
        }
        let last_round = *self.last_round.lock().unwrap_or_else(PoisonError::into_inner);
        if self.premises.clock.elapsed().saturating_sub(last_round) > ROUND_OVERDUE {
            return Err(NotReady::RotationStands);
        }
        self.premises.store.key_changes().await.map_err(NotReady::Store)?;
        Ok(())
    }

    async fn reload(&self) -> Result<(), IssuerError> {
        let now = self.premises.clock.now();
        let picture = self.premises.store.keys(&move |lives| wanted(lives, now)).await?;
        let sealer = self.master_key.sealer.clone();
        let ring = self.premises.workers.run(move || Ring::open(picture, &sealer, now)).await?;
        let before = self.ring.swap(Arc::new(ring));
        self.report_unreadable(before.unreadable());
        Ok(())
    }

    /// Makes the keys that the plan asks for, then plans again and carries out, in one transaction.
    async fn rotate(&self) -> Result<(), IssuerError> {
        let mut made = Vec::new();
        for _ in 0..ATTEMPTS {
            let plan = lifecycle::plan(self.ring.load().lives(), &self.policy, self.moment());
            let needed = plan.iter().filter(|action| matches!(action, Action::Make { .. })).count();
            self.make_keys(&mut made, needed).await?;
            match self.carry_out(&mut made).await {
                Err(IssuerError::Store(StoreError::Refused)) => self.reload().await?,
                other => return other,
            }
        }
        Err(IssuerError::Store(StoreError::Refused))
    }

    /// Makes keys side by side until there are this many.
    async fn make_keys(&self, made: &mut Vec<PrivateKey>, needed: usize) -> Result<(), IssuerError> {
        let making: Vec<_> = (made.len()..needed)
            .map(|_| {
                let workers = self.premises.workers.clone();
                tokio::spawn(async move { workers.run(PrivateKey::generate).await })
            })
            .collect();
        for key in making {
            made.push(key.await.map_err(|_| Lost)???);
        }
        Ok(())
    }

    async fn carry_out(&self, made: &mut Vec<PrivateKey>) -> Result<(), IssuerError> {
        let now = self.moment();
        let mut log = Vec::new();
        let mut decide = |picture: &KeyPicture| {
            log.clear();
            self.decide(picture, now, made, &mut log)
        };
        self.premises
            .store
            .change_keys(&self.master_key.record, &move |lives| wanted(lives, now.wall), &mut decide)
            .await?;
        for step in log {
            step.report();
        }
        Ok(())
    }

    /// The changes that the plan means for this picture. Refuses when it needs more keys than were made.
    fn decide(
        &self,
        picture: &KeyPicture,
        now: Moment,
        made: &mut Vec<PrivateKey>,
        log: &mut Vec<Step>,
    ) -> Result<Vec<KeyChange>, Refusal> {
        let sealer = &self.master_key.sealer;
        let unreadable: HashSet<Kid> = picture
            .sealed
            .iter()
            .filter(|row| ring::open_key(row, sealer).is_err())
            .map(|row| row.kid)
            .collect();
        let mut lives: Vec<_> =
            picture.lives.iter().filter(|life| !unreadable.contains(&life.kid)).copied().collect();
        let mut changes = Vec::new();
        for row in picture.strays.iter().filter(|row| ring::open_key(row, sealer).is_ok()) {
            let life = KeyLife::adopted(row.kid, row.exp, now.wall);
            lives.push(life);
            log.push(Step::new(life, "adopted", "it is sealed with our master key"));
            changes.push(KeyChange::Adopt { life, sealed: None });
        }
        let mut next_kid = picture.next_kid;
        for action in lifecycle::plan(&lives, &self.policy, now) {
            let life_of = |kid| lives.iter().copied().find(|life| life.kid == kid).ok_or(Refusal);
            match action {
                Action::Delete { kid, reason } => {
                    log.push(Step::new(life_of(kid)?, "deleted", reason));
                    changes.push(KeyChange::Delete { kid, at: now.wall });
                }
                Action::Expire { kid, reason } => {
                    log.push(Step::new(life_of(kid)?, "expired", reason));
                    changes.push(KeyChange::Expire { kid, at: now.wall });
                }
                Action::Make { exp, signs, reason } => {
                    let life = KeyLife::made(next_kid, exp, signs, now.wall);
                    next_kid = Kid(next_kid.0 + 1);
                    log.push(Step::new(life, step_of(signs), reason));
                    changes.push(self.insertion(life, &made.pop().ok_or(Refusal)?)?);
                }
                Action::Promote { kid, reason } => {
                    log.push(Step::new(life_of(kid)?, "signs from now on", reason));
                    changes.push(KeyChange::Promote { kid, at: now.wall });
                }
            }
        }
        Ok(changes)
    }

    fn insertion(&self, life: KeyLife, key: &PrivateKey) -> Result<KeyChange, Refusal> {
        let pem = key.to_pkcs1_pem().map_err(|_| Refusal)?;
        let place = Place::Key(life.kid, life.exp);
        let sealed = self
            .premises
            .randomness
            .with(|rng| self.master_key.sealer.seal(place, pem.as_bytes(), rng))
            .map_err(|_| Refusal)?;
        Ok(KeyChange::Insert { life, sealed })
    }

    fn moment(&self) -> Moment {
        let wall = self.premises.clock.now();
        let (started, at) = self.started;
        let vouched = started.plus(self.premises.clock.elapsed().saturating_sub(at));
        Moment { wall, vouched: wall.min(vouched) }
    }

    /// Names the rows that are left out, once.
    fn report_unreadable(&self, known: &[Unreadable]) {
        for row in self.ring.load().unreadable().iter().filter(|row| !known.contains(row)) {
            tracing::warn!(kid = %row.kid, "key {} is left out of signing and of the JWKS: {}", row.kid, row.why);
        }
    }
}

/// The keys whose private half is needed: those that have not ended, and the one for `?expired`.
fn wanted(lives: &[KeyLife], now: Timestamp) -> Vec<Kid> {
    let expired = Keys::at(lives, now).newest_expired().map(|life| life.kid);
    lives
        .iter()
        .filter(|life| life.expired_at.is_none() && life.revoked_at.is_none() || Some(life.kid) == expired)
        .map(|life| life.kid)
        .collect()
}

fn step_of(signs: FirstSignature) -> &'static str {
    match signs {
        FirstSignature::AfterLead => "made, signs later",
        FirstSignature::AtOnce => "made, signs at once",
        FirstSignature::Never => "made expired",
    }
}

/// A step in the life of a key, for the log once it is stored.
struct Step {
    life: KeyLife,
    what: &'static str,
    why: &'static str,
}

impl Step {
    fn new(life: KeyLife, what: &'static str, why: &'static str) -> Self {
        Self { life, what, why }
    }

    fn report(self) {
        let exp =
            std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(self.life.exp.as_secs()).unwrap_or(0));
        let exp = humantime::format_rfc3339_seconds(exp);
        let Self { life, what, why } = self;
        tracing::info!(kid = %life.kid, exp = %exp, "key {}: {what}, because {why}", life.kid);
    }
}

/// Why an issuer cannot do its work.
#[derive(Debug, Error)]
pub enum NotReady {
    /// No key can sign a token of full life.
    #[error("no key can sign a token of full TOKEN_TTL")]
    NoSigner,
    /// The rotation has not completed a round for a minute.
    #[error("the key rotation has not completed a round for {} s", ROUND_OVERDUE.as_secs())]
    RotationStands,
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[source] StoreError),
}
