//! The lifecycle of keys as a pure function: keys, policy and time in, actions out.
//!
//! `next` (published, not signing yet) → `current` (signs) → `retiring` (published, no longer signs) → `expired` (kept
//! for `?expired`) → deleted. A key never returns to an earlier phase: its history is recorded, so a clock that is set
//! back changes nothing. The issuer applies the actions.

use std::collections::HashMap;
use std::time::Duration;

use thiserror::Error;

use super::expiry::LATEST_EXP;
use super::kid::Kid;
use super::profile::KeyProfile;
use crate::clock::Timestamp;

/// Maximum time until every process on the store has noticed a key change.
///
/// A new key counts as published only after this time.
const PUBLICATION_DELAY: Duration = Duration::from_secs(1);

/// Maximum safety margin for creating the next key early. Generating and storing a key takes time.
const MAX_MARGIN: Duration = Duration::from_mins(1);

/// Age of the `exp` of the expired key that a new store gets.
const SEED_AGE: Duration = Duration::from_hours(1);

/// Maximum number of own keys in the JWKS. Verifiers read the whole set, and some limit its size.
pub const MAX_PUBLISHED: usize = 100;

/// Minimum time for which a key of another program is kept, whatever the retention: an operator who tries jwksd on an
/// existing database can then still go back.
const TAKE_OVER_RETENTION: Duration = Duration::from_hours(7 * 24);

/// How much longer a retired key is kept in the JWKS than its tokens: another process may sign with it until it notices.
const HANDOVER: Duration = Duration::from_secs(2);

/// How long keys live and when they rotate. All processes on one store must use the same policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    lifetime: Duration,
    retention: Duration,
    lead: Duration,
    token_ttl: Duration,
}

/// Which keys that have ended are to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletable {
    /// Keys that expired by this time.
    pub expired_by: Timestamp,
    /// Of the keys that another program has created, only those that were taken over by this time.
    pub taken_over_by: Timestamp,
}

/// The times of a policy, as a store records them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationTimes {
    /// From the creation of a key to its expiry.
    pub lifetime: Duration,
    /// How long an expired key is kept.
    pub retention: Duration,
    /// How long a key is published before it first signs.
    pub lead: Duration,
    /// Lifetime of a token.
    pub token_ttl: Duration,
}

impl RotationPolicy {
    /// Creates a policy. All times are whole seconds.
    ///
    /// `lifetime`: from creation to expiry; `retention`: how long an expired key is kept; `lead`: how long a key is
    /// published before it first signs; `token_ttl`: lifetime of a token; `max_age`: how long verifiers may cache.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if keys could not rotate without breaking a verifier or a token.
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
        // A verifier may cache for `max_age`, and a proxy in front of it for as long again.
        if !lead.is_zero() && lead < max_age * 2 {
            return Err(InvalidPolicy::LeadTooShort { least: max_age * 2 });
        }
        // Without a lead, a key signs for as long as its tokens live. Two seconds prevent that a new key is due for
        // replacement in the second of its creation.
        let handover = if lead.is_zero() { token_ttl.max(Duration::from_secs(2)) } else { lead * 2 };
        // The last token of a key must not outlive the key.
        let for_tokens = handover + token_ttl;
        // Keys that sign only for a moment, but are published for long, would fill the JWKS.
        let for_few_keys = token_ttl + Duration::from_secs(token_ttl.as_secs().div_ceil(16));
        // The larger one, so that the lifetime of the error is not refused in its turn.
        if lifetime < for_few_keys && for_tokens < for_few_keys {
            return Err(InvalidPolicy::TooManyKeys { least: for_few_keys });
        }
        if lifetime < for_tokens {
            return Err(InvalidPolicy::LifetimeTooShort { least: for_tokens });
        }
        Ok(Self { lifetime, retention, lead, token_ttl })
    }

    /// The times, to record and to compare.
    #[must_use]
    pub fn times(&self) -> RotationTimes {
        let Self { lifetime, retention, lead, token_ttl } = *self;
        RotationTimes { lifetime, retention, lead, token_ttl }
    }

    /// Lifetime of a token.
    #[must_use]
    pub fn token_ttl(&self) -> Duration {
        self.token_ttl
    }

    /// Time from storing a key to its first signature.
    pub(super) fn until_signing(&self) -> Duration {
        if self.lead.is_zero() { Duration::ZERO } else { self.lead + PUBLICATION_DELAY }
    }

    /// When a key starts to sign, or did. `None` for a key that never signs.
    pub(crate) fn signs_from(&self, key: &KeyMetadata) -> Option<Timestamp> {
        key.activated_at.or_else(|| key.published_at.map(|at| at.plus(self.until_signing())))
    }

    /// How long before the latest possible time the next key is created.
    fn margin(&self) -> Duration {
        // Twice: for the lead of the key itself, and for that of its successor.
        let needed = self.until_signing() * 2 + self.token_ttl;
        // Half of the spare time at most, so that short lifetimes still rotate on time.
        (self.lifetime.saturating_sub(needed) / 2).min(MAX_MARGIN)
    }

    /// When a key that is created now expires.
    pub(crate) fn full_life(&self, now: Timestamp) -> Timestamp {
        // Rounded down, because `keys.exp` holds whole seconds.
        Timestamp::from_secs(now.plus(self.lifetime).as_secs().min(LATEST_EXP))
    }

    /// The latest end of a key that exists at `now`.
    #[must_use]
    pub fn latest_end(&self, now: Timestamp) -> Timestamp {
        // One second more than the policy, because `exp` was rounded.
        now.plus(self.lifetime).plus(Duration::from_secs(1))
    }

    /// Whether the key lives longer than the policy says, by its own creation or by the clock of now.
    fn is_outlived_by(&self, key: &KeyMetadata, now: Timestamp) -> bool {
        // The earlier one: after a first start with a wrong clock, the creation lies in the future.
        key.exp > self.latest_end(key.created_at.min(now))
    }

    /// Time from the creation of a key to that of its successor.
    fn interval(&self) -> Duration {
        self.lifetime.saturating_sub(self.token_ttl + self.until_signing() + self.margin())
    }

    /// When a retired key may be deleted.
    fn kept_until(&self, key: &KeyMetadata) -> Timestamp {
        let kept_until = key.exp.plus(self.retention);
        if key.is_taken_over { kept_until.max(key.created_at.plus(TAKE_OVER_RETENTION)) } else { kept_until }
    }

    /// Which keys are to be deleted at `now`, as far as a store can tell.
    pub(crate) fn deletable_at(&self, now: Timestamp) -> Deletable {
        Deletable { expired_by: now.minus(self.retention), taken_over_by: now.minus(TAKE_OVER_RETENTION) }
    }

    /// When to create the successor of a key that expires at `exp`.
    pub(super) fn successor_due(&self, exp: Timestamp) -> Timestamp {
        exp.minus(self.token_ttl).minus(self.until_signing()).minus(self.margin())
    }
}

/// Why a [`RotationPolicy`] is invalid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// Verifiers would see tokens of a key that is not in their cache.
    #[error("the lead is shorter than two cache lifetimes: use at least {least:?}, or 0")]
    LeadTooShort {
        /// The minimum lead.
        least: Duration,
    },
    /// A key would expire before its tokens, or before its successor can sign.
    #[error("the lifetime is too short: use at least {least:?}")]
    LifetimeTooShort {
        /// The minimum lifetime.
        least: Duration,
    },
    /// A lifetime of zero. Tokens count whole seconds.
    #[error("the lifetime of a token must be at least one second")]
    NoTokenTtl,
    /// A key would sign for so short a time that too many are published for their tokens.
    #[error("more than {MAX_PUBLISHED} keys would be published: use a lifetime of at least {least:?}")]
    TooManyKeys {
        /// The minimum lifetime.
        least: Duration,
    },
}

/// The recorded history of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMetadata {
    /// The `kid`.
    pub kid: Kid,
    /// When the key expires; whole seconds.
    pub exp: Timestamp,
    /// When the key was created, or was added to this store.
    pub created_at: Timestamp,
    /// When the key was first published. `None` for a key that was created expired.
    pub published_at: Option<Timestamp>,
    /// When the key started to sign.
    pub activated_at: Option<Timestamp>,
    /// When its expiry was first noticed.
    pub expired_at: Option<Timestamp>,
    /// When the key was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Whether another program has created the key.
    pub is_taken_over: bool,
    /// Its algorithm and the form of its published `kid`. `None` if what the store has recorded is unknown. No plan depends
    /// on it.
    pub profile: Option<KeyProfile>,
}

impl KeyMetadata {
    /// A key from elsewhere that is added to this store. It is published unless it has expired.
    #[must_use]
    pub(crate) fn adopted(kid: Kid, exp: Timestamp, now: Timestamp) -> Self {
        let published_at = (exp > now).then_some(now);
        Self {
            kid,
            exp,
            created_at: now,
            published_at,
            activated_at: None,
            expired_at: None,
            revoked_at: None,
            is_taken_over: true,
            profile: Some(KeyProfile::default()),
        }
    }

    /// The same key with this profile.
    #[must_use]
    pub(crate) fn with_profile(self, profile: KeyProfile) -> Self {
        Self { profile: Some(profile), ..self }
    }

    /// A key that is created now.
    #[must_use]
    pub fn created(kid: Kid, exp: Timestamp, activation: Activation, now: Timestamp) -> Self {
        let mut key = Self { is_taken_over: false, ..Self::adopted(kid, exp, now) };
        match activation {
            Activation::AfterLead => {}
            Activation::Immediately => key.activated_at = Some(now),
            Activation::Never => key.expired_at = Some(now),
        }
        key
    }

    /// Whether the JWKS contains the key at this time.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        self.exp > now && self.expired_at.is_none() && self.revoked_at.is_none()
    }

    /// Whether a token with this lifetime, issued now, expires no later than the key.
    #[must_use]
    pub fn covers(&self, now: Timestamp, ttl: Duration) -> bool {
        // Compared in whole seconds, because tokens have no fractions.
        self.is_published(now) && now.plus(ttl).as_secs() <= self.exp.as_secs()
    }

    /// Whether the key has expired without being revoked. `?expired` signs with such a key.
    #[must_use]
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && (self.expired_at.is_some() || self.exp <= now)
    }
}

/// The phase of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Published, not signing yet: verifiers are fetching it.
    Next,
    /// Published and signing.
    Current,
    /// Published for tokens that are still valid; no longer signs.
    Retiring,
    /// Not published; kept for `?expired`, then deleted.
    Expired,
    /// Removed from the JWKS and from signing before its expiry.
    Revoked,
}

impl Phase {
    /// All phases, in the order of the lifecycle.
    pub const ALL: [Self; 5] = [Self::Next, Self::Current, Self::Retiring, Self::Expired, Self::Revoked];

    /// The name of the phase.
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

/// All keys of a store at one time.
#[derive(Clone, Copy, Debug)]
pub struct KeyTimeline<'a> {
    keys: &'a [KeyMetadata],
    now: Timestamp,
    newest_signer: Option<Kid>,
    /// The oldest key in the JWKS next to the signer. Nothing if there is room for all.
    oldest_published: Option<Kid>,
}

impl<'a> KeyTimeline<'a> {
    /// The keys at `now`.
    #[must_use]
    pub fn at(keys: &'a [KeyMetadata], now: Timestamp) -> Self {
        let signers = keys.iter().filter(|key| key.activated_at.is_some());
        Self::new(keys, now, signers.map(|key| key.kid).max())
    }

    /// The same keys, with the newest key that has ever signed. That key may have been deleted.
    #[must_use]
    pub fn after(self, signer: Option<Kid>) -> Self {
        Self::new(self.keys, self.now, self.newest_signer.max(signer))
    }

    fn new(keys: &'a [KeyMetadata], now: Timestamp, newest_signer: Option<Kid>) -> Self {
        Self { keys, now, newest_signer, oldest_published: oldest_published(keys, now, newest_signer) }
    }

    /// Whether the JWKS has the key: it has not ended, and it is the signer or one of the newest.
    #[must_use]
    pub fn publishes(&self, key: &KeyMetadata) -> bool {
        let is_surplus = Some(key.kid) < self.oldest_published && Some(key.kid) != self.newest_signer;
        key.is_published(self.now) && !is_surplus
    }

    /// The key that signs: the newest one that ever has, while it is published. Older keys never sign again.
    #[must_use]
    pub fn current(&self) -> Option<&'a KeyMetadata> {
        self.published().find(|key| Some(key.kid) == self.newest_signer)
    }

    /// The keys that will sign later, oldest first: published, and newer than every key that has signed.
    #[must_use]
    pub fn next(&self) -> impl DoubleEndedIterator<Item = &'a KeyMetadata> + use<'a> {
        let mut next: Vec<_> = self.published().filter(|key| Some(key.kid) > self.newest_signer).collect();
        next.sort_by_key(|key| key.kid);
        next.into_iter()
    }

    /// The key that `?expired` signs with.
    #[must_use]
    pub fn newest_expired(&self) -> Option<&'a KeyMetadata> {
        // The kid decides between equal times, so that every process chooses the same key.
        self.keys.iter().filter(|key| key.is_expired(self.now)).max_by_key(|key| (key.exp, key.kid))
    }

    /// The phase of a key.
    #[must_use]
    pub fn phase(&self, key: &KeyMetadata) -> Phase {
        // Checked first, because a revoked key may also have expired.
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

    /// The keys in the JWKS. A surplus key is in none of its roles: verifiers do not know it.
    fn published(&self) -> impl Iterator<Item = &'a KeyMetadata> + use<'a> {
        let timeline = *self;
        self.keys.iter().filter(move |key| timeline.publishes(key))
    }

    /// The keys that have not ended, including those for which the JWKS has no room.
    fn alive(&self) -> impl Iterator<Item = &'a KeyMetadata> + use<'a> {
        let now = self.now;
        self.keys.iter().filter(move |key| key.is_published(now))
    }
}

/// The oldest key that the JWKS has room for, next to the signer, if there are too many. Another program may have made them.
fn oldest_published(keys: &[KeyMetadata], now: Timestamp, signer: Option<Kid>) -> Option<Kid> {
    let alive = || keys.iter().filter(|key| key.is_published(now)).map(|key| key.kid);
    // Counted first: this is asked for each token.
    let count = alive().count();
    if count <= MAX_PUBLISHED {
        return None;
    }
    let mut others: Vec<_> = alive().filter(|kid| Some(*kid) != signer).collect();
    others.sort_unstable_by(|one, other| other.cmp(one));
    let room = if others.len() < count { MAX_PUBLISHED - 1 } else { MAX_PUBLISHED };
    others.into_iter().take(room).next_back()
}

/// What a plan depends on, in addition to the keys and the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanContext {
    /// Time on the wall clock.
    pub wall: Timestamp,
    /// The trusted time for each key that this process has seen: the wall clock at first sight plus the monotonic time
    /// since. Restarted when the wall clock is set back.
    pub watched: HashMap<Kid, Timestamp>,
    /// The newest key that has ever signed. It may have been deleted.
    pub newest_signer: Option<Kid>,
    /// The key that this process has created last, and when.
    pub last_created: Option<(Kid, Timestamp)>,
    /// Until when tokens may be valid that a server with a longer `TOKEN_TTL` has issued.
    pub longer_tokens_until: Option<Timestamp>,
}

impl PlanContext {
    /// The time for decisions about lead and retention: the earlier of wall clock and monotonic clock. Setting the wall
    /// clock forward cannot shorten either.
    fn trusted_now(&self, kid: Kid) -> Timestamp {
        self.watched.get(&kid).map_or(self.wall, |watched| self.wall.min(*watched))
    }
}

/// When a new key starts to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// After it has been published for the lead.
    AfterLead,
    /// Immediately, because no other key can sign.
    Immediately,
    /// Never: it is created expired.
    Never,
}

/// One change of a key, with its reason for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delete the key.
    Delete {
        /// The key.
        kid: Kid,
        /// The reason.
        reason: &'static str,
    },
    /// Record that the key has expired.
    Expire {
        /// The key.
        kid: Kid,
        /// The reason.
        reason: &'static str,
    },
    /// Create a key.
    Create {
        /// When it expires; whole seconds.
        exp: Timestamp,
        /// When it starts to sign.
        signs: Activation,
        /// The reason.
        reason: &'static str,
    },
    /// Make the key the current one.
    Promote {
        /// The key.
        kid: Kid,
        /// The reason.
        reason: &'static str,
    },
    /// Record that the key was published now.
    ResetPublishedAt {
        /// The key.
        kid: Kid,
        /// The reason.
        reason: &'static str,
    },
    /// Let the key expire earlier.
    Shorten {
        /// The key.
        kid: Kid,
        /// When it expires; whole seconds.
        exp: Timestamp,
        /// The reason.
        reason: &'static str,
    },
}

impl Action {
    /// Whether it deletes a key.
    #[must_use]
    pub const fn is_deletion(&self) -> bool {
        matches!(self, Self::Delete { .. })
    }
}

/// Plans what to do with the keys now.
///
/// - A key that has reached its `exp` expires.
/// - The newest key that has been published for the lead signs.
/// - If no signing key covers a full token lifetime, the oldest published key that does starts to sign immediately;
///   otherwise a new key.
/// - The next key is created early enough to be published for the lead before the current key can no longer cover a
///   full token lifetime. It is also created if the current key would outlive the policy (which may have changed).
/// - A retired key that would outlive the policy expires with the last token that it may have signed.
/// - No key is created while another process replaces those of this one: it has another policy.
/// - A next key whose publication lies in the future counts as published now.
/// - There is always an expired key. The newest stays, others are deleted after the retention.
///
/// # Guarantees
/// After the actions are applied, a key signs and covers a full token lifetime, unless another process has another policy
/// and has just replaced it. Planning again at the same time then
/// returns at most deletions of keys that the first plan still needed.
#[must_use]
pub fn plan(keys: &[KeyMetadata], policy: &RotationPolicy, context: &PlanContext) -> Vec<Action> {
    let timeline = KeyTimeline::at(keys, context.wall).after(context.newest_signer);
    let mut actions = expiries(keys, context.wall);
    actions.extend(corrections(timeline));
    let succession = succession(timeline, policy, context);
    let endings = endings(timeline, policy, context, &succession);
    actions.extend(succession);
    actions.extend(endings);
    if timeline.newest_expired().is_none() {
        actions.push(Action::Create {
            exp: Timestamp::from_secs(context.wall.minus(SEED_AGE).as_secs()),
            signs: Activation::Never,
            reason: "there is no expired key to test verifiers with",
        });
    }
    actions.extend(deletions(timeline, policy, context));
    actions
}

fn expiries(keys: &[KeyMetadata], now: Timestamp) -> Vec<Action> {
    keys.iter()
        .filter(|key| key.exp <= now && key.expired_at.is_none())
        .map(|key| Action::Expire { kid: key.kid, reason: "it has reached its exp" })
        .collect()
}

/// Corrects publication times in the future, which would keep a key from signing for too long.
fn corrections(timeline: KeyTimeline<'_>) -> impl Iterator<Item = Action> {
    let is_in_future = move |key: &&KeyMetadata| key.published_at.is_some_and(|at| at > timeline.now);
    timeline.next().filter(is_in_future).map(|key| Action::ResetPublishedAt {
        kid: key.kid,
        reason: "the clock was set back to before its publication",
    })
}

/// Decides which key signs, and whether to create the next one.
fn succession(timeline: KeyTimeline<'_>, policy: &RotationPolicy, context: &PlanContext) -> Vec<Action> {
    let now = context.wall;
    let covers = |key: &&KeyMetadata| key.covers(now, policy.token_ttl);
    // `at.min(now)`: a publication time in the future is about to be reset to now.
    let had_lead = |key: &&KeyMetadata| {
        key.published_at
            .is_some_and(|at| at.min(now).plus(policy.until_signing()) <= context.trusted_now(key.kid))
    };

    let current = timeline.current().filter(covers);
    // The newest one, so that a backlog of next keys is skipped.
    let ready = timeline.next().rfind(|key| covers(key) && had_lead(key));
    let (promoted, reason) = if ready.is_some() {
        (ready, "it has been published for the lead")
    } else if current.is_none() {
        // The oldest one, because verifiers have had the most time to fetch it.
        (timeline.next().find(covers), "no other key covers a full token lifetime")
    } else {
        (None, "")
    };
    let mut actions: Vec<_> =
        promoted.map(|key| Action::Promote { kid: key.kid, reason }).into_iter().collect();

    let Some(signer) = promoted.or(current) else {
        // The current key signs shorter tokens until then.
        if !is_overtaken(timeline, policy, context) {
            actions.push(create(policy, now, Activation::Immediately, "no key covers a full token lifetime"));
        }
        return actions;
    };
    // A next key that expires before it can take over does not count: the rotation would stop.
    if timeline.next().any(|key| key.kid > signer.kid && will_sign(key, policy, now)) {
        return actions;
    }
    if !has_room(timeline) || is_overtaken(timeline, policy, context) {
        return actions;
    }
    if policy.successor_due(signer.exp) <= now {
        actions.push(successor(policy, now, "the current key expires soon"));
    } else if signer.exp > policy.latest_end(now) {
        actions.push(successor(policy, now, "the current key would outlive the policy"));
    }
    actions
}

/// Whether the JWKS has room for another key. One of another program that has not signed here makes room.
fn has_room(timeline: KeyTimeline<'_>) -> bool {
    // The oldest leave first, and those that were taken over are older than ours.
    let needed = |key: &&KeyMetadata| !key.is_taken_over || key.activated_at.is_some();
    timeline.published().filter(needed).count() < MAX_PUBLISHED
}

/// Whether this process created a key less than its own interval ago, and another process has replaced that key since.
///
/// Two processes with different policies would otherwise replace each other's keys several times a second.
fn is_overtaken(timeline: KeyTimeline<'_>, policy: &RotationPolicy, context: &PlanContext) -> bool {
    let Some((created, at)) = context.last_created else {
        return false;
    };
    let newest = timeline.published().filter(|key| !key.is_taken_over).map(|key| key.kid).max();
    // Without a current key, nothing could sign. A creation in the future is a clock that was set back.
    newest > Some(created)
        && timeline.current().is_some()
        && at <= context.wall
        && context.wall < at.plus(policy.interval())
}

/// Ends retired keys that would be published for longer than the policy allows.
fn endings(
    timeline: KeyTimeline<'_>,
    policy: &RotationPolicy,
    context: &PlanContext,
    succession: &[Action],
) -> Vec<Action> {
    let now = timeline.now;
    let is_replaced =
        |action: &Action| matches!(action, Action::Create { signs: Activation::Immediately, .. });
    let promoted = succession.iter().find_map(|action| match action {
        Action::Promote { kid, .. } => Some(*kid),
        _ => None,
    });
    // A signer of the future: the clock was set back, perhaps only for a moment. Its predecessor may still be needed.
    let current = timeline.current().filter(|key| key.activated_at.is_some_and(|at| at <= now));
    // A key that is created now is newer than all others.
    let signer = if succession.iter().any(is_replaced) {
        Some(Kid(i64::MAX))
    } else {
        promoted.or(current.map(|key| key.kid))
    };
    let tokens_until = now.plus(policy.token_ttl).max(context.longer_tokens_until.unwrap_or(now));
    let end = Timestamp::from_secs(tokens_until.plus(HANDOVER).as_secs() + 1);
    timeline
        .alive()
        .filter(|key| Some(key.kid) < signer && policy.is_outlived_by(key, now) && key.exp > end)
        .map(|key| Action::Shorten {
            kid: key.kid,
            exp: end,
            reason: "another key signs now, and it would outlive the policy",
        })
        .collect()
}

/// Whether the key will still cover a full token lifetime after its lead.
fn will_sign(key: &KeyMetadata, policy: &RotationPolicy, now: Timestamp) -> bool {
    let signs_at = key.published_at.map_or(now, |at| at.min(now)).plus(policy.until_signing());
    key.covers(signs_at.max(now), policy.token_ttl)
}

fn successor(policy: &RotationPolicy, now: Timestamp, reason: &'static str) -> Action {
    let activation = if policy.lead.is_zero() { Activation::Immediately } else { Activation::AfterLead };
    create(policy, now, activation, reason)
}

fn create(policy: &RotationPolicy, now: Timestamp, activation: Activation, reason: &'static str) -> Action {
    Action::Create { exp: policy.full_life(now), signs: activation, reason }
}

fn deletions(timeline: KeyTimeline<'_>, policy: &RotationPolicy, context: &PlanContext) -> Vec<Action> {
    // The newest key that has signed stays too. Without it, an older key would look like the current one.
    let kept = [timeline.newest_expired().map(|key| key.kid), timeline.newest_signer];
    timeline
        .keys
        .iter()
        .filter(|key| !key.is_published(context.wall) && !kept.contains(&Some(key.kid)))
        // Deletion is final, so a wall clock that was set forward must not cause it.
        .filter(|key| policy.kept_until(key) <= context.trusted_now(key.kid))
        .map(|key| Action::Delete { kid: key.kid, reason: "its retention is over" })
        .collect()
}
