//! Whether sealed keys open, for those who have no keyring: a look into a copy, or a check of a store at rest.

use super::MasterKey;
use super::snapshot::{Unreadable, open_private_key, open_uploaded};
use crate::store::{SealedKey, UploadedKey};

/// The rows that this master key does not open to a private key of ours, each with the reason.
#[must_use]
pub fn unopened(master_key: &MasterKey, rows: &[SealedKey]) -> Vec<Unreadable> {
    rows.iter()
        .filter_map(|row| {
            let why = open_private_key(row, &master_key.sealer).err()?;
            Some(Unreadable { kid: row.kid, why })
        })
        .collect()
}

/// How many keys of others this master key opens.
#[must_use]
pub fn opened_uploads(master_key: &MasterKey, rows: &[UploadedKey]) -> usize {
    rows.iter().filter(|row| open_uploaded(row, &master_key.sealer).is_some()).count()
}
