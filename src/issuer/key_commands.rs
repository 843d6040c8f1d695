//! What an operator may do to the keys by hand.

use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use super::rotation::Intent;
use super::snapshot::open_private_key;
use super::{IssuerError, Keyring};
use crate::domain::clock::Timestamp;
use crate::domain::jose::pem;
use crate::domain::jose::private_key::PrivateKey;
use crate::domain::key::lifecycle::Phase;
use crate::domain::key::status::KeyStatus;
use crate::domain::key::{KeyError, Kid, SigningKey};

impl Keyring {
    /// Makes the next key now. With `at_once` it signs now, or the next key that is there already does.
    ///
    /// # Errors
    /// [`KeyCommandError::NextExists`] when there is a next key already, and it is not to sign at once.
    pub async fn rotate(&self, at_once: bool) -> Result<(), IssuerError> {
        self.change(&Intent::Rotate { at_once }).await
    }

    /// Takes a key out of the JWKS and out of signing, now and for good. If it was the one that signs, another takes
    /// over in the same step.
    ///
    /// # Errors
    /// [`KeyCommandError::Unknown`], [`KeyCommandError::HasEnded`].
    pub async fn revoke(&self, kid: Kid) -> Result<(), IssuerError> {
        self.change(&Intent::Revoke(kid)).await
    }

    /// Ends the life of a key now: its row is sealed again with its new `exp`.
    ///
    /// # Errors
    /// As [`Keyring::revoke`].
    pub async fn expire(&self, kid: Kid) -> Result<(), IssuerError> {
        self.change(&Intent::Expire(kid)).await
    }

    /// Takes in a key of elsewhere, as a next key.
    ///
    /// # Errors
    /// [`KeyCommandError::IsHere`] when the store has it.
    pub async fn import(&self, key: &PrivateKey) -> Result<(), IssuerError> {
        self.change(&Intent::Import(key)).await
    }

    /// The private key as PKCS#1 PEM.
    ///
    /// # Errors
    /// [`KeyCommandError::Unknown`] for a key that is not there or does not open.
    pub async fn export(&self, kid: Kid) -> Result<Zeroizing<String>, IssuerError> {
        let (_, key) = self.private_key(kid).await?.ok_or(KeyCommandError::Unknown(kid))?;
        Ok(pem::to_pkcs1_pem(&key).map_err(KeyError::from)?)
    }

    /// The newest key that was revoked, made ready to sign what no verifier should take.
    pub(super) async fn revoked_signer(&self) -> Result<Option<Arc<SigningKey>>, IssuerError> {
        let revoked = self.report().into_iter().rfind(|key| key.phase == Phase::Revoked);
        let Some(KeyStatus { kid, .. }) = revoked else {
            return Ok(None);
        };
        match self.private_key(kid).await? {
            Some((exp, key)) => {
                let algorithm = key.public().key_type().default_algorithm();
                Ok(Some(Arc::new(SigningKey::new(kid, exp, key, algorithm)?)))
            }
            None => Ok(None),
        }
    }

    /// A key with its expiry; nothing if it is not there or does not open.
    async fn private_key(&self, kid: Kid) -> Result<Option<(Timestamp, PrivateKey)>, IssuerError> {
        let picture = self.picture(&move |_| vec![kid]).await?;
        let row = picture.sealed.first();
        Ok(row.and_then(|row| Some((row.exp, open_private_key(row, &self.master_key.sealer).ok()?))))
    }
}

/// Why something cannot be done to these keys.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyCommandError {
    /// It could not be sealed.
    #[error("key {0} cannot be sealed")]
    CannotSeal(Kid),
    /// The key has come to its end before.
    #[error("key {0} has {end} already", end = match .1 { Phase::Revoked => "been revoked", _ => "expired" })]
    HasEnded(Kid, Phase),
    /// The store has this key.
    #[error("this key is here already, as key {kid}{end}", end = if *.is_revoked { ", which was revoked" } else { "" })]
    IsHere {
        /// As which.
        kid: Kid,
        /// Whether it was revoked.
        is_revoked: bool,
    },
    /// There is a key that is to sign next.
    #[error(
        "key {0} is the next key already; `keys list` says from when it signs, and `keys rotate --now` lets it now"
    )]
    NextExists(Kid),
    /// There is no such key, or it does not open.
    #[error("there is no key {0} that can be used")]
    Unknown(Kid),
}
