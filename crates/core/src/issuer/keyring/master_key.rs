//! From `NOT_MY_KEY` to a store that is sealed under it: unlocking one, initializing one, taking one over.

use rand::Rng as _;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::issuer::blocking_pool::WorkError;
use crate::issuer::context::Context;
use crate::key::KeyProfile;
use crate::key::import::Plaintext;
use crate::key::lifecycle::{Deletable, KeyMetadata};
use crate::key::seal::{KdfError, MasterSecret, SALT_LEN, SealContext, SealError, Sealer};
use crate::store::{Applied, KeyChange, KeySnapshot, MasterKeyRecord, SealedKey, SealedRows, StoreError};
use jwksd_jose::pem;

/// How often changes are planned again because other processes changed the keys meanwhile.
pub(super) const APPLY_ATTEMPTS: usize = 8;

/// A master key that fits its store.
#[derive(Clone, Debug)]
pub struct MasterKey {
    pub(super) sealer: Sealer,
    pub(super) record: MasterKeyRecord,
}

impl MasterKey {
    /// Derives a key from `secret` with a fresh salt, as the `number`th master key of a store.
    pub(super) async fn create(
        secret: &MasterSecret,
        number: i64,
        context: &Context,
    ) -> Result<Self, MasterKeyError> {
        let mut salt = [0; SALT_LEN];
        context.rng.with(|rng| rng.fill_bytes(&mut salt));
        let secret = secret.clone();
        // A passphrase takes 64 MiB and about 0.1 s, too much for an async thread.
        let sealer = context.pool.run(move || secret.sealer(&salt)).await??;
        let check_value = context.rng.with(|rng| sealer.check_value(rng))?;
        Ok(Self { sealer, record: MasterKeyRecord { number, salt, check_value } })
    }
}

/// Derives the master key of a store that has this record.
///
/// # Errors
/// [`MasterKeyError::WrongMasterKey`] when the store is sealed under another one.
pub fn unlock(secret: &MasterSecret, record: MasterKeyRecord) -> Result<MasterKey, MasterKeyError> {
    let sealer = secret.sealer(&record.salt)?;
    if sealer.matches(&record.check_value) {
        return Ok(MasterKey { sealer, record });
    }
    // Earlier versions took white space and a byte order mark for a part of a passphrase.
    if let Some(sealer) = secret.untrimmed().map(|secret| secret.sealer(&record.salt)).transpose()?
        && sealer.matches(&record.check_value)
    {
        tracing::warn!(
            "the store is sealed under NOT_MY_KEY with the white space or byte order mark around it: leave NOT_MY_KEY as it \
             is, or move to a new master key with `jwksd rekey`"
        );
        return Ok(MasterKey { sealer, record });
    }
    Err(MasterKeyError::WrongMasterKey)
}

/// Gives a store its first master key, or unlocks it if another process has just done so.
///
/// Keys that another program stored as plaintext are sealed in place. Rows that cannot be used are left as they are.
///
/// # Errors
/// As [`unlock`]; also when the store fails.
pub async fn initialize(secret: &MasterSecret, context: &Context) -> Result<MasterKey, MasterKeyError> {
    let master_key = MasterKey::create(secret, 1, context).await?;
    for _ in 0..APPLY_ATTEMPTS {
        let now = context.clock.now();
        let deletable = Deletable { expired_by: now, taken_over_by: now };
        let rows = SealedRows::Usable { now, deletable, unreadable: Vec::new() };
        let stored = context.store.keys(&rows).await?;
        // Another process was faster. A store with keys under two master keys would be half unreadable for each.
        if let Some(present) = stored.master_key {
            return unlock(secret, present);
        }
        let adopted = adopt(&stored, &master_key.sealer, now, context);
        let left = stored.unmanaged.len() + stored.invalid_exp.len() - adopted.len();
        // One transaction for all: a crash must not leave plaintext keys in a store that counts as sealed.
        let mut changes = vec![KeyChange::SetMasterKey(master_key.record.clone())];
        let (sealed, log): (Vec<_>, Vec<_>) = adopted.into_iter().unzip();
        changes.extend(sealed);
        if context.store.apply(stored.version, changes).await? == Applied::Yes {
            log_take_over(context, &log, left).await?;
            return Ok(master_key);
        }
    }
    Err(MasterKeyError::Contention)
}

/// Seals the plaintext keys of another program, and says what happened to each. Any other row is left as it is.
fn adopt(
    stored: &KeySnapshot,
    sealer: &Sealer,
    now: Timestamp,
    context: &Context,
) -> Vec<(KeyChange, String)> {
    let believed = stored.unmanaged.iter().map(|row| (row.clone(), String::new()));
    let converted = stored.invalid_exp.iter().filter_map(|row| {
        let (exp, unit) = row.exp.converted()?;
        let note = format!("; its exp was in {unit} and is now in seconds: {exp}");
        Some((SealedKey { kid: row.kid, exp, bytes: row.bytes.clone() }, note))
    });
    let seal = |(row, note): (SealedKey, String)| {
        let kid = row.kid;
        let change = seal_in_place(&row, sealer, now, context)?;
        Some((change, format!("sealed key {kid}, which another program had stored as plaintext{note}")))
    };
    believed.chain(converted).filter_map(seal).collect()
}

fn seal_in_place(row: &SealedKey, sealer: &Sealer, now: Timestamp, context: &Context) -> Option<KeyChange> {
    let Plaintext::Key(key) = Plaintext::read(&row.bytes) else {
        return None;
    };
    // Encoded again, so that what we seal has our form, whatever surrounded the PEM.
    let pem = pem::to_stored_pem(&key).ok()?;
    let profile = KeyProfile::unrecorded(key.public())?;
    let bound_to = SealContext::Key(row.kid, row.exp);
    let bytes = context.rng.with(|rng| sealer.seal(bound_to, pem.as_bytes(), rng)).ok()?;
    let key = KeyMetadata::adopted(row.kid, row.exp, now).with_profile(profile);
    Some(KeyChange::Adopt { key, sealed: Some(bytes) })
}

/// Says what was taken over, and what needs an operator. A store without anything to take over is not worth a line.
async fn log_take_over(context: &Context, sealed: &[String], left: usize) -> Result<(), StoreError> {
    for line in sealed {
        tracing::info!("{line}");
    }
    if left > 0 {
        // Each of them is named when the keys are opened.
        tracing::warn!(
            "rows of another program in the table keys that are left out and left as they are: {left}; see \
             `jwksd keys list`"
        );
    }
    let unusable = context.store.unusable_hashes().await?;
    if unusable > 0 {
        tracing::warn!(
            "accounts of another program with a password hash that no password matches, because it is not Argon2 or \
             costs too much: {unusable}; give each a new password with `jwksd users reset NAME`"
        );
    }
    Ok(())
}

/// Why there is no master key for a store.
#[derive(Debug, Error)]
pub enum MasterKeyError {
    /// Other processes changed the keys at the same time, several times in a row.
    #[error("other processes keep changing the keys at the same time: try again")]
    Contention,
    /// The key could not be derived from the passphrase.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// The check value could not be sealed.
    #[error("the master key cannot seal")]
    Seal(#[from] SealError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A computation was not done.
    #[error(transparent)]
    Worker(#[from] WorkError),
    /// The store is sealed under another master key.
    #[error("NOT_MY_KEY is not the key that this store was sealed with; nothing was changed")]
    WrongMasterKey,
}
