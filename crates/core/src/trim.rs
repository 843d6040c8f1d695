//! Characters that cannot be seen, and what editors and copying leave around a text.

/// The text without white space, byte order marks and other invisible characters at both ends.
#[must_use]
pub fn trim_invisible(text: &str) -> &str {
    // Byte order marks, joiners and zero-width spaces are not white space for Unicode.
    text.trim_matches(|character: char| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}')
    })
}

/// Control characters, and characters that change the direction of text (Unicode Standard Annex #9 §2) or hide it.
#[must_use]
pub fn is_invisible(character: char) -> bool {
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
