//! Public keys of others, published beside our own: whoever holds the private half can make tokens in our name.

use thiserror::Error;

use super::rotation::all;
use super::{IssuerError, Keyring};
use crate::domain::clock::Timestamp;
use crate::domain::jose::external_key::{EXTERNAL_KEYS_BYTES, EXTERNAL_KEYS_MAX, ExternalKey};
use crate::domain::jose::jwk::Jwk;
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::Phase;
use crate::domain::key::seal::{SealContext, SealError};
use crate::store::{KeyChange, KeySnapshot, Refusal, StoreError, UploadedKey};

/// A key as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// What tokens call it.
    pub kid: String,
    /// Its phase, of a key of ours; nothing for one of others.
    pub phase: Option<Phase>,
    /// Until when it is published; until it is withdrawn, if nothing is said.
    pub exp: Option<Timestamp>,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// What was added, or has another `exp` now.
    pub added: Vec<String>,
    /// How many were left as they are: ours, and those that were published already.
    pub left: usize,
    /// How many keys are published now, ours and those of others.
    pub published: usize,
}

impl Keyring {
    /// Publishes these keys, or if one cannot be, none. Keys of ours among them, and keys that are published already, are
    /// left as they are, but for another `exp`. What has expired makes room.
    ///
    /// # Errors
    /// [`ExternalKeyError`] says which cannot be published, and why.
    pub async fn upload(&self, uploads: Vec<ExternalKey>) -> Result<Uploaded, IssuerError> {
        let mut added = Vec::new();
        self.change_uploaded(|picture, now| {
            let own = self.own_keys(picture);
            let (live, over): (Vec<_>, Vec<_>) =
                picture.uploaded.iter().partition(|row| row.exp.is_none_or(|exp| exp > now));
            let mut changes: Vec<_> =
                over.iter().map(|row| KeyChange::Withdraw { kid: row.kid.clone() }).collect();
            let mut kept: Vec<ExternalKey> = live.iter().filter_map(|row| self.opened(row)).collect();
            added.clear();
            for upload in &uploads {
                if Self::is_wanted(upload, &own, &live, &mut kept, now)? {
                    changes.push(self.publication_of(upload, now)?);
                    added.push(upload.kid().to_owned());
                }
            }
            expect_room(&kept)?;
            Ok(changes)
        })
        .await?;
        let left = uploads.len().saturating_sub(added.len());
        Ok(Uploaded { added, left, published: self.published().len() })
    }

    /// Whether a key is to be written. Then it is among those that are kept.
    fn is_wanted(
        upload: &ExternalKey,
        own: &[(Kid, Jwk)],
        live: &[&UploadedKey],
        kept: &mut Vec<ExternalKey>,
        now: Timestamp,
    ) -> Result<bool, ExternalKeyError> {
        let kid = upload.kid();
        // Under another name, a key of ours would outlive its own end.
        if let Some((ours, _)) = own.iter().find(|(_, jwk)| jwk.key() == upload.jwk().key()) {
            return if ours.to_string() == kid {
                Ok(false)
            } else {
                Err(ExternalKeyError::Ours(kid.to_owned(), *ours))
            };
        }
        if upload.has_kid_like_ours() {
            return Err(ExternalKeyError::NotOurs(kid.to_owned()));
        }
        if upload.exp().is_some_and(|exp| exp <= now) {
            return Err(ExternalKeyError::Expired(kid.to_owned()));
        }
        if live.iter().any(|row| row.kid == kid) {
            let present =
                kept.iter().position(|present| present.kid() == kid && present.jwk() == upload.jwk());
            let Some(present) = present.and_then(|index| kept.get_mut(index)) else {
                return Err(ExternalKeyError::Taken(kid.to_owned()));
            };
            // A set that was fetched does not say when its keys end.
            let changes = upload.exp().is_some() && upload.exp() != present.exp();
            if changes {
                present.clone_from(upload);
            }
            return Ok(changes);
        }
        kept.push(upload.clone());
        Ok(true)
    }

    /// Takes back a key of others. Returns how many keys are published then.
    ///
    /// # Errors
    /// [`ExternalKeyError::Unknown`] for a key that is not there, or is ours.
    pub async fn withdraw(&self, kid: &str) -> Result<usize, IssuerError> {
        self.change_uploaded(|picture, _| {
            if picture.uploaded.iter().any(|row| row.kid == kid) {
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
        let own = self.report().into_iter().filter(|key| is_published(key.phase)).map(|key| PublishedKey {
            kid: key.kid.to_string(),
            phase: Some(key.phase),
            exp: Some(key.exp),
        });
        let others = self.uploaded().into_iter().map(|key| PublishedKey {
            kid: key.kid().to_owned(),
            phase: None,
            exp: key.exp(),
        });
        own.chain(others).collect()
    }

    /// The public halves of every key of ours that is kept, whatever its phase.
    fn own_keys(&self, picture: &KeySnapshot) -> Vec<(Kid, Jwk)> {
        let rows = picture.sealed.iter().chain(&picture.unmanaged);
        rows.filter_map(|row| {
            let key = super::snapshot::open_key(row, &self.master_key.sealer).ok()?;
            Some((row.kid, key.jwk().clone()))
        })
        .collect()
    }

    fn publication_of(&self, upload: &ExternalKey, now: Timestamp) -> Result<KeyChange, ExternalKeyError> {
        let jwk = serde_json::to_vec(upload.jwk()).map_err(|_| SealError::Overlong)?;
        let context = SealContext::Uploaded(upload.kid(), upload.exp());
        let sealed = self.context.rng.with(|rng| self.master_key.sealer.seal(context, &jwk, rng))?;
        Ok(KeyChange::Publish(UploadedKey {
            kid: upload.kid().to_owned(),
            exp: upload.exp(),
            uploaded_at: now,
            sealed,
        }))
    }

    fn opened(&self, row: &UploadedKey) -> Option<ExternalKey> {
        super::snapshot::open_uploaded(row, &self.master_key.sealer)
    }

    async fn change_uploaded(
        &self,
        mut decide: impl FnMut(&KeySnapshot, Timestamp) -> Result<Vec<KeyChange>, ExternalKeyError> + Send,
    ) -> Result<(), IssuerError> {
        let mut refused = None;
        let mut decided = |picture: &KeySnapshot| {
            decide(picture, self.context.clock.now()).map_err(|why| {
                refused = Some(why);
                Refusal
            })
        };
        let changed = self.context.store.change_keys(&self.master_key.record, &all, &mut decided).await;
        match (changed, refused) {
            (Err(StoreError::Refused), Some(why)) => Err(why.into()),
            (Err(error), _) => Err(self.taken(error)),
            (Ok(()), _) => self.reload().await,
        }
    }
}

/// Verifiers read the whole set, and some take no long one.
fn expect_room(kept: &[ExternalKey]) -> Result<(), ExternalKeyError> {
    let bytes: usize =
        kept.iter().map(|upload| serde_json::to_vec(upload.jwk()).map_or(0, |jwk| jwk.len())).sum();
    if kept.len() > EXTERNAL_KEYS_MAX || bytes > EXTERNAL_KEYS_BYTES {
        Err(ExternalKeyError::NoRoom)
    } else {
        Ok(())
    }
}

/// Why a key of others is not published, or not taken back.
#[derive(Debug, Error)]
pub enum ExternalKeyError {
    /// It would be published no more.
    #[error("the key {0:?} has expired")]
    Expired(String),
    /// There would be too many, or too long ones.
    #[error("there may be {EXTERNAL_KEYS_MAX} uploaded keys, of {} KiB together: withdraw some first", EXTERNAL_KEYS_BYTES / 1024)]
    NoRoom,
    /// It is named as ours are, and is none.
    #[error("the kid {0:?} has digits alone, as those of our own keys, and is none of those")]
    NotOurs(String),
    /// It is one of ours, under another name.
    #[error("the key {0:?} is our own key {1}")]
    Ours(String, Kid),
    /// It cannot be sealed.
    #[error("the key cannot be sealed")]
    Seal(#[from] SealError),
    /// Another key has that name.
    #[error("another key has the kid {0:?}: withdraw that first")]
    Taken(String),
    /// There is none of that name.
    #[error("no key was uploaded as {0:?}")]
    Unknown(String),
}
