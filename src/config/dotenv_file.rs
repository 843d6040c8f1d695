//! The file `.env` itself: which other users can change it.

use std::fs::Metadata;
use std::path::Path;

use crate::file_access::{self, Risk, Strictness};

/// The file of settings in the working directory.
pub(crate) const DOTENV: &str = ".env";

/// Refuses a file that another user than root and this one can change or replace, and returns the risks that remain.
///
/// Such a user could choose the master key, the store and the mode. `read` is the metadata of the file whose settings are in
/// use. Without one, and if it `will_be_created`, the risks are those of the directory.
///
/// # Errors
/// The first risk for which the file is refused.
pub(crate) fn check_dotenv_access(read: Option<&Metadata>, will_be_created: bool) -> Result<Vec<Risk>, Risk> {
    let path = Path::new(DOTENV);
    let Ok(risks) = file_access::risks(path, Strictness::NoReplacing, read) else {
        let directory = file_access::directory_risks(Path::new("."), Strictness::NoReplacing);
        // A first start needs no file that another user could have written.
        return Ok(directory.ok().filter(|_| will_be_created).unwrap_or_default());
    };
    // Root in a container gets its files from a user of the host. Some disks show every file as open to all.
    let is_refused =
        |risk: &&Risk| !(file_access::is_root() && risk.is_owner()) && file_access::keeps_modes(risk.path());
    match risks.iter().find(is_refused) {
        Some(risk) => Err(risk.clone()),
        None => Ok(risks),
    }
}
