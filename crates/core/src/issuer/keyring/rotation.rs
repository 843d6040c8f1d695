//! From a snapshot of the store to the changes to make: first what an operator intends, then what the plan says.
//!
//! Everything here is computed before the store is locked. The store refuses the changes if the keys have changed since.

use zeroize::Zeroizing;

use super::duplicates::duplicates;
use super::error::KeyCommandError;
use super::inspect::{open_external, open_signing_key};
use crate::clock::Timestamp;
use crate::issuer::context::SharedRng;
use crate::key::lifecycle::{
    self, Action, Activation, KeyMetadata, KeyTimeline, MAX_PUBLISHED, Phase, PlanContext, RotationPolicy,
};
use crate::key::seal::{SealContext, Sealer};
use crate::key::{KeyProfile, KeySpec, Kid, KidFormat, LAST_KID, SigningKey};
use crate::store::{KeyChange, KeySnapshot, KnownKey};
use jwksd_jose::pem;
use jwksd_jose::private_key::PrivateKey;

const DELETED: &str = "deleted";

const ASKED: &str = "an operator asked for it";

const SAME_KEY: &str = "it is the same key under another kid";

/// What should happen to the keys in addition to the plan.
pub(super) enum Intent<'a> {
    /// Let a key expire now.
    Expire(Kid),
    /// Add a private key from elsewhere.
    Import(&'a PrivateKey),
    /// Delete the keys whose retention is over, and nothing else.
    DeleteEnded,
    /// Nothing.
    Keep,
    /// Take a key out of everything now.
    Revoke(Kid),
    /// Take all keys that have signed in open mode out of everything now.
    RevokeOpenMode,
    /// Create the next key now. With `at_once` it signs now.
    Rotate {
        /// Whether it signs now.
        at_once: bool,
    },
}

/// The result of a draft.
pub(super) enum Settled {
    /// The changes to store, and what to log once they are stored.
    Changes(Vec<KeyChange>, Vec<Step>),
    /// This many keys must be generated first.
    NeedsKeys(usize),
}

/// What a draft starts from.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) stored: &'a KeySnapshot,
    pub(super) sealer: &'a Sealer,
    pub(super) policy: &'a RotationPolicy,
    /// Which keys to create.
    pub(super) spec: KeySpec,
    pub(super) context: &'a PlanContext,
    /// What the store knows about keys that are imported or adopted.
    pub(super) known: &'a [KnownKey],
}

/// Changes in preparation.
pub(super) struct Draft<'a> {
    basis: Basis<'a>,
    /// The usable keys, as they will be after the changes.
    keys: Vec<KeyMetadata>,
    opened: Vec<SigningKey>,
    next_kid: Kid,
    entries: Vec<Entry<'a>>,
    log: Vec<Step>,
}

enum Entry<'a> {
    Change(KeyChange),
    /// A row for this key, or for one that is generated for it.
    New(KeyMetadata, Option<&'a PrivateKey>),
    /// Seal this text into the row, with another expiry.
    Reseal(Kid, Timestamp, Zeroizing<Vec<u8>>),
}

impl<'a> Draft<'a> {
    /// Starts with the stored keys that open. Rows that another program wrote under our master key are adopted.
    pub(super) fn new(basis: Basis<'a>, ended: &[Kid], twins: Vec<String>) -> Self {
        let stored = basis.stored;
        let (mut opened, mut unreadable) = (Vec::new(), Vec::new());
        for row in &stored.sealed {
            match open_signing_key(row, &stored.keys, basis.sealer) {
                Ok(key) => opened.push(key),
                Err(_) => unreadable.push(row.kid),
            }
        }
        // A plan that counts on a key that does not open could leave the store without a signer.
        let keys = stored.keys.iter().filter(|key| !unreadable.contains(&key.kid)).copied().collect();
        let (next_kid, entries, log) = (stored.next_kid, Vec::new(), Vec::new());
        let mut draft = Self { basis, keys, opened, next_kid, entries, log };
        draft.record_expiries(ended);
        draft.adopt_unmanaged();
        for kid in twins {
            draft.push(KeyChange::Withdraw { kid });
        }
        draft
    }

    /// Adds what an operator intends.
    pub(super) fn intend(mut self, intent: &Intent<'a>) -> Result<Self, KeyCommandError> {
        match *intent {
            Intent::Expire(kid) => {
                self.expire(kid, ASKED)?;
                for kid in self.same_keys(kid) {
                    self.expire(kid, SAME_KEY)?;
                }
            }
            Intent::Import(key) => self.import(key)?,
            Intent::DeleteEnded | Intent::Keep => {}
            Intent::Revoke(kid) => {
                self.published(kid)?;
                self.revoke(kid, ASKED);
                self.same_keys(kid).into_iter().for_each(|kid| self.revoke(kid, SAME_KEY));
            }
            Intent::RevokeOpenMode => self.revoke_open_mode_keys(),
            Intent::Rotate { at_once } => self.rotate(at_once)?,
        }
        Ok(self)
    }

    /// Adds what the plan says about the keys as they will be: only the deletions, or everything else.
    pub(super) fn plan(mut self, intent: &Intent<'_>) -> Self {
        // Apart from each other, so that a deletion that fails does not keep a key from being created. And a command deletes
        // nothing: its process has not watched the clock.
        let deletes = matches!(intent, Intent::DeleteEnded);
        // Not before a command, which names a key that has not ended.
        if matches!(intent, Intent::Keep) {
            self.expire_duplicates();
        }
        let planned = lifecycle::plan(&self.keys, self.basis.policy, self.basis.context);
        for action in planned.into_iter().filter(|action| action.is_deletion() == deletes) {
            match action {
                // That of a revoked key must be remembered before its row is gone.
                Action::Delete { .. } if self.basis.stored.lacks_thumbprints => {}
                Action::Delete { kid, reason } => {
                    self.update(kid, DELETED, reason, |_| {});
                    self.push(KeyChange::Delete { kid, at: self.basis.context.wall });
                }
                Action::Expire { kid, reason } => {
                    let at = self.basis.context.wall;
                    self.update(kid, "expired", reason, |key| key.expired_at = Some(at));
                    self.push(KeyChange::Expire { kid, at });
                }
                Action::Create { exp, signs, reason } => self.add(exp, signs, None, reason),
                Action::Promote { kid, reason } => self.promote(kid, reason),
                Action::ResetPublishedAt { kid, reason } => {
                    let at = self.basis.context.wall;
                    self.update(kid, "counts as published from now on", reason, |key| {
                        key.published_at = Some(at);
                    });
                    self.push(KeyChange::ResetPublishedAt { kid, at });
                }
                Action::Shorten { kid, exp, reason } => self.shorten(kid, exp, reason),
            }
        }
        self
    }

    /// The changes, sealed. `generated` are the keys to use for new rows.
    pub(super) fn settle(
        self,
        generated: &[PrivateKey],
        rng: &SharedRng,
    ) -> Result<Settled, KeyCommandError> {
        // The rotation would seem to work, until the last number is used.
        if self.next_kid > LAST_KID && self.entries.iter().any(|entry| matches!(entry, Entry::New(..))) {
            return Err(KeyCommandError::NoKidLeft(self.basis.stored.next_kid));
        }
        let needed = self.entries.iter().filter(|entry| matches!(entry, Entry::New(_, None))).count();
        if generated.len() < needed {
            return Ok(Settled::NeedsKeys(needed));
        }
        let seal = |kid, exp, text: &[u8]| {
            let sealed = rng.with(|rng| self.basis.sealer.seal(SealContext::Key(kid, exp), text, rng));
            sealed.map_err(|_| KeyCommandError::CannotSeal(kid))
        };
        let mut generated = generated.iter();
        let mut changes = Vec::new();
        for entry in self.entries {
            match entry {
                Entry::Change(change) => changes.push(change),
                Entry::Reseal(kid, exp, text) => {
                    changes.push(KeyChange::Reseal { kid, exp, sealed: seal(kid, exp, &text)? });
                }
                Entry::New(key, private) => {
                    let kid = key.kid;
                    let private = private.or_else(|| generated.next());
                    let private = private.ok_or(KeyCommandError::CannotSeal(kid))?;
                    let pem = pem::to_stored_pem(private).map_err(|_| KeyCommandError::CannotSeal(kid))?;
                    changes.push(KeyChange::Insert { key, sealed: seal(kid, key.exp, pem.as_bytes())? });
                    let thumbprint = private.public().thumbprint();
                    changes.push(KeyChange::RecordThumbprint { kid, thumbprint });
                }
            }
        }
        Ok(Settled::Changes(changes, self.log))
    }

    /// Records the expiry of keys that this process saw expire, also if the clock has gone back since.
    fn record_expiries(&mut self, ended: &[Kid]) {
        let at = self.basis.context.wall;
        // If `exp` has passed on the clock as well, the plan itself records the expiry.
        let is_unrecorded =
            |key: &&KeyMetadata| key.expired_at.is_none() && ended.contains(&key.kid) && key.exp > at;
        let kids: Vec<_> = self.keys.iter().filter(is_unrecorded).map(|key| key.kid).collect();
        for kid in kids {
            self.update(kid, "expired", "its exp had passed before the clock went back", |key| {
                key.expired_at = Some(at);
            });
            self.push(KeyChange::Expire { kid, at });
        }
    }

    /// Ends all but one of the rows that hold the same key, as a database of another program may have them.
    fn expire_duplicates(&mut self) {
        let at = self.basis.context.wall;
        let opened = |key: &KeyMetadata| self.opened.iter().find(|opened| opened.kid() == key.kid);
        let published: Vec<_> = self
            .keys
            .iter()
            .filter(|key| key.is_published(at))
            .filter_map(|key| Some((key, opened(key)?)))
            .collect();
        for kid in duplicates(&published, self.timeline().current().map(|key| key.kid)) {
            self.update(kid, "expired", SAME_KEY, |key| key.expired_at = Some(at));
            self.push(KeyChange::Expire { kid, at });
        }
    }

    fn adopt_unmanaged(&mut self) {
        for row in &self.basis.stored.unmanaged {
            if let Ok(opened) = open_signing_key(row, &[], self.basis.sealer) {
                let thumbprint = opened.jwk().key().thumbprint();
                let mut key = KeyMetadata::adopted(row.kid, row.exp, self.basis.context.wall)
                    .with_profile(opened.profile());
                let is_same = |known: &KnownKey| known.thumbprint == thumbprint && known.is_revoked;
                let why = if self.basis.known.iter().any(is_same) {
                    key.revoked_at = Some(self.basis.context.wall);
                    "it is sealed under our master key; it is a key that was revoked"
                } else {
                    "it is sealed under our master key"
                };
                self.opened.push(opened);
                self.keys.push(key);
                self.note(key, "adopted", why);
                self.push(KeyChange::Adopt { key, sealed: None });
                self.push(KeyChange::RecordThumbprint { kid: row.kid, thumbprint });
            }
        }
    }

    fn rotate(&mut self, at_once: bool) -> Result<(), KeyCommandError> {
        let spec = self.basis.spec;
        let is_wanted = |key: &SigningKey| spec.matches(key.profile(), key.jwk().key());
        // A next key of another kind is not what is asked for, after the settings of new keys have changed.
        let is_wanted = |kid: &Kid| self.opened.iter().any(|key| key.kid() == *kid && is_wanted(key));
        let next = self.timeline().next().map(|key| key.kid).find(is_wanted);
        let reason = ASKED;
        match (next, at_once) {
            (Some(kid), false) => return Err(KeyCommandError::NextExists(kid)),
            (Some(kid), true) => self.promote(kid, reason),
            (None, _) => {
                self.expect_room()?;
                let signs = if at_once { Activation::Immediately } else { Activation::AfterLead };
                self.add(self.basis.policy.full_life(self.basis.context.wall), signs, None, reason);
            }
        }
        Ok(())
    }

    fn revoke(&mut self, kid: Kid, why: &'static str) {
        let at = self.basis.context.wall;
        self.update(kid, "revoked", why, |key| key.revoked_at = Some(at));
        self.push(KeyChange::Revoke { kid, at });
    }

    fn revoke_open_mode_keys(&mut self) {
        for kid in &self.basis.stored.open_mode_keys {
            if self.published(*kid).is_ok() {
                self.revoke(*kid, "it has signed in open mode, where anyone gets a token");
            }
        }
    }

    /// Other rows with the key of this one, which a database of another program may have.
    fn same_keys(&self, kid: Kid) -> Vec<Kid> {
        let public = |kid| self.opened.iter().find(|key| key.kid() == kid).map(|key| key.jwk().key());
        let key = public(kid);
        let is_same = |other: &&KeyMetadata| other.kid != kid && key.is_some() && public(other.kid) == key;
        let same = self.keys.iter().filter(is_same).map(|key| key.kid);
        same.filter(|kid| self.published(*kid).is_ok()).collect()
    }

    fn expire(&mut self, kid: Kid, why: &'static str) -> Result<(), KeyCommandError> {
        let key = self.published(kid)?;
        let text = self.open(key).ok_or(KeyCommandError::Unknown(kid))?;
        // The associated data contain `exp`, so the row must be sealed again.
        let (at, exp) = (self.basis.context.wall, Timestamp::from_secs(self.basis.context.wall.as_secs()));
        self.update(kid, "expired", why, |key| {
            key.exp = exp;
            key.expired_at = Some(at);
        });
        self.entries.push(Entry::Reseal(kid, exp, text));
        self.push(KeyChange::Expire { kid, at });
        Ok(())
    }

    fn shorten(&mut self, kid: Kid, exp: Timestamp, reason: &'static str) {
        let key = self.keys.iter().find(|key| key.kid == kid).copied();
        // Every published key was opened, so this one opens.
        if let Some(text) = key.and_then(|key| self.open(key)) {
            self.update(kid, "expires earlier", reason, |key| key.exp = exp);
            self.entries.push(Entry::Reseal(kid, exp, text));
        }
    }

    /// The content of a key's row.
    fn open(&self, key: KeyMetadata) -> Option<Zeroizing<Vec<u8>>> {
        let row = self
            .basis
            .stored
            .sealed
            .iter()
            .chain(&self.basis.stored.unmanaged)
            .find(|row| row.kid == key.kid)?;
        self.basis.sealer.open(SealContext::Key(key.kid, key.exp), &row.bytes).ok()
    }

    fn expect_room(&self) -> Result<(), KeyCommandError> {
        let published = self.keys.iter().filter(|key| key.is_published(self.basis.context.wall)).count();
        if published < MAX_PUBLISHED { Ok(()) } else { Err(KeyCommandError::TooMany) }
    }

    fn import(&mut self, key: &'a PrivateKey) -> Result<(), KeyCommandError> {
        let is_same = |other: &&SigningKey| other.jwk().key() == key.public();
        if let Some(same) = self.opened.iter().find(is_same) {
            let kid = same.kid();
            let is_revoked = self.keys.iter().any(|key| key.kid == kid && key.revoked_at.is_some());
            return Err(KeyCommandError::IsHere { kid, is_revoked });
        }
        self.expect_unknown(&key.public().thumbprint())?;
        let external =
            self.basis.stored.external.iter().filter_map(|row| open_external(row, self.basis.sealer));
        for twin in external.filter(|external| external.jwk().key() == key.public()) {
            if twin.exp().is_none_or(|exp| exp > self.basis.context.wall) {
                return Err(KeyCommandError::IsExternal(twin.kid().to_owned()));
            }
            // Its publication has ended. It must not come back if the clock is set back.
            self.push(KeyChange::Withdraw { kid: twin.kid().to_owned() });
        }
        self.expect_room()?;
        let profile = self.basis.spec.profile_of(key.public());
        let profile = profile.ok_or(KeyCommandError::NoAlgorithm(key.public().key_type()))?;
        self.expect_free_kid(key, profile)?;
        let exp = self.basis.policy.full_life(self.basis.context.wall);
        // With the lead, like any new key: verifiers do not have it in their caches yet.
        self.add(exp, Activation::AfterLead, Some((key, profile)), "an operator imported it");
        Ok(())
    }

    /// Refuses a key whose thumbprint is the `kid` of an external key, if it would be published under it.
    fn expect_free_kid(&self, key: &PrivateKey, profile: KeyProfile) -> Result<(), KeyCommandError> {
        let thumbprint = key.public().thumbprint();
        let is_taken = self.basis.stored.external.iter().any(|row| row.kid == thumbprint);
        if is_taken && profile.kid_format == KidFormat::Thumbprint {
            return Err(KeyCommandError::KidTaken(thumbprint));
        }
        Ok(())
    }

    /// Refuses a key that the store has or had: most of its rows are not opened here.
    fn expect_unknown(&self, thumbprint: &str) -> Result<(), KeyCommandError> {
        match self.basis.known.iter().find(|known| known.thumbprint == *thumbprint) {
            None => Ok(()),
            Some(KnownKey { kid: Some(kid), is_revoked, .. }) => {
                Err(KeyCommandError::IsHere { kid: *kid, is_revoked: *is_revoked })
            }
            Some(KnownKey { kid: None, .. }) => Err(KeyCommandError::WasRevoked),
        }
    }

    fn timeline(&self) -> KeyTimeline<'_> {
        KeyTimeline::at(&self.keys, self.basis.context.wall).after(self.basis.context.newest_signer)
    }

    fn published(&self, kid: Kid) -> Result<KeyMetadata, KeyCommandError> {
        let key = self.keys.iter().find(|key| key.kid == kid).ok_or(KeyCommandError::Unknown(kid))?;
        match self.timeline().phase(key) {
            phase @ (Phase::Expired | Phase::Revoked) => Err(KeyCommandError::HasEnded(kid, phase)),
            Phase::Next | Phase::Current | Phase::Retiring => Ok(*key),
        }
    }

    fn add(
        &mut self,
        exp: Timestamp,
        signs: Activation,
        private: Option<(&'a PrivateKey, KeyProfile)>,
        reason: &'static str,
    ) {
        let profile = private.map_or(self.basis.spec.profile, |(_, profile)| profile);
        let key =
            KeyMetadata::created(self.next_kid, exp, signs, self.basis.context.wall).with_profile(profile);
        // One plan may create two keys: a first one that signs, and an expired one to test verifiers with.
        self.next_kid = Kid(self.next_kid.0.saturating_add(1));
        let what = match (signs, private) {
            (Activation::AfterLead, None) => "created, signs later",
            (Activation::AfterLead, Some(_)) => "imported, signs later",
            (Activation::Immediately, _) => "created, signs immediately",
            (Activation::Never, _) => "created as an expired key",
        };
        let before = self.timeline().current().map(|key| key.kid);
        self.keys.push(key);
        self.note(key, what, reason);
        self.entries.push(Entry::New(key, private.map(|(key, _)| key)));
        if signs == Activation::Immediately {
            self.note_retired(before);
        }
    }

    fn promote(&mut self, kid: Kid, reason: &'static str) {
        let at = self.basis.context.wall;
        let before = self.timeline().current().map(|key| key.kid);
        self.update(kid, "signs from now on", reason, |key| key.activated_at = Some(at));
        self.push(KeyChange::Promote { kid, at });
        self.note_retired(before);
    }

    /// Logs that the previous current key has stopped signing.
    fn note_retired(&mut self, before: Option<Kid>) {
        if let Some(kid) = before {
            self.update(kid, "retires", "another key signs now", |_| {});
        }
    }

    /// Changes what is recorded about a key, and what to log.
    fn update(
        &mut self,
        kid: Kid,
        what: &'static str,
        why: &'static str,
        change: impl FnOnce(&mut KeyMetadata),
    ) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.kid == kid) {
            change(key);
            let key = *key;
            self.note(key, what, why);
        }
    }

    fn note(&mut self, key: KeyMetadata, what: &'static str, why: &'static str) {
        let signs_from = self.basis.policy.signs_from(&key);
        self.log.push(Step { key, signs_from, what, why });
    }

    fn push(&mut self, change: KeyChange) {
        self.entries.push(Entry::Change(change));
    }
}

/// A step in the life of a key, to log once it is stored.
pub(super) struct Step {
    key: KeyMetadata,
    signs_from: Option<Timestamp>,
    what: &'static str,
    why: &'static str,
}

/// Maximum number of deletions that are logged one by one.
const LISTED_DELETIONS: usize = 10;

/// Logs steps that are stored. Many deletions, as after a shorter `KEY_RETENTION`, become one line.
pub(super) fn log_all(steps: Vec<Step>) {
    let is_deletion = |step: &Step| step.what == DELETED;
    let (deletions, mut others): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_deletion);
    if deletions.len() > LISTED_DELETIONS {
        let newest = deletions.iter().map(|step| step.key.kid).max().unwrap_or(Kid(0));
        tracing::info!(
            "deleted {} keys up to key {newest}, because their retention is over",
            deletions.len()
        );
    } else {
        others.extend(deletions);
    }
    others.into_iter().for_each(Step::log);
}

impl Step {
    /// Writes one line.
    fn log(self) {
        let Self { key: KeyMetadata { kid, created_at, exp, .. }, signs_from, what, why } = self;
        let from = signs_from.map_or_else(|| "never".to_owned(), |from| from.to_string());
        tracing::info!(%kid, created = %created_at, signs_from = from, %exp, "key {kid}: {what}, because {why}");
    }
}
