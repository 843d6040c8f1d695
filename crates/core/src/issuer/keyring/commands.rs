//! What an operator can do to the keys.

use std::collections::HashMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::KeyCommandError;
use super::inspect::{open_private_key, open_signing_key};
use super::rotation::Intent;
use super::state::Keyring;
use crate::issuer::error::IssuerError;
use crate::key::lifecycle::Phase;
use crate::key::status::KeyStatus;
use crate::key::{Kid, SigningKey};
use crate::store::{SealedKey, SealedRows};
use jwksd_jose::pem;
use jwksd_jose::private_key::PrivateKey;

impl Keyring {
    /// The key of this number, or the one with this published `kid` or thumbprint.
    ///
    /// # Errors
    /// [`KeyCommandError::UnknownName`] when there is no such thumbprint. Whether there is a key of this number is not checked.
    pub async fn find(&self, name: &str) -> Result<Kid, IssuerError> {
        if let Ok(number) = name.parse() {
            return Ok(Kid(number));
        }
        self.record_all_thumbprints().await?;
        let known = self.context.store.known_keys(&[name.to_owned()]).await?;
        let kid = known.into_iter().find_map(|known| known.kid);
        Ok(kid.ok_or_else(|| KeyCommandError::UnknownName(name.to_owned()))?)
    }

    /// The keys that are published under their thumbprints, by their numbers.
    ///
    /// # Errors
    /// [`IssuerError::Store`] when the store fails.
    pub async fn thumbprint_kids(&self) -> Result<HashMap<Kid, String>, IssuerError> {
        let mut kids: HashMap<_, _> = self.context.store.thumbprint_kids().await?.into_iter().collect();
        // Those of keys that were just added may not be recorded yet.
        kids.extend(self.snapshot.load().thumbprint_kids());
        Ok(kids)
    }

    /// Creates the next key now. With `at_once` it signs immediately; if there is a next key of the kind
    /// that is created, that one does.
    ///
    /// # Errors
    /// [`KeyCommandError::NextExists`] when there is a next key of the kind that is created, and `at_once` is false.
    pub async fn rotate(&self, at_once: bool) -> Result<(), IssuerError> {
        self.change(&Intent::Rotate { at_once }).await
    }

    /// Takes a key out of the JWKS and out of signing, now and permanently. If it was the current key, another one takes
    /// over in the same step.
    ///
    /// # Errors
    /// [`KeyCommandError::Unknown`], [`KeyCommandError::HasEnded`].
    pub async fn revoke(&self, kid: Kid) -> Result<(), IssuerError> {
        self.explain_unknown(kid, self.change(&Intent::Revoke(kid)).await).await
    }

    /// Lets a key expire now. Its row is sealed again with the new `exp`.
    ///
    /// # Errors
    /// As [`Keyring::revoke`].
    pub async fn expire(&self, kid: Kid) -> Result<(), IssuerError> {
        self.explain_unknown(kid, self.change(&Intent::Expire(kid)).await).await
    }

    /// A change reads only keys that are in use. Whether another one has ended is looked up when it is asked for.
    async fn explain_unknown(&self, kid: Kid, changed: Result<(), IssuerError>) -> Result<(), IssuerError> {
        if !matches!(changed, Err(IssuerError::KeyCommand(KeyCommandError::Unknown(_)))) {
            return changed;
        }
        let stored = self.stored_keys(&SealedRows::One(kid)).await?;
        match stored.keys.first() {
            Some(key) if key.revoked_at.is_some() => {
                Err(KeyCommandError::HasEnded(kid, Phase::Revoked).into())
            }
            Some(key) if key.expired_at.is_some() => {
                Err(KeyCommandError::HasEnded(kid, Phase::Expired).into())
            }
            _ => changed,
        }
    }

    /// Adds a private key from elsewhere as a next key.
    ///
    /// # Errors
    /// [`KeyCommandError::IsHere`] when the store has it already, [`KeyCommandError::IsExternal`] when it is an external key,
    /// [`KeyCommandError::WasRevoked`].
    pub async fn import(&self, key: &PrivateKey) -> Result<(), IssuerError> {
        self.record_all_thumbprints().await?;
        self.change(&Intent::Import(key)).await
    }

    /// The private key in PEM: PKCS#1 for RSA, PKCS#8 for all others.
    ///
    /// # Errors
    /// [`KeyCommandError::Unknown`] for a key that is missing or does not open.
    pub async fn export(&self, kid: Kid) -> Result<Zeroizing<String>, IssuerError> {
        let row = self.sealed_row(kid).await?;
        let key = row.and_then(|row| open_private_key(&row, &self.master_key().sealer).ok());
        let key = key.ok_or(KeyCommandError::Unknown(kid))?;
        Ok(pem::to_stored_pem(&key).map_err(crate::key::KeyError::from)?)
    }

    /// The newest revoked key, ready to sign tokens that verifiers must refuse.
    pub(in crate::issuer) async fn revoked_signer(&self) -> Result<Option<Arc<SigningKey>>, IssuerError> {
        let revoked = self.report().into_iter().rfind(|key| key.phase == Phase::Revoked);
        let Some(KeyStatus { kid, .. }) = revoked else {
            return Ok(None);
        };
        // From the store, because a snapshot does not keep the private keys of revoked ones.
        let stored = self.stored_keys(&SealedRows::One(kid)).await?;
        let row = stored.sealed.first();
        let key = row.and_then(|row| open_signing_key(row, &stored.keys, &self.master_key().sealer).ok());
        Ok(key.map(Arc::new))
    }

    async fn sealed_row(&self, kid: Kid) -> Result<Option<SealedKey>, IssuerError> {
        Ok(self.stored_keys(&SealedRows::One(kid)).await?.sealed.into_iter().next())
    }
}
