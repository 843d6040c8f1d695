//! External keys: public keys of other issuers, published next to our own. Their owners can issue tokens in our name.

use super::error::ExternalKeyError;
use super::inspect::open_external;
use super::master_key::APPLY_ATTEMPTS;
use super::state::{Keyring, Reloaded};
use crate::clock::Timestamp;
use crate::issuer::error::IssuerError;
use crate::key::Kid;
use crate::key::external_key::{EXTERNAL_KEYS_BYTES, EXTERNAL_KEYS_MAX, ExternalKey};
use crate::key::lifecycle::Phase;
use crate::key::seal::{SealContext, SealError};
use crate::key::status::KeyStatus;
use crate::store::{Applied, KeyChange, KeySnapshot, KnownKey, SealedExternalKey};
use jwksd_jose::algorithm::Algorithm;

/// A key as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// Its key ID.
    pub kid: String,
    /// Its algorithm.
    pub alg: Option<&'static str>,
    /// The phase of one of our own keys; nothing for an external key.
    pub phase: Option<Phase>,
    /// When its publication ends; nothing for an external key that is published until it is withdrawn.
    pub exp: Option<Timestamp>,
}

/// The result of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Keys that were added, or got another `exp`.
    pub added: Vec<String>,
    /// How many were left as they are: our own, and those that were already published.
    pub left: usize,
    /// How many keys are published now, our own and external ones.
    pub published: usize,
}

impl Keyring {
    /// Publishes all of these keys, or none of them. Keys of our own and keys that are already published are left as they
    /// are, except for another `exp`. Expired external keys are removed to make room.
    ///
    /// # Errors
    /// [`ExternalKeyError`] says which key cannot be published, and why.
    pub async fn upload(&self, uploads: Vec<ExternalKey>) -> Result<Uploaded, IssuerError> {
        self.record_all_thumbprints().await?;
        // Their kids as well: a key of ours may be published under such a thumbprint.
        let wanted = uploads.iter().flat_map(|key| [key.jwk().key().thumbprint(), key.kid().to_owned()]);
        let wanted: Vec<_> = wanted.collect();
        let mut added = Vec::new();
        self.change_external(&wanted, |stored, known, now| {
            let (changes, kids) = self.plan_upload(&uploads, stored, known, now)?;
            added = kids;
            Ok(changes)
        })
        .await?;
        let left = uploads.len().saturating_sub(added.len());
        Ok(Uploaded { added, left, published: self.published().len() })
    }

    /// Removes an external key. Returns how many keys are published then.
    ///
    /// # Errors
    /// [`ExternalKeyError::Unknown`] for a key that is missing, or one of our own.
    pub async fn withdraw(&self, kid: &str) -> Result<usize, IssuerError> {
        self.change_external(&[], |stored, _, _| {
            if stored.external.iter().any(|row| row.kid == kid) {
                Ok(vec![KeyChange::Withdraw { kid: kid.to_owned() }])
            } else {
                Err(ExternalKeyError::Unknown(kid.to_owned()))
            }
        })
        .await?;
        Ok(self.published().len())
    }

    /// Every key that is published now.
    #[must_use]
    pub fn published(&self) -> Vec<PublishedKey> {
        let is_published = |phase| matches!(phase, Phase::Next | Phase::Current | Phase::Retiring);
        let snapshot = self.snapshot.load();
        let is_published = |key: &KeyStatus| is_published(key.phase);
        let own = self.report().into_iter().filter(is_published).filter_map(|key| {
            let kid = snapshot.published_kid(key.kid)?.to_owned();
            let alg = key.profile.map(|profile| profile.algorithm.name());
            Some(PublishedKey { kid, alg, phase: Some(key.phase), exp: Some(key.exp) })
        });
        let external = self.external().into_iter().map(|key| PublishedKey {
            kid: key.kid().to_owned(),
            alg: key.jwk().algorithm().map(Algorithm::name),
            phase: None,
            exp: key.exp(),
        });
        own.chain(external).collect()
    }

    /// The changes for an upload, and the keys that they add or change.
    fn plan_upload(
        &self,
        uploads: &[ExternalKey],
        stored: &KeySnapshot,
        known: &[KnownKey],
        now: Timestamp,
    ) -> Result<(Vec<KeyChange>, Vec<String>), ExternalKeyError> {
        let (live, expired): (Vec<_>, Vec<_>) =
            stored.external.iter().partition(|row| row.exp.is_none_or(|exp| exp > now));
        let mut changes: Vec<_> =
            expired.iter().map(|row| KeyChange::Withdraw { kid: row.kid.clone() }).collect();
        // A row that does not open is not published, so it takes no room.
        let opened = live.iter().filter_map(|row| open_external(row, &self.master_key().sealer));
        let mut kept: Vec<ExternalKey> = opened.collect();
        let mut added = Vec::new();
        for upload in uploads {
            if is_wanted(upload, known, &live, &mut kept, now)? {
                changes.push(self.publish(upload, now)?);
                added.push(upload.kid().to_owned());
            }
        }
        expect_room(&kept)?;
        Ok((changes, added))
    }

    fn publish(&self, key: &ExternalKey, now: Timestamp) -> Result<KeyChange, ExternalKeyError> {
        let jwk = serde_json::to_vec(key.jwk()).map_err(|_| SealError::Overlong)?;
        let context = SealContext::External(key.kid(), key.exp());
        let sealed = self.context.rng.with(|rng| self.master_key().sealer.seal(context, &jwk, rng))?;
        let (kid, exp) = (key.kid().to_owned(), key.exp());
        Ok(KeyChange::Publish(SealedExternalKey { kid, exp, added_at: now, sealed }))
    }

    /// Stores what `decide` makes of the stored keys, and of what the store knows about the keys with the thumbprints
    /// `wanted`. Decides again if the keys have changed meanwhile.
    async fn change_external(
        &self,
        wanted: &[String],
        mut decide: impl FnMut(&KeySnapshot, &[KnownKey], Timestamp) -> Result<Vec<KeyChange>, ExternalKeyError>,
    ) -> Result<(), IssuerError> {
        for _ in 0..APPLY_ATTEMPTS {
            let stored = self.stored_keys(&self.usable_rows()).await?;
            // After the snapshot: a key that is added between the two gives the store another version.
            let known = self.known_keys(&stored, wanted).await?;
            let changes = decide(&stored, &known, self.context.clock.now())?;
            if changes.is_empty() {
                return Ok(());
            }
            if self.context.store.apply(stored.version, changes).await? == Applied::Yes {
                return match self.reload().await? {
                    Reloaded::Swapped => Ok(()),
                    Reloaded::Kept(error) => Err(IssuerError::NotPublished(error)),
                };
            }
        }
        Err(IssuerError::Contention)
    }
}

/// Whether a key must be stored. If so, it is then one of those that are kept.
fn is_wanted(
    upload: &ExternalKey,
    known: &[KnownKey],
    live: &[&SealedExternalKey],
    kept: &mut Vec<ExternalKey>,
    now: Timestamp,
) -> Result<bool, ExternalKeyError> {
    let kid = upload.kid();
    // Under another name, one of our own keys would outlive its own expiry.
    let thumbprint = upload.jwk().key().thumbprint();
    let same: Vec<_> = known.iter().filter(|known| known.thumbprint == thumbprint).collect();
    let ours: Vec<_> = same.iter().filter_map(|known| Some((known, known.kid?))).collect();
    let is_published_kid = |known: &KnownKey, ours: Kid| {
        if known.has_thumbprint_as_kid { known.thumbprint == kid } else { ours.to_string() == kid }
    };
    if ours.iter().any(|(known, ours)| is_published_kid(known, *ours)) {
        return Ok(false);
    }
    if let Some((_, ours)) = ours.first() {
        return Err(ExternalKeyError::Ours(kid.to_owned(), *ours));
    }
    if !same.is_empty() {
        return Err(ExternalKeyError::Revoked(kid.to_owned()));
    }
    // A later key of ours could get this `kid`. Keys of one set should have distinct ones (RFC 7517 §4.5).
    let is_kid_of_ours = known.iter().any(|known| known.kid.is_some() && known.thumbprint == kid);
    if is_kid_of_ours {
        return Err(ExternalKeyError::ThumbprintOfOurs(kid.to_owned()));
    }
    if upload.has_kid_like_ours() {
        return Err(ExternalKeyError::NotOurs(kid.to_owned()));
    }
    if upload.exp().is_some_and(|exp| exp <= now) {
        return Err(ExternalKeyError::Expired(kid.to_owned()));
    }
    if live.iter().any(|row| row.kid == kid) {
        let present = kept.iter().position(|present| present.kid() == kid && present.jwk() == upload.jwk());
        let Some(present) = present.and_then(|index| kept.get_mut(index)) else {
            // Replacing it would invalidate the tokens that the present key has signed.
            return Err(ExternalKeyError::Taken(kid.to_owned()));
        };
        // A set that was fetched from an issuer does not say when its keys end: that changes nothing.
        let has_new_exp = upload.exp().is_some() && upload.exp() != present.exp();
        if has_new_exp {
            present.clone_from(upload);
        }
        return Ok(has_new_exp);
    }
    // Under a second name, it would stay published after the first one was withdrawn.
    if let Some(same) = kept.iter().find(|present| present.jwk().key() == upload.jwk().key()) {
        return Err(ExternalKeyError::SameKey(kid.to_owned(), same.kid().to_owned()));
    }
    kept.push(upload.clone());
    Ok(true)
}

/// Verifiers read the whole set, and some limit its size.
fn expect_room(kept: &[ExternalKey]) -> Result<(), ExternalKeyError> {
    let bytes: usize = kept.iter().map(|key| serde_json::to_vec(key.jwk()).map_or(0, |jwk| jwk.len())).sum();
    if kept.len() > EXTERNAL_KEYS_MAX || bytes > EXTERNAL_KEYS_BYTES {
        Err(ExternalKeyError::NoRoom)
    } else {
        Ok(())
    }
}
