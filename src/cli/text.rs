//! Prepares text of others before it is printed: it must not control the terminal, and it must not contain a secret.

use std::fmt::Write as _;
use std::path::Path;

use crate::setting::may_contain_secret;

/// What a message says in place of an argument.
const HIDDEN: &str = "(not shown, because it may contain a secret)";

/// A message without those of the arguments that may contain a secret, in every form in which an error quotes them.
pub(super) fn without_secrets(
    message: String,
    arguments: impl IntoIterator<Item = impl AsRef<str>>,
) -> String {
    arguments.into_iter().fold(message, |message, argument| {
        let argument = argument.as_ref();
        // Clap quotes only the value of `--flag=value`.
        let value = argument.split_once('=').filter(|(flag, _)| flag.starts_with("--"));
        let parts = [Some(argument), value.map(|(_, value)| value)];
        parts.into_iter().flatten().flat_map(quoted_parts).fold(message, |message, part| {
            let quoted = format!("{part:?}");
            let escaped = quoted.trim_matches('"');
            [&quoted, part, escaped].into_iter().fold(message, |message, form| message.replace(form, HIDDEN))
        })
    })
}

/// The parts of an argument that a message may quote and that may contain a secret, the longest first: itself, and the
/// directories of a path.
fn quoted_parts(argument: &str) -> impl Iterator<Item = &str> {
    let directories = Path::new(argument).ancestors().filter_map(Path::to_str);
    let parts = [argument, argument.trim_end_matches('/')].into_iter().chain(directories);
    parts.filter(|part| may_contain_secret(part))
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

/// Control characters, and characters that change the direction of text (Unicode Standard Annex #9 §2) or hide it.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                // Hangul fillers count as letters, but look like spaces.
                | '\u{115f}'..='\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                // Tag characters can hide a whole text.
                | '\u{e0000}'..='\u{e007f}'
        )
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
    fn printable_escapes_line_feeds_and_printable_lines_keeps_them() {
        assert_eq!((printable("a\nb"), printable_lines("a\nb")), ("a\\u000ab".to_owned(), "a\nb".to_owned()));
    }
}
