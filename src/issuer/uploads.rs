//! Public keys of others, published beside our own: whoever holds the private half can make tokens in our name.

use thiserror::Error;

use super::{IssuerError, Keyring};
use crate::domain::clock::Timestamp;
use crate::domain::jose::jwk::PublicJwk;
use crate::domain::jose::upload::{UPLOADED_MAX, Upload};
use crate::domain::key::lifecycle::Phase;
use crate::domain::key::seal::{Place, SealError};
use crate::store::{KeyChange, KeyPicture, Refusal, StoreError, UploadedKey};

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

impl Keyring {
    /// Publishes these keys, or if one cannot be, none. Keys of ours among them, and keys that are published already, are
    /// left as they are; another `exp` replaces the one that was. Returns how many keys are published then.
    ///
    /// # Errors
    /// [`UploadError`] says which cannot be published, and why.
    pub async fn upload(&self, uploads: Vec<Upload>) -> Result<usize, IssuerError> {
        let uploads = self.of_others(uploads)?;
        self.change_uploaded(|picture, now| {
            let mut changes = Vec::new();
            for upload in &uploads {
                if let Some(present) = picture.uploaded.iter().find(|row| row.kid == upload.kid()) {
                    let is_same = self.opened(present).is_some_and(|present| present.jwk() == upload.jwk());
                    match is_same {
                        true if present.exp == upload.exp() => continue,
                        true => {}
                        false => return Err(UploadError::Taken(upload.kid().to_owned())),
                    }
                }
                changes.push(self.publication_of(upload, now)?);
            }
            let known = |change: &&KeyChange| match change {
                KeyChange::Publish(row) => !picture.uploaded.iter().any(|present| present.kid == row.kid),
                _ => false,
            };
            if picture.uploaded.len() + changes.iter().filter(known).count() > UPLOADED_MAX {
                return Err(UploadError::TooMany);
            }
            Ok(changes)
        })
        .await?;
        Ok(self.published().len())
    }

    /// Takes back a key of others. Returns how many keys are published then.
    ///
    /// # Errors
    /// [`UploadError::Unknown`] for a key that is not there, or is ours.
    pub async fn withdraw(&self, kid: &str) -> Result<usize, IssuerError> {
        self.change_uploaded(|picture, _| {
            if picture.uploaded.iter().any(|row| row.kid == kid) {
                Ok(vec![KeyChange::Withdraw { kid: kid.to_owned() }])
            } else {
                Err(UploadError::Unknown(kid.to_owned()))
            }
        })
        .await?;
        Ok(self.published().len())
    }

    /// Every key that is published now.
    #[must_use]
    pub fn published(&self) -> Vec<PublishedKey> {
        let now = self.premises.clock.now();
        let is_published = |phase| matches!(phase, Phase::Next | Phase::Current | Phase::Retiring);
        let own = self.report().into_iter().filter(|key| is_published(key.phase)).map(|key| PublishedKey {
            kid: key.kid.to_string(),
            phase: Some(key.phase),
            exp: Some(key.exp),
        });
        let uploaded = self.uploaded();
        let others = uploaded
            .iter()
            .filter(|key| key.exp().is_none_or(|exp| exp > now))
            .map(|key| PublishedKey { kid: key.kid().to_owned(), phase: None, exp: key.exp() });
        own.chain(others).collect()
    }

    /// Leaves out our own. A name of digits alone is ours, or nobody's.
    fn of_others(&self, uploads: Vec<Upload>) -> Result<Vec<Upload>, UploadError> {
        let now = self.premises.clock.now();
        let own: Vec<PublicJwk> = self.own_jwks();
        let mut others = Vec::new();
        for upload in uploads {
            if upload.is_named_like_ours() {
                let is_ours =
                    |jwk: &PublicJwk| jwk.kid() == Some(upload.kid()) && jwk.key() == upload.jwk().key();
                if !own.iter().any(is_ours) {
                    return Err(UploadError::NotOurs(upload.kid().to_owned()));
                }
            } else if upload.exp().is_some_and(|exp| exp <= now) {
                return Err(UploadError::Expired(upload.kid().to_owned()));
            } else {
                others.push(upload);
            }
        }
        Ok(others)
    }

    fn publication_of(&self, upload: &Upload, now: Timestamp) -> Result<KeyChange, UploadError> {
        let jwk = serde_json::to_vec(upload.jwk()).map_err(|_| SealError::Overlong)?;
        let place = Place::Uploaded(upload.kid(), upload.exp());
        let sealed = self.premises.randomness.with(|rng| self.master_key.sealer.seal(place, &jwk, rng))?;
        Ok(KeyChange::Publish(UploadedKey {
            kid: upload.kid().to_owned(),
            exp: upload.exp(),
            uploaded_at: now,
            sealed,
        }))
    }

    fn opened(&self, row: &UploadedKey) -> Option<Upload> {
        super::ring::open_uploaded(row, &self.master_key.sealer)
    }

    async fn change_uploaded(
        &self,
        decide: impl Fn(&KeyPicture, Timestamp) -> Result<Vec<KeyChange>, UploadError> + Send + Sync,
    ) -> Result<(), IssuerError> {
        let mut refused = None;
        let mut decided = |picture: &KeyPicture| {
            decide(picture, self.premises.clock.now()).map_err(|why| {
                refused = Some(why);
                Refusal
            })
        };
        let changed =
            self.premises.store.change_keys(&self.master_key.record, &|_| Vec::new(), &mut decided).await;
        match (changed, refused) {
            (Err(StoreError::Refused), Some(why)) => Err(why.into()),
            (Err(error), _) => Err(self.taken(error)),
            (Ok(()), _) => self.reload().await,
        }
    }
}

/// Why a key of others is not published, or not taken back.
#[derive(Debug, Error)]
pub enum UploadError {
    /// It would be published no more.
    #[error("the key {0:?} has expired")]
    Expired(String),
    /// It is named as ours are, and is none.
    #[error(
        "the kid {0:?} has digits alone, as those of our own keys, and is none of those that are published"
    )]
    NotOurs(String),
    /// It cannot be sealed.
    #[error("the key cannot be sealed")]
    Seal(#[from] SealError),
    /// Another key has that name.
    #[error("another key has the kid {0:?}: withdraw that first")]
    Taken(String),
    /// There would be too many.
    #[error("there may be {UPLOADED_MAX} uploaded keys: withdraw some first")]
    TooMany,
    /// There is none of that name.
    #[error("no key was uploaded as {0:?}")]
    Unknown(String),
}
