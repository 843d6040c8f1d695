//! The keys as an operator sees them: each with its phase and times, and the state of the rotation.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kid::Kid;
use super::lifecycle::{KeyMetadata, KeyTimeline, Phase, RotationPolicy};
use crate::domain::clock::Timestamp;

/// The keys of a store at one time, from which the status of each key and of the rotation is derived.
#[derive(Clone, Debug)]
pub(crate) struct StatusReport {
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
    pub(crate) fn new(
        keys: Vec<KeyMetadata>,
        newest_signer: Option<Kid>,
        policy: RotationPolicy,
        now: Timestamp,
    ) -> Self {
        Self { keys, newest_signer, policy, now }
    }

    /// The status of every key, oldest first.
    #[must_use]
    pub(crate) fn keys(&self) -> Vec<KeyStatus> {
        let timeline = self.timeline();
        let status = |key: &KeyMetadata| {
            let phase = timeline.phase(key);
            KeyStatus {
                kid: key.kid,
                phase,
                created_at: key.created_at,
                signs_from: self.signs_from(key, phase),
                signs_until: self.signs_until(key, phase),
                exp: key.exp,
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

    fn timeline(&self) -> KeyTimeline<'_> {
        KeyTimeline::at(&self.keys, self.now).after(self.newest_signer)
    }

    fn signs_from(&self, key: &KeyMetadata, phase: Phase) -> Option<Timestamp> {
        if phase == Phase::Next { self.policy.signs_from(key) } else { key.activated_at }
    }

    fn signs_until(&self, key: &KeyMetadata, phase: Phase) -> Option<Timestamp> {
        match phase {
            Phase::Current | Phase::Next => self
                .timeline()
                .next()
                .find(|next| next.kid > key.kid)
                .and_then(|next| self.signs_from(next, Phase::Next))
                // Without a successor: when the plan would create one, plus its lead.
                .or(Some(self.policy.successor_due(key.exp).plus(self.policy.until_signing()))),
            Phase::Retiring | Phase::Expired | Phase::Revoked => {
                // A key that never signed has no end of signing.
                key.activated_at?;
                let newer = self.keys.iter().filter(|newer| newer.kid > key.kid);
                newer.filter_map(|newer| newer.activated_at).min().or(key.revoked_at)
            }
        }
    }
}
