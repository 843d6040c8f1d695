//! Opening sealed rows: for the keyring, for a backup that is checked, and for a store at rest.

use super::master_key::MasterKey;
use crate::domain::jose::external_key::ExternalKey;
use crate::domain::jose::pem;
use crate::domain::jose::private_key::PrivateKey;
use crate::domain::key::seal::{SealContext, Sealer};
use crate::domain::key::{Kid, SigningKey};
use crate::store::{SealedExternalKey, SealedKey};

/// A row of `keys` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRow {
    /// Which row.
    pub kid: Kid,
    /// What is wrong with it, in words.
    pub why: String,
}

/// The rows that do not open under this master key, each with the reason.
#[must_use]
pub(crate) fn unreadable_rows(master_key: &MasterKey, rows: &[SealedKey]) -> Vec<UnreadableRow> {
    rows.iter()
        .filter_map(|row| {
            let why = open_private_key(row, &master_key.sealer).err()?;
            Some(UnreadableRow { kid: row.kid, why })
        })
        .collect()
}

/// How many external keys open under this master key.
#[must_use]
pub(crate) fn opened_external_keys(master_key: &MasterKey, rows: &[SealedExternalKey]) -> usize {
    rows.iter().filter(|row| open_external(row, &master_key.sealer).is_some()).count()
}

/// Opens an external key. A row that was only written into the file is not sealed, so it does not open.
pub(super) fn open_external(row: &SealedExternalKey, sealer: &Sealer) -> Option<ExternalKey> {
    let jwk = sealer.open(SealContext::External(&row.kid, row.exp), &row.sealed).ok()?;
    ExternalKey::stored(&jwk, row.exp).filter(|key| key.kid() == row.kid)
}

/// Opens a row as a signing key, or says in words why that fails.
pub(super) fn open_signing_key(row: &SealedKey, sealer: &Sealer) -> Result<SigningKey, String> {
    let key = open_private_key(row, sealer)?;
    // The store does not record an algorithm: every key uses the default one of its type.
    let algorithm = key.public().key_type().default_algorithm();
    SigningKey::new(row.kid, row.exp, key, algorithm).map_err(|error| error.to_string())
}

/// Opens a row as a private key, or says in words why that fails.
pub(super) fn open_private_key(row: &SealedKey, sealer: &Sealer) -> Result<PrivateKey, String> {
    // `kid` and `exp` are associated data: a row that was copied or extended in the file does not open.
    let context = SealContext::Key(row.kid, row.exp);
    let pem = sealer.open(context, &row.bytes).map_err(|error| error.to_string())?;
    let pem = std::str::from_utf8(&pem).map_err(|_| "its content is not text".to_owned())?;
    pem::from_pkcs1_pem(pem).map_err(|error| error.to_string())
}
