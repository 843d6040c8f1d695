//! How an error shows the value of a setting, and which values it does not show.

use std::fmt;

/// Minimum length of a word that counts as a key or a token.
const KEY_LENGTH: usize = 32;

/// Length of a thumbprint (RFC 7638), and of other 32 bytes in base64url.
const THUMBPRINT_LENGTH: usize = 43;

/// Minimum length of a passphrase in characters.
const PASSPHRASE_LENGTH: usize = 16;

/// The ends of the names of files that commands read and write.
const EXTENSIONS: [&str; 17] = [
    "backup", "bak", "bz2", "copy", "db", "der", "gz", "json", "jwk", "jwks", "jwt", "key", "pem", "sqlite",
    "sqlite3", "txt", "zst",
];

/// Settings that are published, and may contain identifiers that look like keys.
const PUBLISHED: [&str; 2] = ["AUDIENCE", "ISSUER"];

/// The value of a setting as an error shows it. A value that may contain a secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownValue(Option<String>);

impl ShownValue {
    /// The value of the setting with this name, unless it may contain a secret.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        // Only a file of a secret is replaced by a passphrase: elsewhere many words are a comment, or a list.
        let is_risky = if name.ends_with("_FILE") {
            is_no_path(value) || is_passphrase(value)
        } else {
            names_or_carries_secret(value)
        };
        let is_key = if PUBLISHED.contains(&name) { is_unpublished_key } else { is_key };
        let is_hidden = is_risky || has_secret_structure(value) || has_key(value, is_key);
        Self((!is_hidden).then(|| without_query(value)))
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

/// Whether an argument of the command line may contain a secret, so that no message repeats it. Commands, flags and names of
/// files contain the words for secrets, so these do not count by themselves.
pub fn may_contain_secret(text: &str) -> bool {
    may_contain_secret_but(text, is_key)
}

/// As [`may_contain_secret`], for an argument that is published, such as a `kid`: UUIDs and thumbprints are shown.
pub fn published_may_contain_secret(text: &str) -> bool {
    may_contain_secret_but(text, is_unpublished_key)
}

/// The text of a URL without its query and its fragment, which may be a key of its server. Other texts stay as they are.
fn without_query(text: &str) -> String {
    match query_of(text) {
        Some((before, query)) => format!("{before}{}…", query.get(..1).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn may_contain_secret_but(text: &str, is_key: fn(&str) -> bool) -> bool {
    let is_assignment = text.contains('=') && names_or_carries_secret(text);
    is_assignment
        || is_passphrase(text)
        || query_of(text).is_some()
        || has_secret_structure(text)
        || has_key(text, is_key)
}

/// A URL up to its query or fragment, and the rest, which begins with its sign.
fn query_of(text: &str) -> Option<(&str, &str)> {
    let start = text.find("://")?;
    let at = start + text.get(start..)?.find(['?', '#'])?;
    // A sign behind a blank begins a comment.
    let (before, query) = text.split_at_checked(at)?;
    (query.len() > 1 && !before.contains(char::is_whitespace)).then_some((before, query))
}

/// A whole file in place of its name, such as a key in PEM or JSON; another setting; or the user-info of a URL.
fn has_secret_structure(text: &str) -> bool {
    let is_content = text.contains(['\n', '\r']) || text.contains("\":");
    is_content || has_user_info(text) || has_setting(text)
}

fn is_passphrase(text: &str) -> bool {
    // A date with a time has no letters.
    is_phrase(text) && text.chars().count() >= PASSPHRASE_LENGTH && text.contains(char::is_alphabetic)
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

/// Whether a word looks random. `/` is in base64 and in paths, so words with it count only if nothing else is there.
fn has_key(value: &str, is_key: fn(&str) -> bool) -> bool {
    let value = without_file_name(value);
    let whole = value.trim_end_matches('=');
    let is_whole = whole.len() == THUMBPRINT_LENGTH
        && whole.chars().all(|c| is_of_key(c) || c == '/')
        && whole.contains(|c: char| c.is_ascii_uppercase());
    // Identifiers have neither padding nor `/`.
    let is_padded = is_whole && whole != value;
    is_padded || value.split(|c| !is_of_key(c)).chain(is_whole.then_some(whole)).any(is_key)
}

const fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_')
}

/// `jwk generate` names files after thumbprints, which look like keys, and backups are named after anything.
fn without_file_name(path: &str) -> &str {
    let mut name = path;
    while let Some((before, extension)) = name.rsplit_once('.')
        && EXTENSIONS.contains(&extension)
    {
        name = before;
    }
    if name.len() == path.len() { path } else { name.trim_end_matches(is_of_key) }
}

fn is_key(word: &str) -> bool {
    word.len() >= KEY_LENGTH
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(|c: char| c.is_ascii_alphabetic())
}

fn is_unpublished_key(word: &str) -> bool {
    let is_thumbprint = word.len() == THUMBPRINT_LENGTH && !word.contains(['+', '/']);
    is_key(word) && !is_thumbprint && !is_uuid(word)
}

fn is_uuid(word: &str) -> bool {
    word.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, value: &str) -> bool {
        ShownValue::new(name, value) != ShownValue::hidden()
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
            "https://h/jwks?code=hunter2",
            "https://h/jwks#hunter2",
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
            "0d9f5b3e-6c1a-4c59-9b1e-2f6a1c3d4e5f.sqlite3",
            "/backups/NzbLsXh8uDCcd-6MNwXFMyjmDwJrB1L2oKqH7Q9C2Lk.db.bak.gz",
        ] {
            assert!(!may_contain_secret(argument), "{argument}");
        }
    }

    #[test]
    fn uuids_and_thumbprints_are_shown_where_they_are_published() {
        let uuid = "0d9f5b3e-6c1a-4c59-9b1e-2f6a1c3d4e5f";
        let thumbprint = "NzbLsXh8uDCcd-6MNwXFMyjmDwJrB1L2oKqH7Q9C2Lk";
        for identifier in [uuid, thumbprint] {
            let url = format!("ftp://login.example/{identifier}/v2.0");
            for text in [identifier, &url] {
                assert!(may_contain_secret(text) && !published_may_contain_secret(text), "{text}");
                assert!(shown("ISSUER", text) && shown("AUDIENCE", text) && !shown("PORT", text), "{text}");
            }
        }
        for text in [
            "NzbLsXh8uDCcd-6MNwXFMyjmDwJrB1L2oKqH7Q9C2Lk=",
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
            "8BVzbxM5aOoW8PLQ4khZ5PcT2/BcieE5phAogKS4g6c",
            "8BVzbxM5aOoW8PLQ4khZ5PcT2+BcieE5phAogKS4g6c",
            "correct horse battery staple",
        ] {
            assert!(published_may_contain_secret(text), "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_query_and_its_fragment() {
        for (text, expected) in [
            ("https://h/x?code=hunter2#y", "https://h/x?…"),
            ("https://h/x#hunter2", "https://h/x#…"),
            ("https://h?", "https://h?"),
            ("https://h/x # the proxy", "https://h/x # the proxy"),
            ("80 ? x", "80 ? x"),
        ] {
            assert_eq!(without_query(text), expected);
        }
        let value = ShownValue::new("ISSUER", "https://h/x?code=hunter2");
        assert_eq!(value.to_string(), "\"https://h/x?…\"");
    }

    #[test]
    fn other_values_are_shown() {
        for value in [
            "",
            "70000",
            "15 parsecs",
            "postgres://db.example/x",
            "jwksd=verbose",
            "10.0.0.0/8, x",
            "8080 # the port we listen on",
            "15m # fifteen minutes",
        ] {
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
