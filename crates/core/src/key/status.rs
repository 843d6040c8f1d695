//! The keys as an operator sees them: each with its phase and times, and the state of the rotation.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kid::Kid;
use super::lifecycle::{KeyMetadata, KeyTimeline, Phase, RotationPolicy};
use super::profile::KeyProfile;
use crate::clock::Timestamp;

/// The keys of a store at one time, from which the status of each key and of the rotation is derived.
#[derive(Clone, Debug)]
pub struct StatusReport {
    keys: Vec<KeyMetadata>,
    newest_signer: Option<Kid>,
    policy: RotationPolicy,
    now: Timestamp,
}

/// The status of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The `kid`.
    pub kid: Kid,
    /// The phase now.
    pub phase: Phase,
    /// When the key was created, or was added to this store.
    pub created_at: Timestamp,
    /// When the key started to sign, or will.
    pub signs_from: Option<Timestamp>,
    /// When another key took over, or is expected to.
    pub signs_until: Option<Timestamp>,
    /// When the key expires, or did.
    pub exp: Timestamp,
    /// Its algorithm and the form of its published `kid`, if they are known.
    pub profile: Option<KeyProfile>,
}

/// The state of the rotation, for metrics and for `keys list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStatus {
    /// How long the current key has been signing.
    pub signing_for: Option<Duration>,
    /// When another key takes over.
    pub next_rotation: Option<Timestamp>,
    /// Number of keys in each phase.
    pub by_phase: BTreeMap<Phase, usize>,
}

impl StatusReport {
    /// The status of these keys at `now`.
    #[must_use]
    pub fn new(
        keys: Vec<KeyMetadata>,
        newest_signer: Option<Kid>,
        policy: RotationPolicy,
        now: Timestamp,
    ) -> Self {
        Self { keys, newest_signer, policy, now }
    }

    /// The status of every key, oldest first.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyStatus> {
        // Hundreds of thousands may have ended: only the few published ones are compared with each other.
        let published: Vec<_> = self.keys.iter().filter(|key| key.is_published(self.now)).copied().collect();
        let newest_signer =
            self.keys.iter().filter(|key| key.activated_at.is_some()).map(|key| key.kid).max();
        let timeline = KeyTimeline::at(&published, self.now).after(newest_signer.max(self.newest_signer));
        let activations = Activations::new(&self.keys);
        let status = |key: &KeyMetadata| {
            let phase = phase(key, &timeline, self.now);
            KeyStatus {
                kid: key.kid,
                phase,
                created_at: key.created_at,
                signs_from: self.signs_from(key, phase, &timeline),
                signs_until: self.signs_until(key, phase, &timeline, &activations),
                exp: key.exp,
                profile: key.profile,
            }
        };
        self.keys.iter().map(status).collect()
    }

    /// The state of the rotation.
    #[must_use]
    pub(crate) fn rotation_status(&self) -> RotationStatus {
        let keys = self.keys();
        let current = keys.iter().find(|key| key.phase == Phase::Current);
        let mut by_phase = BTreeMap::new();
        for key in &keys {
            *by_phase.entry(key.phase).or_default() += 1;
        }
        RotationStatus {
            signing_for: current.and_then(|key| key.signs_from).map(|from| self.now.since(from)),
            next_rotation: current.and_then(|key| key.signs_until),
            by_phase,
        }
    }

    fn signs_from(&self, key: &KeyMetadata, phase: Phase, timeline: &KeyTimeline<'_>) -> Option<Timestamp> {
        if phase != Phase::Next {
            return key.activated_at;
        }
        let ready = self.policy.signs_from(key)?;
        // The first one does not wait for its lead if no other key can sign.
        let is_first = timeline.next().next().is_some_and(|next| next.kid == key.kid);
        let needed = timeline.current().filter(|_| is_first).map(|current| self.covers_until(current));
        Some(needed.map_or(ready, |needed| ready.min(needed)))
    }

    /// Until when the key can sign a token of full length.
    fn covers_until(&self, key: &KeyMetadata) -> Timestamp {
        key.exp.minus(self.policy.token_ttl())
    }

    /// When a successor takes over that does not exist yet.
    fn replaced_at(&self, key: &KeyMetadata) -> Timestamp {
        let outlives = key.exp > self.policy.latest_end(self.now);
        let due = if outlives { self.now } else { self.policy.successor_due(key.exp).max(self.now) };
        due.plus(self.policy.until_signing()).min(self.covers_until(key))
    }

    fn signs_until(
        &self,
        key: &KeyMetadata,
        phase: Phase,
        timeline: &KeyTimeline<'_>,
        activations: &Activations,
    ) -> Option<Timestamp> {
        match phase {
            Phase::Current | Phase::Next => timeline
                .next()
                .find(|next| next.kid > key.kid)
                .and_then(|next| self.signs_from(next, Phase::Next, timeline))
                .map(|from| from.min(self.covers_until(key)))
                .or_else(|| Some(self.replaced_at(key))),
            Phase::Retiring | Phase::Expired | Phase::Revoked => {
                // A key that never signed has no end of signing.
                key.activated_at?;
                activations.first_after(key.kid).or(key.revoked_at)
            }
        }
    }
}

/// The phase of a key, from a timeline of the published ones.
fn phase(key: &KeyMetadata, published: &KeyTimeline<'_>, now: Timestamp) -> Phase {
    if key.revoked_at.is_none() && !key.is_published(now) { Phase::Expired } else { published.phase(key) }
}

/// When keys started to sign, in the order of their numbers; for each, the earliest time from there on.
struct Activations(Vec<(Kid, Timestamp)>);

impl Activations {
    fn new(keys: &[KeyMetadata]) -> Self {
        let mut times: Vec<_> = keys.iter().filter_map(|key| Some((key.kid, key.activated_at?))).collect();
        times.sort_unstable();
        let mut earliest = None;
        for (_, at) in times.iter_mut().rev() {
            let known = earliest.map_or(*at, |earliest: Timestamp| earliest.min(*at));
            (*at, earliest) = (known, Some(known));
        }
        Self(times)
    }

    /// The earliest time at which a key with a greater number started to sign.
    fn first_after(&self, kid: Kid) -> Option<Timestamp> {
        let after = self.0.partition_point(|(other, _)| *other <= kid);
        self.0.get(after).map(|(_, at)| *at)
    }
}
