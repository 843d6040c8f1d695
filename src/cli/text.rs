//! Escapes text of others before it is printed, so that it cannot control the terminal.

use std::fmt::Write as _;

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
    fn printable_escapes_line_feeds_and_printable_lines_keeps_them() {
        assert_eq!((printable("a\nb"), printable_lines("a\nb")), ("a\\u000ab".to_owned(), "a\nb".to_owned()));
    }
}
