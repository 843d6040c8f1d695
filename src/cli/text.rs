//! Prepares text of others before it is printed: it must not control the terminal, and it must not contain a secret.

use std::fmt::Write as _;
use std::path::Path;

use jwksd_core::setting::{may_contain_secret, published_may_contain_secret};
use jwksd_core::trim::is_invisible;

/// What a message says in place of an argument.
const HIDDEN: &str = "(not shown, because it may contain a secret)";

/// Flags whose values are published, in tokens and in the JWKS.
const PUBLISHED_FLAGS: [&str; 3] = ["--audience", "--issuer", "--kid"];

/// The commands of `keys` that are followed by a `kid`.
const KID_COMMANDS: [&str; 4] = ["expire", "export", "revoke", "withdraw"];

/// A message without those of the arguments that may contain a secret, in every form in which an error quotes them.
pub(super) fn without_secrets(
    message: String,
    arguments: impl IntoIterator<Item = impl AsRef<str>>,
) -> String {
    let mut before = [String::new(), String::new()];
    arguments.into_iter().fold(message, |message, argument| {
        let argument = argument.as_ref();
        let may_contain_secret =
            if is_published(&before, argument) { published_may_contain_secret } else { may_contain_secret };
        let [_, last] = std::mem::take(&mut before);
        before = [last, argument.to_owned()];
        // Clap quotes only the value of `--flag=value`.
        let value = argument.split_once('=').filter(|(flag, _)| flag.starts_with("--"));
        let parts = [Some(argument), value.map(|(_, value)| value)].into_iter().flatten();
        let parts = parts.flat_map(quoted_parts).filter(|part| may_contain_secret(part));
        parts.fold(message, |message, part| {
            let quoted = format!("{part:?}");
            let escaped = quoted.trim_matches('"');
            [&quoted, part, escaped].into_iter().fold(message, |message, form| message.replace(form, HIDDEN))
        })
    })
}

/// Whether an argument is one that we publish, by the two arguments before it. Identifiers look like keys.
fn is_published([command, last]: &[String; 2], argument: &str) -> bool {
    let flag = argument.split_once('=').map_or(last.as_str(), |(flag, _)| flag);
    PUBLISHED_FLAGS.contains(&flag) || (command == "keys" && KID_COMMANDS.contains(&last.as_str()))
}

/// The parts of an argument that a message may quote, the longest first: itself, and the directories of a path.
fn quoted_parts(argument: &str) -> impl Iterator<Item = &str> {
    let directories = Path::new(argument).ancestors().filter_map(Path::to_str);
    [argument, argument.trim_end_matches('/')].into_iter().chain(directories)
}

/// Escapes invisible characters as JSON does, except line feeds. In JSON they occur only in strings, so the value of a
/// JSON text stays the same.
pub(super) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// As [`printable_lines`], for text that must stay one line.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_invisible(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing into a String does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_json_keeps_its_value() {
        let value = json!({"sub": "é\u{1b}[31m\u{9b}\u{202e}x\u{e0041}\u{7f}"});
        let shown = printable_lines(&value.to_string());
        assert_eq!(shown, r#"{"sub":"é\u001b[31m\u009b\u202ex\udb40\udc41\u007f"}"#);
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }

    #[test]
    fn arguments_with_secrets_are_hidden_in_every_form() {
        let hidden = |message: &str, argument: &str| without_secrets(message.to_owned(), [argument]);
        for (message, argument, expected) in [
            ("cannot read https://u:p@h/x", "https://u:p@h/x", "cannot read (…)"),
            ("\"https://u:p@h/.well-known\" is", "https://u:p@h//", "\"(…)/.well-known\" is"),
            ("cannot write to postgres://u:p@h", "postgres://u:p@h/x", "cannot write to (…)"),
            ("value 'u:p@h' for", "--leeway=u:p@h", "value '(…)' for"),
            (r#"no "a\\=key\"" here"#, r#"a\=key""#, "no (…) here"),
            ("cannot read key.pem", "key.pem", "cannot read key.pem"),
        ] {
            let expected = expected.replace("(…)", HIDDEN);
            assert_eq!(hidden(message, argument), expected);
        }
    }

    #[test]
    fn identifiers_are_hidden_only_where_no_identifier_belongs() {
        for identifier in
            ["0d9f5b3e-6c1a-4c59-9b1e-2f6a1c3d4e5f", "NzbLsXh8uDCcd-6MNwXFMyjmDwJrB1L2oKqH7Q9C2Lk"]
        {
            let message = format!("no {identifier:?} here");
            let said = |args: &[&str]| {
                without_secrets(message.clone(), args.iter().map(|arg| arg.replace("ID", identifier)))
            };
            for args in [
                &["keys", "withdraw", "ID"][..],
                &["keys", "revoke", "ID"],
                &["jwk", "public", "--kid", "ID"],
                &["jwt", "verify", "--audience=ID"],
                &["jwt", "verify", "--issuer", "https://login.example/ID/v2.0"],
            ] {
                assert_eq!(said(args), message, "{args:?}");
            }
            for args in [&["keys", "ID"][..], &["withdraw", "ID"], &["--port", "ID"], &["--kid", "x", "ID"]] {
                assert_eq!(said(args), format!("no {HIDDEN} here"), "{args:?}");
            }
        }
    }

    #[test]
    fn printable_escapes_line_feeds_and_printable_lines_keeps_them() {
        assert_eq!((printable("a\nb"), printable_lines("a\nb")), ("a\\u000ab".to_owned(), "a\nb".to_owned()));
    }
}
