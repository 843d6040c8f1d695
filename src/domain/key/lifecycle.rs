//! The life of a key, as a plain function: from the keys, the policy and the time to what is to be done.
//!
//! `next` (published, not signing yet) → `current` (signs) → `retiring` (published, signs no more) → `expired` (kept
//! for `?expired`) → deleted. Phases go one way only: what a key has been is recorded, so a clock that goes back
//! changes nothing. Carrying out a plan, in one transaction, is the issuer's part.

use std::collections::HashMap;
use std::time::Duration;

use thiserror::Error;

use super::Kid;
use crate::domain::clock::Timestamp;

/// How long a change of the keys may take to reach every process on the store.
///
/// A new key counts as published only when this much time has passed since it was stored.
const PUBLICATION_DELAY: Duration = Duration::from_secs(1);

/// The most time by which the next key is made early, for the making itself to take a while.
const MAX_MARGIN: Duration = Duration::from_mins(1);

/// How far `exp` of the key made at the very first start lies in the past.
const SEED_AGE: Duration = Duration::from_hours(1);

/// How keys live. All processes on one store run with the same policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    lifetime: Duration,
    retention: Duration,
    lead: Duration,
    token_ttl: Duration,
}

impl RotationPolicy {
    /// A policy that can work. All times are whole seconds.
    ///
    /// `lifetime`: from made to expired; `retention`: how long an expired key is kept; `lead`: how long a key is
    /// published before it first signs; `token_ttl`: the life of a token; `max_age`: how long verifiers may cache.
    ///
    /// # Errors
    /// [`InvalidPolicy`] when keys could not rotate without breaking a verifier or a token.
    pub fn new(
        lifetime: Duration,
        retention: Duration,
        lead: Duration,
        token_ttl: Duration,
        max_age: Duration,
    ) -> Result<Self, InvalidPolicy> {
        if token_ttl < Duration::from_secs(1) {
            return Err(InvalidPolicy::NoTokenTtl);
        }
        if !lead.is_zero() && lead < max_age * 2 {
            return Err(InvalidPolicy::LeadTooShort { least: max_age * 2 });
        }
        // Without a lead, two seconds keep a new key from being due for replacement in the second it was made.
        let handover = if lead.is_zero() { Duration::from_secs(2) } else { lead * 2 };
        let least = handover + token_ttl;
        if lifetime < least {
            return Err(InvalidPolicy::LifetimeTooShort { least });
        }
        Ok(Self { lifetime, retention, lead, token_ttl })
    }

    /// The life of a token.
    #[must_use]
    pub fn token_ttl(&self) -> Duration {
        self.token_ttl
    }

    /// From the moment a key is stored to its first signature.
    pub(super) fn until_signing(&self) -> Duration {
        if self.lead.is_zero() { Duration::ZERO } else { self.lead + PUBLICATION_DELAY }
    }

    /// From when a key signs, or signed; nothing for one that never does.
    pub(crate) fn signs_from(&self, life: &KeyMetadata) -> Option<Timestamp> {
        life.activated_at.or_else(|| life.published_at.map(|at| at.plus(self.until_signing())))
    }

    /// How early before the last moment the next key is made.
    fn margin(&self) -> Duration {
        let needed = self.until_signing() * 2 + self.token_ttl;
        (self.lifetime.saturating_sub(needed) / 2).min(MAX_MARGIN)
    }

    /// When a key that is made now expires.
    pub(crate) fn full_life(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_secs(now.plus(self.lifetime).as_secs())
    }

    /// When the successor of a key that expires at `exp` is to be made.
    pub(super) fn successor_due(&self, exp: Timestamp) -> Timestamp {
        exp.minus(self.token_ttl).minus(self.until_signing()).minus(self.margin())
    }
}

/// Why a [`RotationPolicy`] cannot work.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// Verifiers would meet a key that their cache does not have.
    #[error("the lead is shorter than two cache lives: {least:?} or more, or 0")]
    LeadTooShort {
        /// The least lead that would do.
        least: Duration,
    },
    /// A key would have to go before its tokens and its successor are ready.
    #[error("the lifetime is too short: {least:?} or more")]
    LifetimeTooShort {
        /// The least lifetime that would do.
        least: Duration,
    },
    /// Tokens count whole seconds.
    #[error("a token must live for a second at least")]
    NoTokenTtl,
}

/// What is remembered of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMetadata {
    /// Which key.
    pub kid: Kid,
    /// When it expires; whole seconds.
    pub exp: Timestamp,
    /// When it was made, or when it came into this store.
    pub created_at: Timestamp,
    /// When it was put into the JWKS; never, for a key that was made expired.
    pub published_at: Option<Timestamp>,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
    /// When it was found to have expired.
    pub expired_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl KeyMetadata {
    /// The life of a key that came into this store from elsewhere and may be published, if it has not expired.
    #[must_use]
    pub fn adopted(kid: Kid, exp: Timestamp, now: Timestamp) -> Self {
        let published_at = (exp > now).then_some(now);
        Self {
            kid,
            exp,
            created_at: now,
            published_at,
            activated_at: None,
            expired_at: None,
            revoked_at: None,
        }
    }

    /// The life of a key that is made now.
    #[must_use]
    pub fn made(kid: Kid, exp: Timestamp, signs: Activation, now: Timestamp) -> Self {
        let mut life = Self::adopted(kid, exp, now);
        match signs {
            Activation::AfterLead => {}
            Activation::Immediately => life.activated_at = Some(now),
            Activation::Never => life.expired_at = Some(now),
        }
        life
    }

    /// Whether the key belongs into the JWKS at this moment.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        self.exp > now && self.expired_at.is_none() && self.revoked_at.is_none()
    }

    /// Whether a token of this life, issued now, would not outlive the key.
    #[must_use]
    pub fn covers(&self, now: Timestamp, ttl: Duration) -> bool {
        self.is_published(now) && now.plus(ttl).as_secs() <= self.exp.as_secs()
    }

    /// Whether the key has expired, and was not revoked: what `?expired` signs with.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && (self.expired_at.is_some() || self.exp <= now)
    }
}

/// What a key is to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Published, not signing yet: verifiers are learning it.
    Next,
    /// Published, and the one that signs.
    Current,
    /// Published for the tokens that are out; signs no more.
    Retiring,
    /// Not published; kept for `?expired` and then deleted.
    Expired,
    /// Taken out of the JWKS and out of signing before its time.
    Revoked,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Next, Self::Current, Self::Retiring, Self::Expired, Self::Revoked];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retiring => "retiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// All keys of a store at one moment.
#[derive(Clone, Copy, Debug)]
pub struct KeyTimeline<'a> {
    lives: &'a [KeyMetadata],
    now: Timestamp,
    newest_signer: Option<Kid>,
}

impl<'a> KeyTimeline<'a> {
    /// The keys as they are at `now`.
    #[must_use]
    pub fn at(lives: &'a [KeyMetadata], now: Timestamp) -> Self {
        let signers = lives.iter().filter(|key| key.activated_at.is_some());
        Self { lives, now, newest_signer: signers.map(|key| key.kid).max() }
    }

    /// The same keys, after one that has signed and may not be among them any more.
    #[must_use]
    pub fn after(self, signer: Option<Kid>) -> Self {
        Self { newest_signer: self.newest_signer.max(signer), ..self }
    }

    /// The key that signs: the newest that ever has, as long as it is published. When that one ends, no older key
    /// comes back to signing.
    #[must_use]
    pub fn current(&self) -> Option<&'a KeyMetadata> {
        self.published().find(|key| Some(key.kid) == self.newest_signer)
    }

    /// The keys that are to sign later, oldest first: published, and newer than any that has signed.
    #[must_use]
    pub fn next(&self) -> impl DoubleEndedIterator<Item = &'a KeyMetadata> + use<'a> {
        let mut next: Vec<_> = self.published().filter(|key| Some(key.kid) > self.newest_signer).collect();
        next.sort_by_key(|key| key.kid);
        next.into_iter()
    }

    /// The key `?expired` signs with.
    #[must_use]
    pub fn newest_expired(&self) -> Option<&'a KeyMetadata> {
        self.lives.iter().filter(|key| key.is_expired(self.now)).max_by_key(|key| (key.exp, key.kid))
    }

    /// The phase of one of these keys.
    #[must_use]
    pub fn phase(&self, key: &KeyMetadata) -> Phase {
        if key.revoked_at.is_some() {
            Phase::Revoked
        } else if !key.is_published(self.now) {
            Phase::Expired
        } else if self.current().is_some_and(|current| current.kid == key.kid) {
            Phase::Current
        } else if self.next().any(|next| next.kid == key.kid) {
            Phase::Next
        } else {
            Phase::Retiring
        }
    }

    fn published(&self) -> impl Iterator<Item = &'a KeyMetadata> + use<'a> {
        let now = self.now;
        self.lives.iter().filter(move |key| key.is_published(now))
    }
}

/// A moment as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanContext {
    /// The wall clock.
    pub wall: Timestamp,
    /// For keys this process has watched: the wall clock at first sight, and the steady clock since; or the same from
    /// when the wall clock went back.
    pub watched: HashMap<Kid, Timestamp>,
    /// The newest key that has ever signed, though it may be gone.
    pub newest_signer: Option<Kid>,
}

impl PlanContext {
    /// The time by which a key may count as learnt, or as kept long enough: the earlier of the wall clock and of the
    /// time that the steady clock vouches for. A wall clock that was set forward changes neither.
    fn trusted_now(&self, kid: Kid) -> Timestamp {
        self.watched.get(&kid).map_or(self.wall, |watched| self.wall.min(*watched))
    }
}

/// When a new key begins to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// When it has been published for the policy's lead.
    AfterLead,
    /// At once, for want of a key that could.
    Immediately,
    /// Never: it is made expired.
    Never,
}

/// One step in the life of a key, with its reason for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remove it for good.
    Delete {
        /// Which key.
        kid: Kid,
        /// Why.
        reason: &'static str,
    },
    /// Record that it has expired.
    Expire {
        /// Which key.
        kid: Kid,
        /// Why.
        reason: &'static str,
    },
    /// Make a new key.
    Create {
        /// When it expires; whole seconds.
        exp: Timestamp,
        /// When it begins to sign.
        signs: Activation,
        /// Why.
        reason: &'static str,
    },
    /// Let it sign from now on.
    Promote {
        /// Which key.
        kid: Kid,
        /// Why.
        reason: &'static str,
    },
    /// Record that it counts as published from now on.
    ResetPublishedAt {
        /// Which key.
        kid: Kid,
        /// Why.
        reason: &'static str,
    },
}

/// What is to be done with these keys now.
///
/// - A key that has reached its `exp` expires.
/// - The newest key that verifiers have had the lead to learn signs.
/// - If no signing key covers a whole token: the longest published one that does signs at once, or a new one.
/// - The next key is made in time to be published for the lead before the current one can cover no whole token;
///   also when the current one would live longer than the policy says (the policy changed, or the clock went back).
/// - A key that is to sign, and was published at a time which is yet to come, counts as published now.
/// - There is always an expired key; the newest stays, others go after the retention.
///
/// # Guarantees
/// Carried out, the plan leaves a key that signs and covers a whole token; planning again at the same moment then
/// gives nothing to do but perhaps to delete what was still needed for its place.
#[must_use]
pub fn plan(lives: &[KeyMetadata], policy: &RotationPolicy, now: &PlanContext) -> Vec<Action> {
    let keys = KeyTimeline::at(lives, now.wall).after(now.newest_signer);
    let mut actions = expiries(lives, now.wall);
    actions.extend(corrections(keys));
    actions.extend(succession(keys, policy, now));
    if keys.newest_expired().is_none() {
        actions.push(Action::Create {
            exp: Timestamp::from_secs(now.wall.minus(SEED_AGE).as_secs()),
            signs: Activation::Never,
            reason: "there is no expired key to show verifiers",
        });
    }
    actions.extend(deletions(keys, policy, now));
    actions
}

fn expiries(lives: &[KeyMetadata], now: Timestamp) -> Vec<Action> {
    lives
        .iter()
        .filter(|key| key.exp <= now && key.expired_at.is_none())
        .map(|key| Action::Expire { kid: key.kid, reason: "it has reached its exp" })
        .collect()
}

/// A key that was published at a time which is yet to come would be waited for too long.
fn corrections(keys: KeyTimeline<'_>) -> impl Iterator<Item = Action> {
    keys.next().filter(move |key| key.published_at.is_some_and(|at| at > keys.now)).map(|key| {
        Action::ResetPublishedAt { kid: key.kid, reason: "the clock went back behind its publication" }
    })
}

/// Who signs, and who will.
fn succession(keys: KeyTimeline<'_>, policy: &RotationPolicy, moment: &PlanContext) -> Vec<Action> {
    let now = moment.wall;
    let covers = |key: &&KeyMetadata| key.covers(now, policy.token_ttl);
    let learnt = |key: &&KeyMetadata| {
        key.published_at
            .is_some_and(|at| at.min(now).plus(policy.until_signing()) <= moment.trusted_now(key.kid))
    };

    let current = keys.current().filter(covers);
    let ready = keys.next().rfind(|key| covers(key) && learnt(key));
    let (promoted, reason) = if ready.is_some() {
        (ready, "verifiers have had the lead to learn it")
    } else if current.is_none() {
        (keys.next().find(covers), "no other key covers a whole token")
    } else {
        (None, "")
    };
    let mut actions: Vec<_> =
        promoted.map(|key| Action::Promote { kid: key.kid, reason }).into_iter().collect();

    let Some(signer) = promoted.or(current) else {
        actions.push(make(policy, now, Activation::Immediately, "no key covers a whole token"));
        return actions;
    };
    if keys.next().any(|key| key.kid > signer.kid && will_sign(key, policy, now)) {
        return actions;
    }
    let longest = now.plus(policy.lifetime).plus(Duration::from_secs(1));
    if policy.successor_due(signer.exp) <= now {
        actions.push(successor(policy, now, "the current key nears its end"));
    } else if signer.exp > longest {
        actions.push(successor(policy, now, "the current key would outlive the policy"));
    }
    actions
}

/// Whether the key will still cover a whole token when verifiers have learnt it.
fn will_sign(key: &KeyMetadata, policy: &RotationPolicy, now: Timestamp) -> bool {
    let learnt = key.published_at.map_or(now, |at| at.min(now)).plus(policy.until_signing());
    key.covers(learnt.max(now), policy.token_ttl)
}

fn successor(policy: &RotationPolicy, now: Timestamp, reason: &'static str) -> Action {
    let signs = if policy.lead.is_zero() { Activation::Immediately } else { Activation::AfterLead };
    make(policy, now, signs, reason)
}

fn make(policy: &RotationPolicy, now: Timestamp, signs: Activation, reason: &'static str) -> Action {
    Action::Create { exp: policy.full_life(now), signs, reason }
}

fn deletions(keys: KeyTimeline<'_>, policy: &RotationPolicy, now: &PlanContext) -> Vec<Action> {
    // The newest key that has signed stays as well: by these lives alone, an older one would come back without it.
    let stay = [keys.newest_expired().map(|key| key.kid), keys.newest_signer];
    keys.lives
        .iter()
        .filter(|key| !key.is_published(now.wall) && !stay.contains(&Some(key.kid)))
        .filter(|key| key.exp.plus(policy.retention) <= now.trusted_now(key.kid))
        .map(|key| Action::Delete { kid: key.kid, reason: "its retention is over" })
        .collect()
}
