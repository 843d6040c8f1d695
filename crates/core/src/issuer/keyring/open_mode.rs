//! The keys that sign in open mode, where anyone gets a token: they are remembered, and revoked when that mode ends.

use std::sync::atomic::Ordering;

use super::rotation::Intent;
use super::state::Keyring;
use crate::issuer::error::IssuerError;
use crate::key::Kid;

impl Keyring {
    /// Remembers that a key signs in open mode. Returns before the first token of the key may leave.
    pub(in crate::issuer) async fn record_open_mode_key(&self, kid: Kid) -> Result<(), IssuerError> {
        // One load for each token. The store is written once for each key.
        if self.open_mode_key.load(Ordering::Relaxed) != kid.0 {
            self.context.store.record_open_mode_key(kid).await?;
            self.open_mode_key.store(kid.0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Revokes the keys that have signed in open mode. For the start of a server that checks passwords: the tokens that
    /// anyone could get must not pass as those of an account.
    ///
    /// # Errors
    /// [`IssuerError`] when the store or the generation of a key fails.
    pub async fn revoke_open_mode_keys(&self) -> Result<(), IssuerError> {
        if !self.snapshot.load().has_open_mode_keys() {
            return Ok(());
        }
        tracing::warn!(
            "the store was served in open mode, where anyone gets a token: the keys that signed there are revoked, and their \
             tokens no longer verify"
        );
        self.change(&Intent::RevokeOpenMode).await
    }
}
