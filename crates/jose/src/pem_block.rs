//! Reads the textual encoding of RFC 7468 in every shape that §2 and §3 allow: lines of any width, blanks, any line
//! break, text around it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::invalid_pem::InvalidPem;

const BEGIN: &[u8] = b"-----BEGIN ";

/// Maximum length of a label in bytes. Longer ones are text that only mentions a boundary.
const LABEL_MAX: usize = 64;

/// Curve parameters, which OpenSSL writes before a key. The key names its curve again.
const EC_PARAMETERS: &str = "EC PARAMETERS";

/// A block: a label and base64.
pub(crate) struct PemBlock<'a> {
    /// The label, such as `PRIVATE KEY`.
    pub(crate) label: &'a str,
    content: &'a [u8],
}

impl<'a> PemBlock<'a> {
    /// Finds the only key, or else the only block; `None` if the text has none.
    ///
    /// Text around it is skipped, in any character encoding (RFC 7468 §2), and so are blocks of other kinds next to a key:
    /// servers keep certificates and Diffie-Hellman parameters in one file with it.
    pub(crate) fn only(text: &'a [u8]) -> Result<Option<Self>, InvalidPem> {
        let (keys, others): (Vec<_>, Vec<_>) = boundaries(text)
            .filter(|(label, _)| *label != EC_PARAMETERS)
            .partition(|(label, _)| label.ends_with(" KEY"));
        let candidates = if keys.is_empty() { others } else { keys };
        let (label, body) = match &candidates[..] {
            [] => return Ok(None),
            [only] => *only,
            // With two keys in the file, it is unclear which one is meant.
            _ => return Err(InvalidPem::Several),
        };
        // RFC 7468 §2 lets parsers ignore the END label; a different one means that lines are missing.
        let end = format!("-----END {label}-----");
        let (content, _) = split_once(body, end.as_bytes()).ok_or_else(|| incomplete(body))?;
        Ok(Some(Self { label, content }))
    }

    /// Decodes the content, which may be secret.
    pub(crate) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, InvalidPem> {
        // OpenSSL's traditional encryption keeps the label of the plain key and adds the header `Proc-Type`.
        if split_once(self.content, b"4,ENCRYPTED").is_some() {
            return Err(InvalidPem::Encrypted);
        }
        // Reserved at once: a growing buffer would leave copies of a secret in memory.
        let mut base64 = Zeroizing::new(Vec::with_capacity(self.content.len()));
        base64.extend(self.content.iter().copied().filter(|byte| !is_white(*byte)));
        let mut der = Zeroizing::new(vec![0; base64.len()]);
        let length = STANDARD.decode_slice(&*base64, &mut der).map_err(|_| incomplete(self.content))?;
        der.truncate(length);
        Ok(der)
    }
}

/// The labels of all blocks, each with the text after its BEGIN boundary.
pub(crate) fn boundaries(text: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some((_, after)) = split_once(rest, BEGIN) {
            rest = after;
            if let Some(found) = label(after) {
                return Some(found);
            }
        }
        None
    })
}

fn label(after_begin: &[u8]) -> Option<(&str, &[u8])> {
    let (label, body) = split_once(after_begin, b"-----")?;
    let is_visible = |byte: &u8| *byte == b' ' || (byte.is_ascii_graphic() && !byte.is_ascii_lowercase());
    // RFC 7468 §2: upper case, and no blank at either end.
    let is_label = label.len() <= LABEL_MAX && label.iter().all(is_visible) && label.trim_ascii() == label;
    Some((std::str::from_utf8(label).ok().filter(|_| is_label)?, body))
}

/// White space of RFC 7468 §3.
fn is_white(byte: u8) -> bool {
    // The vertical tab is missing in `is_ascii_whitespace`.
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

fn incomplete(content: &[u8]) -> InvalidPem {
    match split_once(content, b"\\n") {
        Some(_) => InvalidPem::EscapedLineBreaks,
        None => InvalidPem::Damaged,
    }
}

fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((text.get(..at)?, text.get(at + separator.len()..)?))
}
