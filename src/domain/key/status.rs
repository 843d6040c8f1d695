//! The keys as an operator sees them: each with its phase and its times, and the rotation in figures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Kid;
use super::lifecycle::{KeyMetadata, KeyTimeline, Phase, RotationPolicy};
use crate::domain::clock::Timestamp;

/// The keys of a store at one moment, under one policy.
#[derive(Clone, Debug)]
pub struct StatusReport {
    lives: Vec<KeyMetadata>,
    newest_signer: Option<Kid>,
    policy: RotationPolicy,
    now: Timestamp,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Which key.
    pub kid: Kid,
    /// What it is to the world now.
    pub phase: Phase,
    /// When it was made, or came into this store.
    pub created_at: Timestamp,
    /// When it began to sign, or will.
    pub signs_from: Option<Timestamp>,
    /// When another took over, or will, as far as can be told now.
    pub signs_until: Option<Timestamp>,
    /// When it expires, or did.
    pub exp: Timestamp,
}

/// The rotation in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStatus {
    /// How long the current key has signed.
    pub signing_for: Option<Duration>,
    /// When another key is to take over.
    pub next_rotation: Option<Timestamp>,
    /// How many keys there are of each phase.
    pub by_phase: BTreeMap<Phase, usize>,
}

impl StatusReport {
    /// The keys as they are now.
    #[must_use]
    pub fn new(
        lives: Vec<KeyMetadata>,
        newest_signer: Option<Kid>,
        policy: RotationPolicy,
        now: Timestamp,
    ) -> Self {
        Self { lives, newest_signer, policy, now }
    }

    fn phases(&self) -> KeyTimeline<'_> {
        KeyTimeline::at(&self.lives, self.now).after(self.newest_signer)
    }

    /// Every key, oldest first.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyStatus> {
        let keys = self.phases();
        let report = |life: &KeyMetadata| {
            let phase = keys.phase(life);
            KeyStatus {
                kid: life.kid,
                phase,
                created_at: life.created_at,
                signs_from: self.signs_from(life, phase),
                signs_until: self.signs_until(life, phase),
                exp: life.exp,
            }
        };
        self.lives.iter().map(report).collect()
    }

    /// The rotation in figures.
    #[must_use]
    pub fn rotation_status(&self) -> RotationStatus {
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

    fn signs_from(&self, life: &KeyMetadata, phase: Phase) -> Option<Timestamp> {
        if phase == Phase::Next { self.policy.signs_from(life) } else { life.activated_at }
    }

    fn signs_until(&self, life: &KeyMetadata, phase: Phase) -> Option<Timestamp> {
        let heirs = self.lives.iter().filter(|heir| heir.kid > life.kid);
        match phase {
            Phase::Current | Phase::Next => self
                .phases()
                .next()
                .find(|next| next.kid > life.kid)
                .and_then(|next| self.signs_from(next, Phase::Next))
                .or(Some(self.policy.successor_due(life.exp).plus(self.policy.until_signing()))),
            Phase::Retiring | Phase::Expired | Phase::Revoked => {
                life.activated_at?;
                heirs.filter_map(|heir| heir.activated_at).min().or(life.revoked_at)
            }
        }
    }
}
