//! One key under one name: the thumbprints (RFC 7638) of our own keys, with which imported and external keys are compared.

use std::sync::atomic::Ordering;

use super::inspect::{open_external, open_private_key};
use super::rotation::Intent;
use super::state::Keyring;
use crate::issuer::error::IssuerError;
use crate::key::seal::Sealer;
use crate::store::{Applied, KeyChange, KeySnapshot, KnownKey, SealedKey, SealedRows};

/// Maximum number of thumbprints to record in one step. Opening that many keys takes about 0.1 s, on a thread of its own.
const BATCH: u32 = 256;

impl Keyring {
    /// Records thumbprints of keys from before they were recorded, as many as a tick has time for.
    pub(super) async fn record_some_thumbprints(&self) -> Result<(), IssuerError> {
        if !self.lacks_thumbprints.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stored = self.stored_keys(&SealedRows::WithoutThumbprint { at_most: BATCH }).await?;
        let (version, is_last) = (stored.version, stored.sealed.len() < usize::try_from(BATCH).unwrap_or(0));
        let sealer = self.master_key().sealer.clone();
        let changes = self.pool.run(move || thumbprints(&stored.sealed, &sealer)).await?;
        if !changes.is_empty() {
            // After a conflict, the next call tries again.
            let applied = self.context.store.apply(version, changes).await?;
            if applied == Applied::Conflict {
                return Ok(());
            }
        }
        self.lacks_thumbprints.store(!is_last, Ordering::Relaxed);
        Ok(())
    }

    /// Records all of them, before keys are compared.
    pub(super) async fn record_all_thumbprints(&self) -> Result<(), IssuerError> {
        while self.lacks_thumbprints.load(Ordering::Relaxed) {
            self.record_some_thumbprints().await?;
        }
        Ok(())
    }

    /// What the store knows about these keys: our own ones, and those that were revoked.
    pub(super) async fn known_keys(
        &self,
        stored: &KeySnapshot,
        wanted: &[String],
    ) -> Result<Vec<KnownKey>, IssuerError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = self.context.store.known_keys(wanted).await?;
        // A row that another program sealed under our master key has no thumbprint before it is adopted.
        let unmanaged = stored.unmanaged.iter().filter_map(|row| {
            let thumbprint = thumbprint(row, &self.master_key().sealer)?;
            wanted.contains(&thumbprint).then_some(KnownKey {
                thumbprint,
                kid: Some(row.kid),
                has_thumbprint_as_kid: false,
                is_revoked: false,
            })
        });
        known.extend(unmanaged);
        Ok(known)
    }

    /// The thumbprints that a change depends on: that of an imported key, and those of rows to adopt.
    pub(super) fn wanted_by(&self, intent: &Intent<'_>, stored: &KeySnapshot) -> Vec<String> {
        let imported = match intent {
            Intent::Import(key) => Some(key.public().thumbprint()),
            _ => None,
        };
        let adopted = stored.unmanaged.iter().filter_map(|row| thumbprint(row, &self.master_key().sealer));
        imported.into_iter().chain(adopted).collect()
    }

    /// The external keys that are keys of our own as well, or were until they were revoked, by their `kid`.
    pub(super) async fn twins(&self, stored: &KeySnapshot) -> Result<Vec<String>, IssuerError> {
        let external: Vec<_> = stored
            .external
            .iter()
            .filter_map(|row| {
                let key = open_external(row, &self.master_key().sealer)?;
                Some((key.jwk().key().thumbprint(), row.kid.clone()))
            })
            .collect();
        let wanted: Vec<_> = external.iter().map(|(thumbprint, _)| thumbprint.clone()).collect();
        let known = self.known_keys(stored, &wanted).await?;
        let is_known = |thumbprint: &String| known.iter().any(|key| key.thumbprint == *thumbprint);
        Ok(external.into_iter().filter(|(thumbprint, _)| is_known(thumbprint)).map(|(_, kid)| kid).collect())
    }
}

fn thumbprints(rows: &[SealedKey], sealer: &Sealer) -> Vec<KeyChange> {
    rows.iter()
        .map(|row| KeyChange::RecordThumbprint {
            kid: row.kid,
            // Empty for a row that does not open: recorded as well, so that it is not tried in each tick.
            thumbprint: thumbprint(row, sealer).unwrap_or_default(),
        })
        .collect()
}

fn thumbprint(row: &SealedKey, sealer: &Sealer) -> Option<String> {
    Some(open_private_key(row, sealer).ok()?.public().thumbprint())
}
