//! Trims what editors and copying leave around a text, and what cannot be seen there.

/// The text without white space, byte order marks and other invisible characters at both ends.
pub(crate) fn trim_invisible(text: &str) -> &str {
    // Byte order marks, joiners and zero-width spaces are not white space for Unicode.
    text.trim_matches(|character: char| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}')
    })
}
