//! Tokens as people read them. Every text in one is a stranger's: what would steer a terminal is escaped.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;
use crate::domain::jose::time;

/// A heading, and a line for each member; times are told beside their numbers.
pub(super) fn members(heading: &str, members: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let names: Vec<_> = members.keys().map(|name| printable(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let lines = names.iter().zip(members).map(|(shown, (name, value))| {
        let told = time::told(name, value, now).map(|told| format!("  ({told})")).unwrap_or_default();
        format!("  {shown:<width$}  {}{told}", printable(&value.to_string()))
    });
    std::iter::once(heading.to_owned()).chain(lines).collect()
}

/// Text in which what is not to be seen is written as JSON escapes it. In JSON it stands in strings alone, so that JSON
/// stays the same JSON.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || !is_invisible(character) {
            shown.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing into a String does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// Controls, and what changes the direction or hides the end of a line (Unicode, Bidirectional Algorithm, 2).
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_escaped_and_json_stays_the_same() {
        let value = json!({"sub": "é\u{1b}[31m\u{9b}\u{202e}x\u{e0041}\u{7f}"});
        let shown = printable(&value.to_string());
        assert_eq!(shown, r#"{"sub":"é\u001b[31m\u009b\u202ex\udb40\udc41\u007f"}"#);
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }

    #[test]
    fn times_are_told_beside_their_numbers() {
        let claims = json!({"exp": 1_300_819_380, "iss": "joe", "n": 1_300_819_380});
        assert_eq!(
            members("claims", claims.as_object().unwrap(), Timestamp::from_secs(1_300_819_320)),
            [
                "claims",
                "  exp  1300819380  (2011-03-22T18:43:00Z, in 1m)",
                "  iss  \"joe\"",
                "  n    1300819380",
            ]
        );
    }
}
