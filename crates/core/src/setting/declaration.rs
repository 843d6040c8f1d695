//! A setting without its type, for the table of all settings and for `--help`.

/// A setting without its type: what `--help` shows.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// The environment variable. The flag is the same in lower case, with dashes.
    pub name: &'static str,
    /// The text that is parsed when the setting is unset.
    pub default: Option<&'static str>,
    /// The line in `--help`.
    pub help: &'static str,
}

/// A secret without its type.
#[derive(Clone, Copy, Debug)]
pub struct SecretDeclaration {
    /// The environment variable.
    pub name: &'static str,
    /// The line in `--help`.
    pub help: &'static str,
    /// The setting that names a file with the secret.
    pub file: Declaration,
}
