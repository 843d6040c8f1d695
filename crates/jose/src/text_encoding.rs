//! How programs mark and encode text: byte order marks and UTF-16.

/// The byte order mark of UTF-8, which editors and shells of Windows write before a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The text after its byte order mark, if it has one.
#[must_use]
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// Whether a text is UTF-16: with a byte order mark, or with every other byte zero, as ASCII text has it.
#[must_use]
pub fn is_utf16(text: &[u8]) -> bool {
    let has_zeros = |at: usize| text.len() >= 8 && text.iter().skip(at).step_by(2).all(|byte| *byte == 0);
    text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") || has_zeros(0) || has_zeros(1)
}
