//! How an error shows the value of a setting, and which values it does not show.

use std::fmt;

/// Minimum length of a word that counts as a key or a token.
const KEY_LENGTH: usize = 32;

/// Minimum length of a passphrase in characters.
const PASSPHRASE_LENGTH: usize = 16;

/// The ends of the names of files that commands read and write.
const EXTENSIONS: [&str; 9] = ["db", "der", "json", "jwk", "jwks", "jwt", "key", "pem", "txt"];

/// The value of a setting as an error shows it. A value that may contain a secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownValue(Option<String>);

impl ShownValue {
    /// The value of the setting with this name, unless it may contain a secret.
    pub(super) fn new(name: &str, value: String) -> Self {
        let is_risky =
            if name.ends_with("_FILE") { is_no_path(&value) } else { names_or_carries_secret(&value) };
        Self((!is_risky && !may_contain_secret(&value)).then_some(value))
    }

    /// A value that contains a secret.
    pub(super) const fn hidden() -> Self {
        Self(None)
    }
}

impl fmt::Display for ShownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(value) = &self.0 else {
            return f.write_str("invalid, and not shown because it may contain a secret");
        };
        // Quotes make empty values and trailing spaces visible, and escape control characters.
        let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        if is_plain { f.write_str(value) } else { write!(f, "{value:?}") }
    }
}

/// Whether a text from outside may contain a secret, so that no message repeats it: an argument of the command line, or the
/// value of a setting. Commands, flags and names of files contain the words for secrets, so these do not count by themselves.
pub(crate) fn may_contain_secret(text: &str) -> bool {
    let is_assignment = text.contains('=') && names_or_carries_secret(text);
    // A whole file, such as a key in PEM or JSON, was given in place of its name.
    let is_content = text.contains(['\n', '\r']) || text.contains("\":");
    // A date with a time has no letters.
    let is_passphrase =
        is_phrase(text) && text.chars().count() >= PASSPHRASE_LENGTH && text.contains(char::is_alphabetic);
    is_assignment || is_content || is_passphrase || has_user_info(text) || has_setting(text) || has_key(text)
}

/// Another setting after a lost line break or a `;`, the user-info of a URL, or the parameters of a database.
fn names_or_carries_secret(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    value.contains('@') || ["key", "token", "secret", "pass", "pwd"].iter().any(|word| lower.contains(word))
}

/// A secret in place of the file that holds it, or behind it. Paths of files with secrets contain the words for secrets.
fn is_no_path(value: &str) -> bool {
    is_phrase(value) || value.contains('=') || (value.contains('@') && !value.contains('/'))
}

/// Words that are not a path.
fn is_phrase(text: &str) -> bool {
    text.contains(char::is_whitespace) && !text.contains(['/', '\\', '.'])
}

/// The user-info of a URL, with a scheme or without one. Directories of accounts may have an `@` in their names.
fn has_user_info(text: &str) -> bool {
    text.split_once('@').is_some_and(|(before, _)| before.contains(':'))
}

/// Another setting, as YAML, JSON or a shell writes it. A file may have the name of the setting.
fn has_setting(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_sign = |c: char| c.is_whitespace() || matches!(c, ':' | '"' | '\'');
    let ends = ["key", "token", "secret", "password"];
    ends.iter().any(|end| lower.split(end).skip(1).any(|rest| rest.starts_with(is_sign)))
}

/// A word that looks random. `/` is in base64 and in paths, so words with it count only if nothing else is there.
fn has_key(value: &str) -> bool {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_');
    // `jwk generate` names files after thumbprints, which look like keys.
    let value = match value.rsplit_once('.') {
        Some((name, extension)) if EXTENSIONS.contains(&extension) => name.trim_end_matches(is_of_key),
        _ => value,
    };
    let whole = value.trim_end_matches('=');
    let is_whole = whole.len() == 43
        && whole.chars().all(|c| is_of_key(c) || c == '/')
        && whole.contains(|c: char| c.is_ascii_uppercase());
    value.split(|c| !is_of_key(c)).chain(is_whole.then_some(whole)).any(|word| {
        word.len() >= KEY_LENGTH
            && word.contains(|c: char| c.is_ascii_digit())
            && word.contains(|c: char| c.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, value: &str) -> bool {
        ShownValue::new(name, value.to_owned()) != ShownValue::hidden()
    }

    #[test]
    fn values_that_may_contain_a_secret_are_not_shown() {
        for value in [
            "8081;NOT_MY_KEY=g744",
            "8081 ADMIN_TOKEN",
            "8081\nAUDIENCE=x",
            "8081\rx",
            "postgres://u:p@db.example/x",
            "u:p@db.example",
            "host=db password=hunter2",
            "mysql://db.example/x?pwd=hunter2",
            "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=",
            "8BVzbxM5aOoW8PLQ4khZ5PcT2/BcieE5phAogKS4g6c=",
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
            "http://x/f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
        ] {
            assert!(!shown("PORT", value), "{value}");
        }
        for value in [
            "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=",
            "8BVzbxM5aOoW8PLQ4khZ5PcT2/BcieE5phAogKS4g6c",
            "correct horse battery staple",
            "/x;ADMIN_TOKEN=hunter2",
            "https://u:hunter2@vault.example/key",
            "u:hunter2@vault.example/key",
            "key.txt,ADMIN_TOKEN: hunter2",
            "/run/key, admin_token\thunter2",
            "/run/key\",\"ADMIN_TOKEN\":\"hunter2",
        ] {
            assert!(!shown("NOT_MY_KEY_FILE", value), "{value}");
        }
    }

    #[test]
    fn arguments_that_may_contain_a_secret_are_recognised() {
        for argument in [
            "NOT_MY_KEY=hunter2",
            "ADMIN_TOKEN: hunter2",
            "NOT_MY_KEY hunter2",
            "postgres://u:p@db.example/x",
            "https://u:p@h:99999",
            "https://hunter2@h/x",
            "u:p@db.example",
            "postgres://h/x?user=u&password=p",
            "correct horse battery staple",
            "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=",
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
            "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----",
            r#"{"kty":"oct","k":"c2VjcmV0"}"#,
        ] {
            assert!(may_contain_secret(argument), "{argument}");
        }
        for argument in [
            "keys",
            "--not-my-key-file",
            "--ttl=15m",
            "a b",
            "2026-01-31 09:05:60",
            "alice@example.com",
            "my key.pem",
            "/home/alice@corp.example/token",
            "https://login.example.com/jwks",
            "NzbLsXh8uDCcd-6MNwXFMyjmDwJrB1L2oKqH7Q9C2Lk.pem",
            "keys/f015736f133968ea16f0f2d0e24859e4f713d8205c89e139.db",
        ] {
            assert!(!may_contain_secret(argument), "{argument}");
        }
    }

    #[test]
    fn other_values_are_shown() {
        for value in ["", "70000", "15 parsecs", "postgres://db.example/x", "jwksd=verbose", "10.0.0.0/8, x"]
        {
            assert!(shown("PORT", value), "{value}");
        }
        for value in [
            "/run/secrets/not_my_key",
            "/var/lib/jwksd/secrets/version-1/not_my_key",
            "/home/alice@corp.example/key",
            "my key.txt",
        ] {
            assert!(shown("NOT_MY_KEY_FILE", value), "{value}");
        }
    }
}
