//! Moving a store from one master key to another, in one transaction.

use std::sync::{Mutex, PoisonError};

use rand::Rng as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::master_key::MasterKey;
use super::{Context, MasterKeyError, lock};
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::key::seal::{MasterSecret, SALT_LEN, SealContext, SealError, Sealer};
use crate::store::{KeyChange, KeySnapshot, MasterKeyRecord, Refusal, SealedKey, StoreError, UploadedKey};

/// What a move to another master key did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RekeyReport {
    /// The keys that were sealed anew; each was opened again with the new master key.
    pub moved: Vec<Kid>,
    /// Rows that the old master key does not open; they are left as they are.
    pub left: Vec<Kid>,
}

/// Seals every key of the store under another master key, opens every one of them again, and only then keeps it.
///
/// Interrupted at any point, the store opens with exactly one of the two. With `dry_run`, nothing is kept.
///
/// # Errors
/// [`RekeyError::SameKey`]; whatever the store says.
pub async fn rekey(
    context: &Context,
    old: &MasterKey,
    new: &MasterSecret,
    dry_run: bool,
) -> Result<RekeyReport, RekeyError> {
    let new = new_master_key(context, old, new).await?;
    let outcome = Mutex::new((RekeyReport::default(), false));
    let mut decide = |picture: &KeySnapshot| {
        let (report, changes) = moves(picture, old, &new, context)?;
        *lock(&outcome) = (report, false);
        Ok(changes)
    };
    // A dry run does everything up to here, and undoes it.
    let check = |picture: &KeySnapshot| {
        let (report, has_opened) = &mut *lock(&outcome);
        let rows = || picture.sealed.iter().chain(&picture.unmanaged);
        let opens = |kid| rows().any(|row| row.kid == kid && open(row, &new.sealer).is_ok());
        *has_opened = report.moved.iter().all(|kid| opens(*kid));
        if *has_opened && !dry_run { Ok(()) } else { Err(Refusal) }
    };
    let replaced = context.store.replace_master_key(&old.record, &new.record, &mut decide, &check).await;
    let (report, has_opened) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    match replaced {
        Err(StoreError::Refused) if !has_opened => Err(RekeyError::DoesNotOpen),
        Err(StoreError::Refused) | Ok(()) => Ok(report),
        Err(error) => Err(MasterKeyError::from(error).into()),
    }
}

/// The master key that comes after the old one.
async fn new_master_key(
    context: &Context,
    old: &MasterKey,
    secret: &MasterSecret,
) -> Result<MasterKey, RekeyError> {
    let mut salt = [0; SALT_LEN];
    context.rng.with(|rng| rng.fill_bytes(&mut salt));
    let (secret, old_salt) = (secret.clone(), old.record.salt);
    let stretched = context.pool.run(move || (secret.sealer(&salt), secret.sealer(&old_salt))).await;
    let (sealer, under_old_salt) = stretched.map_err(MasterKeyError::from)?;
    if under_old_salt.map_err(MasterKeyError::from)?.matches(&old.record.check_value) {
        return Err(RekeyError::SameKey);
    }
    let sealer = sealer.map_err(MasterKeyError::from)?;
    let check_value = context.rng.with(|rng| sealer.check_value(rng)).map_err(MasterKeyError::from)?;
    let record = MasterKeyRecord { number: old.record.number + 1, salt, check_value };
    Ok(MasterKey { sealer, record })
}

/// Seals what opens with the old master key under the new one.
fn moves(
    picture: &KeySnapshot,
    old: &MasterKey,
    new: &MasterKey,
    context: &Context,
) -> Result<(RekeyReport, Vec<KeyChange>), Refusal> {
    let mut report = RekeyReport::default();
    let mut changes = Vec::new();
    let known = picture.sealed.iter().map(|row| (row, true));
    for (row, is_known) in known.chain(picture.unmanaged.iter().map(|row| (row, false))) {
        let SealedKey { kid, exp, .. } = *row;
        let Ok(text) = open(row, &old.sealer) else {
            report.left.push(kid);
            continue;
        };
        let sealed = context.rng.with(|rng| new.sealer.seal(SealContext::Key(kid, exp), &text, rng));
        let sealed = sealed.map_err(|_| Refusal)?;
        changes.push(if is_known {
            KeyChange::Reseal { kid, exp, sealed }
        } else {
            let life = KeyMetadata::adopted(kid, exp, context.clock.now());
            KeyChange::Adopt { life, sealed: Some(sealed) }
        });
        report.moved.push(kid);
    }
    for row in &picture.uploaded {
        // What does not open was not sealed by us, and stays out of the JWKS.
        let row_context = SealContext::Uploaded(&row.kid, row.exp);
        let Ok(jwk) = old.sealer.open(row_context, &row.sealed) else {
            continue;
        };
        let sealed = context.rng.with(|rng| new.sealer.seal(row_context, &jwk, rng)).map_err(|_| Refusal)?;
        changes.push(KeyChange::Publish(UploadedKey { sealed, ..row.clone() }));
    }
    Ok((report, changes))
}

fn open(row: &SealedKey, sealer: &Sealer) -> Result<Zeroizing<Vec<u8>>, SealError> {
    sealer.open(SealContext::Key(row.kid, row.exp), &row.bytes)
}

/// Why a store was not moved to another master key; it is as it was.
#[derive(Debug, Error)]
pub enum RekeyError {
    /// What was sealed anew did not open.
    #[error("a key that was sealed anew did not open; nothing was changed")]
    DoesNotOpen,
    /// A master key or the store failed.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The new master key is the old one.
    #[error("the new master key is the one that the store is sealed under; nothing was changed")]
    SameKey,
}
