//! From `NOT_MY_KEY` to a store that is sealed under it: unlocking one, founding one, taking one over.

use rand::Rng as _;
use thiserror::Error;

use super::{Context, WorkError};
use crate::domain::clock::Timestamp;
use crate::domain::jose::pem;
use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::key::seal::{KdfError, MasterSecret, SALT_LEN, SealContext, SealError, Sealer};
use crate::store::{KeyChange, MasterKeyRecord, SealedKey, StoreError};

/// A master key that fits its store.
#[derive(Clone, Debug)]
pub struct MasterKey {
    pub(super) sealer: Sealer,
    pub(super) record: MasterKeyRecord,
}

/// Makes the master key of a store that has this record.
///
/// # Errors
/// [`MasterKeyError::WrongMasterKey`] when the store is sealed under another one.
pub fn unlock(secret: &MasterSecret, record: MasterKeyRecord) -> Result<MasterKey, MasterKeyError> {
    let sealer = secret.sealer(&record.salt)?;
    if sealer.matches(&record.check_value) {
        Ok(MasterKey { sealer, record })
    } else {
        Err(MasterKeyError::WrongMasterKey)
    }
}

/// Gives a store a master key, or unlocks it if another process has just done so.
///
/// Plaintext PKCS#1 PEM keys of another program are sealed in place.
///
/// # Errors
/// As [`unlock`], and whatever the store says.
pub async fn initialize(secret: &MasterSecret, context: &Context) -> Result<MasterKey, MasterKeyError> {
    let mut salt = [0; SALT_LEN];
    context.rng.with(|rng| rng.fill_bytes(&mut salt));
    let stretching = secret.clone();
    let sealer = context.pool.run(move || stretching.sealer(&salt)).await??;
    let record =
        MasterKeyRecord { number: 1, salt, check_value: context.rng.with(|rng| sealer.check_value(rng))? };

    let now = context.clock.now();
    let present = context
        .store
        .initialize(record.clone(), &mut |picture| {
            Ok(picture.unmanaged.iter().filter_map(|row| adopt(row, &sealer, now, context)).collect())
        })
        .await?;
    if present == record { Ok(MasterKey { sealer, record }) } else { unlock(secret, present) }
}

/// Seals a plaintext key of another program in place. What is no such key is left as it is.
fn adopt(row: &SealedKey, sealer: &Sealer, now: Timestamp, context: &Context) -> Option<KeyChange> {
    let key = pem::from_pkcs1_pem(std::str::from_utf8(&row.bytes).ok()?).ok()?;
    let pem = pem::to_pkcs1_pem(&key).ok()?;
    let row_context = SealContext::Key(row.kid, row.exp);
    let bytes = context.rng.with(|rng| sealer.seal(row_context, pem.as_bytes(), rng)).ok()?;
    tracing::info!(kid = %row.kid, "sealed key {}, which another program had left in the clear", row.kid);
    Some(KeyChange::Adopt { life: KeyMetadata::adopted(row.kid, row.exp, now), sealed: Some(bytes) })
}

/// Why there is no master key for a store.
#[derive(Debug, Error)]
pub enum MasterKeyError {
    /// The check value could not be sealed.
    #[error("the master key cannot seal")]
    Seal(#[from] SealError),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The passphrase could not be stretched.
    #[error(transparent)]
    Stretch(#[from] KdfError),
    /// A computation was not done.
    #[error(transparent)]
    Worker(#[from] WorkError),
    /// The store is sealed under another master key.
    #[error("NOT_MY_KEY is not the key this store was sealed with; nothing was changed")]
    WrongMasterKey,
}
