//! Opening sealed rows: for the keyring, for a backup that is checked, and for a store at rest.

use std::collections::HashMap;

use super::master_key::MasterKey;
use crate::key::external_key::ExternalKey;
use crate::key::import::Plaintext;
use crate::key::lifecycle::KeyMetadata;
use crate::key::seal::{SealContext, SealError, Sealer};
use crate::key::{KeyProfile, Kid, SigningKey};
use crate::store::{InvalidExpKey, SealedExternalKey, SealedKey};
use jwksd_jose::key_encoding::KeyEncoding;
use jwksd_jose::pem;
use jwksd_jose::private_key::PrivateKey;

/// A row of `keys` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRow {
    /// Which row.
    pub kid: Kid,
    /// What is wrong with it, in words.
    pub why: String,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What an operator can do about a row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A private key lies in the file in the clear, and it can be imported after this command has converted it.
    ConvertAndDelete(String),
    /// Another program can open it.
    Export,
    /// A known format, which a password opens.
    Extract,
    /// A private key lies in the file in the clear, and it can be imported.
    ImportAndDelete,
    /// A private key lies in the file in the clear.
    Delete,
    /// A backup has the row as it was.
    Restore,
}

impl Remedy {
    /// In words, for the row of this `kid`.
    #[must_use]
    pub fn in_words(&self, kid: Kid) -> String {
        let save = format!(
            "`(umask 077; sqlite3 FILE \"select writefile('KEY', key) from keys where kid = {kid}\")`"
        );
        let delete = format!("`sqlite3 FILE \"delete from keys where kid = {kid}; vacuum\"`");
        match self {
            Self::Export => {
                "if it is still needed, export it with the program that sealed it, and use `jwksd keys import`".to_owned()
            }
            Self::Extract => format!(
                "if it is still needed, save it with {save}, do with KEY what this says, and use `jwksd keys import`"
            ),
            Self::ConvertAndDelete(command) => format!(
                "if it is still needed, save it with {save}, convert it with `(umask 077; {command})` and use \
                 `jwksd keys import KEY.pem`; then delete it with {delete}"
            ),
            Self::ImportAndDelete => format!(
                "if it is still needed, save it with {save} and use `jwksd keys import KEY`; then delete it with {delete}"
            ),
            Self::Delete => format!("stop trusting it, or keep it elsewhere, and delete it with {delete}"),
            Self::Restore => "replace the store by a backup with `jwksd restore`".to_owned(),
        }
    }
}

impl UnreadableRow {
    /// `is_ours`: whether something is recorded about the key. Nothing is about the keys of other programs.
    fn sealed(row: &SealedKey, is_ours: bool, error: OpenError) -> Self {
        let kid = row.kid;
        match error {
            OpenError::Seal(SealError::UnknownFormat) => Self::foreign(kid, None, &row.bytes),
            // Bytes of another program may begin like ours.
            OpenError::Seal(_) if !is_ours => Self::foreign(kid, None, &row.bytes),
            OpenError::Seal(error) => Self { kid, why: error.to_string(), remedy: Remedy::Restore },
            OpenError::Content(why) => Self { kid, why, remedy: Remedy::Restore },
        }
    }

    pub(super) fn invalid_exp(row: &InvalidExpKey) -> Self {
        let found = Self::foreign(row.kid, Some(row.exp.to_string()), &row.bytes);
        if row.is_ours && found.remedy == Remedy::Export {
            return Self { remedy: Remedy::Restore, ..found };
        }
        found
    }

    fn foreign(kid: Kid, exp: Option<String>, bytes: &[u8]) -> Self {
        let in_the_clear = "its private key lies in the file in the clear";
        let (what, remedy) = match Plaintext::read(bytes) {
            Plaintext::Key(_) => (Some(in_the_clear.to_owned()), Remedy::ImportAndDelete),
            Plaintext::EncodedKey(encodings) => {
                let names: Vec<_> = encodings.iter().map(|encoding| encoding.name()).collect();
                let what = format!("{in_the_clear} ({})", names.join(", "));
                (Some(what), Remedy::ConvertAndDelete(conversion(&encodings)))
            }
            Plaintext::UnusableKey(why) => {
                (Some(format!("{in_the_clear}, and cannot be used: {why}")), Remedy::Delete)
            }
            Plaintext::Protected(why) => (Some(format!("it is not sealed by jwksd: {why}")), Remedy::Extract),
            Plaintext::Unknown if exp.is_some() => (None, Remedy::Export),
            Plaintext::Unknown => {
                (Some("it is not sealed by jwksd: another program wrote it".to_owned()), Remedy::Export)
            }
        };
        let why = exp.into_iter().chain(what).collect::<Vec<_>>().join(", and ");
        Self { kid, why, remedy }
    }
}

/// The command that makes `KEY.pem` of `KEY`.
fn conversion(encodings: &[KeyEncoding]) -> String {
    let filters: Vec<_> = encodings.iter().map(|encoding| encoding.filter()).collect();
    format!("cat KEY | {} >KEY.pem", filters.join(" | "))
}

/// Why a row does not open.
pub(super) enum OpenError {
    /// It is not what we sealed.
    Seal(SealError),
    /// What was sealed is not a key.
    Content(String),
}

/// The rows that cannot be used under this master key, each with the reason. `recorded` is what is recorded about keys.
#[must_use]
pub fn unreadable_rows(
    master_key: &MasterKey,
    rows: &[SealedKey],
    invalid_exp: &[InvalidExpKey],
    recorded: &[KeyMetadata],
) -> Vec<UnreadableRow> {
    // A store may have hundreds of thousands.
    let recorded: HashMap<_, _> = recorded.iter().map(|key| (key.kid, key)).collect();
    let sealed =
        rows.iter().filter_map(|row| open(row, recorded.get(&row.kid).copied(), &master_key.sealer).err());
    sealed.chain(invalid_exp.iter().map(UnreadableRow::invalid_exp)).collect()
}

/// The rows of another program that the next start does not take over.
#[must_use]
pub fn rows_left_out(rows: &[SealedKey], invalid_exp: &[InvalidExpKey]) -> Vec<UnreadableRow> {
    let is_left = |row: &&SealedKey| !matches!(Plaintext::read(&row.bytes), Plaintext::Key(_));
    let foreign = rows.iter().filter(is_left).map(|row| UnreadableRow::foreign(row.kid, None, &row.bytes));
    let is_converted = |row: &&InvalidExpKey| {
        row.exp.converted().is_some() && matches!(Plaintext::read(&row.bytes), Plaintext::Key(_))
    };
    foreign
        .chain(invalid_exp.iter().filter(|row| !is_converted(row)).map(UnreadableRow::invalid_exp))
        .collect()
}

/// How many external keys open under this master key.
#[must_use]
pub fn opened_external_keys(master_key: &MasterKey, rows: &[SealedExternalKey]) -> usize {
    rows.iter().filter(|row| open_external(row, &master_key.sealer).is_some()).count()
}

/// Opens an external key. A row that was only written into the file is not sealed, so it does not open.
pub(super) fn open_external(row: &SealedExternalKey, sealer: &Sealer) -> Option<ExternalKey> {
    let jwk = sealer.open(SealContext::External(&row.kid, row.exp), &row.sealed).ok()?;
    ExternalKey::stored(&jwk, row.exp).filter(|key| key.kid() == row.kid)
}

/// Opens the row of a key as a signing key, or says in words why that fails. `recorded` is what is recorded about keys; a key
/// that is not among them gets the default algorithm of its type.
pub(super) fn open_signing_key(
    row: &SealedKey,
    recorded: &[KeyMetadata],
    sealer: &Sealer,
) -> Result<SigningKey, UnreadableRow> {
    open(row, recorded.iter().find(|key| key.kid == row.kid), sealer)
}

fn open(
    row: &SealedKey,
    recorded: Option<&KeyMetadata>,
    sealer: &Sealer,
) -> Result<SigningKey, UnreadableRow> {
    let unreadable = |error| UnreadableRow::sealed(row, recorded.is_some(), error);
    let key = open_private_key(row, sealer).map_err(unreadable)?;
    let profile = match recorded {
        Some(recorded) => recorded
            .profile
            .ok_or_else(|| "its algorithm or the form of its kid was changed in the file".to_owned()),
        None => KeyProfile::unrecorded(key.public()).ok_or_else(|| {
            format!("it is an {} key, with which jwksd does not sign", key.public().key_type())
        }),
    };
    let profile = profile.map_err(|why| unreadable(OpenError::Content(why)))?;
    // The profile is not sealed, but it must fit the key.
    SigningKey::new(row.kid, row.exp, key, profile).map_err(|error| {
        unreadable(OpenError::Content(format!("what is recorded about it was changed: {error}")))
    })
}

/// Opens a row as a private key, or says in words why that fails.
pub(super) fn open_private_key(row: &SealedKey, sealer: &Sealer) -> Result<PrivateKey, OpenError> {
    // `kid` and `exp` are associated data: a row that was copied or extended in the file does not open.
    let context = SealContext::Key(row.kid, row.exp);
    let pem = sealer.open(context, &row.bytes).map_err(OpenError::Seal)?;
    let pem =
        std::str::from_utf8(&pem).map_err(|_| OpenError::Content("its content is not text".to_owned()))?;
    pem::from_stored_pem(pem).map_err(|error| OpenError::Content(error.to_string()))
}
