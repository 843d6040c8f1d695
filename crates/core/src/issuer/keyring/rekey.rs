//! Moving a store from one master key to another, in one step.

use thiserror::Error;

use super::inspect::open_signing_key;
use super::master_key::{APPLY_ATTEMPTS, MasterKey, MasterKeyError};
use crate::issuer::context::Context;
use crate::key::Kid;
use crate::key::lifecycle::KeyMetadata;
use crate::key::seal::{MasterSecret, SealContext, Sealer};
use crate::store::{Applied, KeyChange, KeySnapshot, SealedExternalKey, SealedKey, SealedRows};

/// The result of moving to another master key, or of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RekeyReport {
    /// Keys that are sealed under the new master key. Each was opened with it once.
    pub moved: Vec<Kid>,
    /// Rows that the old master key does not open. They are left as they are.
    pub left: Vec<Kid>,
}

/// Seals every key of the store under another master key, and opens every one of them again before anything is stored.
///
/// Interrupted at any point, the store opens with exactly one of the two. A dry run does everything except storing it.
///
/// # Errors
/// [`RekeyError::SameKey`]; also when the store fails.
pub async fn rekey(
    context: &Context,
    old: &MasterKey,
    new: &MasterSecret,
    dry_run: bool,
) -> Result<RekeyReport, RekeyError> {
    let new = new_master_key(context, old, new).await?;
    for _ in 0..APPLY_ATTEMPTS {
        let stored = context.store.keys(&SealedRows::All).await.map_err(MasterKeyError::from)?;
        // Otherwise the keys of a third master key would count as unreadable and be left behind.
        if stored.master_key.as_ref() != Some(&old.record) {
            return Err(RekeyError::MasterKeyChanged);
        }
        let (report, changes) = moves(&stored, old, &new, context)?;
        if dry_run {
            return Ok(report);
        }
        let applied = context.store.apply(stored.version, changes).await.map_err(MasterKeyError::from)?;
        if applied == Applied::Yes {
            return Ok(report);
        }
    }
    Err(MasterKeyError::Contention.into())
}

/// The successor of the old master key.
async fn new_master_key(
    context: &Context,
    old: &MasterKey,
    secret: &MasterSecret,
) -> Result<MasterKey, RekeyError> {
    let (same_secret, old_salt) = (secret.clone(), old.record.salt);
    // Each record has a random salt. Only the old salt shows that a passphrase is the same.
    let under_old_salt =
        context.pool.run(move || same_secret.sealer(&old_salt)).await.map_err(MasterKeyError::from)?;
    if under_old_salt.map_err(MasterKeyError::from)?.matches(&old.record.check_value) {
        return Err(RekeyError::SameKey);
    }
    Ok(MasterKey::create(secret, old.record.number + 1, context).await?)
}

/// Seals everything that opens under the old master key again, under the new one.
fn moves(
    stored: &KeySnapshot,
    old: &MasterKey,
    new: &MasterKey,
    context: &Context,
) -> Result<(RekeyReport, Vec<KeyChange>), RekeyError> {
    let mut report = RekeyReport::default();
    // First, because the rows after it record the number of the master key in force.
    let mut changes = vec![KeyChange::SetMasterKey(new.record.clone())];
    for row in &stored.sealed {
        let SealedKey { kid, exp, .. } = *row;
        let Ok(text) = old.sealer.open(SealContext::Key(kid, exp), &row.bytes) else {
            report.left.push(kid);
            continue;
        };
        let sealed = seal_and_open(SealContext::Key(kid, exp), &text, &new.sealer, context)?;
        changes.push(KeyChange::Reseal { kid, exp, sealed });
        report.moved.push(kid);
    }
    for row in &stored.unmanaged {
        let SealedKey { kid, exp, .. } = *row;
        // Only what can be adopted: nothing else here was ever of use under the old master key.
        let Ok(key) = open_signing_key(row, &[], &old.sealer) else {
            report.left.push(kid);
            continue;
        };
        let text = old.sealer.open(SealContext::Key(kid, exp), &row.bytes).map_err(MasterKeyError::from)?;
        let sealed = seal_and_open(SealContext::Key(kid, exp), &text, &new.sealer, context)?;
        let key = KeyMetadata::adopted(kid, exp, context.clock.now()).with_profile(key.profile());
        changes.push(KeyChange::Adopt { key, sealed: Some(sealed) });
        report.moved.push(kid);
    }
    report.left.extend(stored.invalid_exp.iter().map(|row| row.kid));
    for row in &stored.external {
        let seal_context = SealContext::External(&row.kid, row.exp);
        // A row that does not open was not sealed by us. It stays out of the JWKS.
        if let Ok(jwk) = old.sealer.open(seal_context, &row.sealed) {
            let sealed = seal_and_open(seal_context, &jwk, &new.sealer, context)?;
            changes.push(KeyChange::Publish(SealedExternalKey { sealed, ..row.clone() }));
        }
    }
    Ok((report, changes))
}

/// Seals a text, and proves that it opens again before the only other copy is replaced.
fn seal_and_open(
    bound_to: SealContext<'_>,
    text: &[u8],
    sealer: &Sealer,
    context: &Context,
) -> Result<Vec<u8>, RekeyError> {
    let bytes = context.rng.with(|rng| sealer.seal(bound_to, text, rng)).map_err(MasterKeyError::from)?;
    match sealer.open(bound_to, &bytes) {
        Ok(opened) if opened.as_slice() == text => Ok(bytes),
        _ => Err(RekeyError::DoesNotOpen),
    }
}

/// Why a store was not moved to another master key. The store is unchanged.
#[derive(Debug, Error)]
pub enum RekeyError {
    /// A key that was sealed under the new master key did not open with it.
    #[error("a key sealed under the new master key did not open again; nothing was changed")]
    DoesNotOpen,
    /// A master key or the store failed.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// Another process has moved the store to another master key.
    #[error("the master key of the store has changed: restart with the new NOT_MY_KEY")]
    MasterKeyChanged,
    /// The new master key is the old one.
    #[error("the new master key is the one that the store is sealed under already; nothing was changed")]
    SameKey,
}
