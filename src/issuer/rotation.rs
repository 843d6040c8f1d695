//! From a picture of the keys to the changes to make: what an operator intends, then what the plan says.
//!
//! This runs inside the transaction that carries it out: a plan carried out from a stale picture makes two of
//! everything.

use zeroize::Zeroizing;

use super::SharedRng;
use super::key_commands::KeyCommandError;
use super::snapshot::open_key;
use crate::domain::clock::Timestamp;
use crate::domain::jose::pem;
use crate::domain::jose::private_key::PrivateKey;
use crate::domain::key::lifecycle::{
    self, Action, Activation, KeyMetadata, KeyTimeline, Phase, PlanContext, RotationPolicy,
};
use crate::domain::key::seal::{SealContext, Sealer};
use crate::domain::key::{Kid, SigningKey};
use crate::store::{KeyChange, KeySnapshot};

/// What is to happen to the keys besides what the plan says.
pub(super) enum Intent<'a> {
    /// End a key's life now.
    Expire(Kid),
    /// Take in a key of elsewhere.
    Import(&'a PrivateKey),
    /// Nothing.
    Keep,
    /// Take a key out of everything, now.
    Revoke(Kid),
    /// Make the next key now; with `at_once`, let it sign now.
    Rotate {
        /// Whether it signs now.
        at_once: bool,
    },
}

/// Why no changes came of a draft.
pub(super) enum Refused {
    /// This many keys have to be made first.
    NeedsKeys(usize),
    /// It cannot be done to these keys.
    Operation(KeyCommandError),
}

impl From<KeyCommandError> for Refused {
    fn from(why: KeyCommandError) -> Self {
        Self::Operation(why)
    }
}

/// The keys whose private half is needed: those that have not ended, and the one for `?expired`, which is none of those
/// that are known not to open.
pub(super) fn wanted(lives: &[KeyMetadata], now: Timestamp, unreadable: &[Kid]) -> Vec<Kid> {
    let readable: Vec<_> = lives.iter().filter(|life| !unreadable.contains(&life.kid)).copied().collect();
    let expired = KeyTimeline::at(&readable, now).newest_expired().map(|life| life.kid);
    let is_wanted = |life: &&KeyMetadata| {
        let has_ended = life.expired_at.is_some() || life.revoked_at.is_some();
        !has_ended || Some(life.kid) == expired || unreadable.contains(&life.kid)
    };
    lives.iter().filter(is_wanted).map(|life| life.kid).collect()
}

/// Every key.
pub(super) fn all(lives: &[KeyMetadata]) -> Vec<Kid> {
    lives.iter().map(|life| life.kid).collect()
}

/// Changes in the making.
pub(super) struct Draft<'a> {
    picture: &'a KeySnapshot,
    sealer: &'a Sealer,
    policy: &'a RotationPolicy,
    now: &'a PlanContext,
    /// The keys that can be used, as they will be.
    lives: Vec<KeyMetadata>,
    opened: Vec<SigningKey>,
    next_kid: Kid,
    entries: Vec<Entry<'a>>,
    log: Vec<Step>,
}

enum Entry<'a> {
    Change(KeyChange),
    /// A row for this key, or for one that is made for it.
    New(KeyMetadata, Option<&'a PrivateKey>),
    /// This text is to be sealed into the row, with another expiry.
    Reseal(Kid, Timestamp, Zeroizing<Vec<u8>>),
}

impl<'a> Draft<'a> {
    /// Begins with the keys of a picture that open. Rows that another program wrote under our master key are taken in.
    pub(super) fn of(
        picture: &'a KeySnapshot,
        sealer: &'a Sealer,
        policy: &'a RotationPolicy,
        now: &'a PlanContext,
        ended: &[Kid],
    ) -> Self {
        let (mut opened, mut unreadable) = (Vec::new(), Vec::new());
        for row in &picture.sealed {
            match open_key(row, sealer) {
                Ok(key) => opened.push(key),
                Err(_) => unreadable.push(row.kid),
            }
        }
        let lives = picture.lives.iter().filter(|life| !unreadable.contains(&life.kid)).copied().collect();
        let (entries, log) = (Vec::new(), Vec::new());
        let mut draft =
            Self { picture, sealer, policy, now, lives, opened, next_kid: picture.next_kid, entries, log };
        draft.record_ends(ended);
        for row in &picture.unmanaged {
            if let Ok(key) = open_key(row, sealer) {
                let life = KeyMetadata::adopted(row.kid, row.exp, now.wall);
                draft.opened.push(key);
                draft.lives.push(life);
                draft.note(life, "adopted", "it is sealed under our master key");
                draft.change(KeyChange::Adopt { life, sealed: None });
            }
        }
        draft
    }

    /// Adds what an operator intends.
    pub(super) fn intend(mut self, intent: &Intent<'a>) -> Result<Self, Refused> {
        match *intent {
            Intent::Expire(kid) => self.expire(kid)?,
            Intent::Import(key) => self.import(key)?,
            Intent::Keep => {}
            Intent::Revoke(kid) => self.revoke(kid)?,
            Intent::Rotate { at_once } => self.rotate(at_once)?,
        }
        Ok(self)
    }

    /// Adds what the plan says of the keys as they will be. A command deletes nothing: it has watched no clock.
    pub(super) fn plan(mut self, intent: &Intent<'_>) -> Self {
        for action in lifecycle::plan(&self.lives, self.policy, self.now) {
            match action {
                Action::Delete { .. } if !matches!(intent, Intent::Keep) => {}
                Action::Delete { kid, reason } => {
                    self.follow(kid, "deleted", reason, |_| {});
                    self.change(KeyChange::Delete { kid, at: self.now.wall });
                }
                Action::Expire { kid, reason } => {
                    let at = self.now.wall;
                    self.follow(kid, "expired", reason, |life| life.expired_at = Some(at));
                    self.change(KeyChange::Expire { kid, at });
                }
                Action::Create { exp, signs, reason } => self.add(exp, signs, None, reason),
                Action::Promote { kid, reason } => self.promote(kid, reason),
                Action::ResetPublishedAt { kid, reason } => {
                    let at = self.now.wall;
                    self.follow(kid, "counts as published from now on", reason, |life| {
                        life.published_at = Some(at);
                    });
                    self.change(KeyChange::ResetPublishedAt { kid, at });
                }
            }
        }
        self
    }

    /// The changes, sealed, and what to log of them once they are stored.
    pub(super) fn settle(
        self,
        made: &mut Vec<PrivateKey>,
        rng: &SharedRng,
    ) -> Result<(Vec<KeyChange>, Vec<Step>), Refused> {
        let needed = self.entries.iter().filter(|entry| matches!(entry, Entry::New(_, None))).count();
        if made.len() < needed {
            return Err(Refused::NeedsKeys(needed));
        }
        let seal = |kid, exp, text: &[u8]| {
            let sealed = rng.with(|rng| self.sealer.seal(SealContext::Key(kid, exp), text, rng));
            sealed.map_err(|_| KeyCommandError::CannotSeal(kid))
        };
        let mut changes = Vec::new();
        for entry in self.entries {
            changes.push(match entry {
                Entry::Change(change) => change,
                Entry::Reseal(kid, exp, text) => {
                    KeyChange::Reseal { kid, exp, sealed: seal(kid, exp, &text)? }
                }
                Entry::New(life, key) => {
                    let kid = life.kid;
                    let pem = match key {
                        Some(key) => pem::to_pkcs1_pem(key),
                        None => pem::to_pkcs1_pem(&made.pop().ok_or(Refused::NeedsKeys(needed))?),
                    };
                    let pem = pem.map_err(|_| KeyCommandError::CannotSeal(kid))?;
                    KeyChange::Insert { life, sealed: seal(kid, life.exp, pem.as_bytes())? }
                }
            });
        }
        Ok((changes, self.log))
    }

    /// Records of keys that have been seen to expire that they have: the clock may have gone back since.
    fn record_ends(&mut self, ended: &[Kid]) {
        let at = self.now.wall;
        let unrecorded =
            |life: &&KeyMetadata| life.expired_at.is_none() && ended.contains(&life.kid) && life.exp > at;
        let kids: Vec<_> = self.lives.iter().filter(unrecorded).map(|life| life.kid).collect();
        for kid in kids {
            self.follow(kid, "expired", "its exp had passed before the clock went back", |life| {
                life.expired_at = Some(at);
            });
            self.change(KeyChange::Expire { kid, at });
        }
    }

    fn rotate(&mut self, at_once: bool) -> Result<(), KeyCommandError> {
        let next = self.keys().next().next().map(|life| life.kid);
        let reason = "an operator asked for it";
        match (next, at_once) {
            (Some(kid), false) => return Err(KeyCommandError::NextExists(kid)),
            (Some(kid), true) => self.promote(kid, reason),
            (None, _) => {
                let signs = if at_once { Activation::Immediately } else { Activation::AfterLead };
                self.add(self.policy.full_life(self.now.wall), signs, None, reason);
            }
        }
        Ok(())
    }

    fn revoke(&mut self, kid: Kid) -> Result<(), KeyCommandError> {
        self.published(kid)?;
        let at = self.now.wall;
        self.follow(kid, "revoked", "an operator asked for it", |life| life.revoked_at = Some(at));
        self.change(KeyChange::Revoke { kid, at });
        Ok(())
    }

    fn expire(&mut self, kid: Kid) -> Result<(), KeyCommandError> {
        let life = self.published(kid)?;
        let row = self.picture.sealed.iter().chain(&self.picture.unmanaged).find(|row| row.kid == kid);
        let row = row.ok_or(KeyCommandError::Unknown(kid))?;
        let text = self
            .sealer
            .open(SealContext::Key(kid, life.exp), &row.bytes)
            .map_err(|_| KeyCommandError::Unknown(kid))?;
        let (at, exp) = (self.now.wall, Timestamp::from_secs(self.now.wall.as_secs()));
        self.follow(kid, "expired", "an operator asked for it", |life| {
            life.exp = exp;
            life.expired_at = Some(at);
        });
        self.entries.push(Entry::Reseal(kid, exp, text));
        self.change(KeyChange::Expire { kid, at });
        Ok(())
    }

    fn import(&mut self, key: &'a PrivateKey) -> Result<(), KeyCommandError> {
        let exp = self.policy.full_life(self.now.wall);
        let same = |other: &&SigningKey| other.jwk().key() == key.public();
        if let Some(here) = self.opened.iter().find(same) {
            let life = self.lives.iter().find(|life| life.kid == here.kid());
            let is_revoked = life.is_some_and(|life| life.revoked_at.is_some());
            return Err(KeyCommandError::IsHere { kid: here.kid(), is_revoked });
        }
        self.add(exp, Activation::AfterLead, Some(key), "an operator brought it");
        Ok(())
    }

    fn keys(&self) -> KeyTimeline<'_> {
        KeyTimeline::at(&self.lives, self.now.wall).after(self.now.newest_signer)
    }

    fn published(&self, kid: Kid) -> Result<KeyMetadata, KeyCommandError> {
        let life = self.lives.iter().find(|life| life.kid == kid).ok_or(KeyCommandError::Unknown(kid))?;
        match self.keys().phase(life) {
            phase @ (Phase::Expired | Phase::Revoked) => Err(KeyCommandError::HasEnded(kid, phase)),
            Phase::Next | Phase::Current | Phase::Retiring => Ok(*life),
        }
    }

    fn add(&mut self, exp: Timestamp, signs: Activation, key: Option<&'a PrivateKey>, reason: &'static str) {
        let life = KeyMetadata::created(self.next_kid, exp, signs, self.now.wall);
        self.next_kid = Kid(self.next_kid.0 + 1);
        let what = match (signs, key) {
            (Activation::AfterLead, None) => "made, signs later",
            (Activation::AfterLead, Some(_)) => "imported, signs later",
            (Activation::Immediately, _) => "made, signs at once",
            (Activation::Never, _) => "made expired",
        };
        let before = self.keys().current().map(|life| life.kid);
        self.lives.push(life);
        self.note(life, what, reason);
        self.entries.push(Entry::New(life, key));
        if signs == Activation::Immediately {
            self.retire(before);
        }
    }

    /// Notes that a key which signed does so no more.
    fn retire(&mut self, before: Option<Kid>) {
        if let Some(kid) = before {
            self.follow(kid, "retires", "another key signs now", |_| {});
        }
    }

    fn promote(&mut self, kid: Kid, reason: &'static str) {
        let at = self.now.wall;
        let before = self.keys().current().map(|life| life.kid);
        self.follow(kid, "signs from now on", reason, |life| life.activated_at = Some(at));
        self.change(KeyChange::Promote { kid, at });
        self.retire(before);
    }

    /// Changes what is remembered of a key, and what to log.
    fn follow(
        &mut self,
        kid: Kid,
        what: &'static str,
        why: &'static str,
        change: impl FnOnce(&mut KeyMetadata),
    ) {
        if let Some(life) = self.lives.iter_mut().find(|life| life.kid == kid) {
            change(life);
            let life = *life;
            self.note(life, what, why);
        }
    }

    fn note(&mut self, life: KeyMetadata, what: &'static str, why: &'static str) {
        let signs_from = self.policy.signs_from(&life);
        self.log.push(Step { life, signs_from, what, why });
    }

    fn change(&mut self, change: KeyChange) {
        self.entries.push(Entry::Change(change));
    }
}

/// A step in the life of a key, for the log once it is stored.
pub(super) struct Step {
    life: KeyMetadata,
    signs_from: Option<Timestamp>,
    what: &'static str,
    why: &'static str,
}

impl Step {
    /// Writes the one line that each step gets.
    pub(super) fn report(self) {
        let Self { life: KeyMetadata { kid, created_at, exp, .. }, signs_from, what, why } = self;
        let from = signs_from.map_or_else(|| "never".to_owned(), |from| from.to_string());
        tracing::info!(%kid, made = %created_at, signs_from = from, %exp, "key {kid}: {what}, because {why}");
    }
}
