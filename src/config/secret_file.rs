//! Files that hold a secret, such as those that Docker and Kubernetes mount.

use std::path::Path;

use zeroize::Zeroizing;

use super::small_file::{self, Pipes, UnreadableFile, is_utf16};
use jwksd_core::setting::{ConfigError, Secret, Source};
use jwksd_core::trim::trim_invisible;

/// The secret in this file, without the end of its last line. Other white space is left to the parser of the secret.
pub(crate) fn secret_file(path: &str) -> Result<Secret, String> {
    let bytes = small_file::read(Path::new(path), Pipes::Read).map(|file| file.bytes).map_err(|error| {
        let remedy = match &error {
            UnreadableFile::Io(_) => "name one that can",
            UnreadableFile::Kind(_) => "name a regular file or a pipe",
            UnreadableFile::Silent => "name one that a program writes the secret to",
            UnreadableFile::TooLong => "name a file that holds only the secret",
        };
        format!("{error}: {remedy}")
    })?;
    if is_utf16(&bytes) {
        return Err("the file is in UTF-16: save it as UTF-8".to_owned());
    }
    match str::from_utf8(&bytes) {
        // Unlike an empty variable this is an error: the secret was probably not mounted.
        Ok(text) if trim_invisible(text).is_empty() => {
            Err("the file is empty: write the secret to it".to_owned())
        }
        // Editors add the line end.
        Ok(text) if !text.contains('\0') => {
            Ok(Secret::new(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
        }
        _ => Err("the file is not text: write the secret to it in UTF-8, bytes as base64".to_owned()),
    }
}

/// Refuses a setting that is set both by itself and by a file.
pub(crate) fn expect_one(
    source: &dyn Source,
    name: &'static str,
    file: &'static str,
) -> Result<(), ConfigError> {
    if source.text(name).is_some() && source.text(file).is_some() {
        let problem = format!("is set, and {file} as well: keep one of them");
        return Err(ConfigError::Secret { name, problem });
    }
    Ok(())
}
