//! Encodings around a key in PEM, DER or JSON, as programs store it in text columns.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::text_encoding::{is_utf16, without_bom};

// Programs differ in alphabet and padding.
const PADDING_OPTIONAL: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&alphabet::STANDARD, PADDING_OPTIONAL),
    GeneralPurpose::new(&alphabet::URL_SAFE, PADDING_OPTIONAL),
];

/// What precedes the digits of a hex text: in SQL, in PostgreSQL and in most languages.
const HEX_PREFIXES: [&[u8]; 5] = [b"x'", b"X'", b"\\x", b"0x", b"0X"];

/// An encoding of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEncoding {
    /// base64 or base64url, without BEGIN and END lines.
    Base64,
    /// Hex digits.
    Hex,
    /// A JWK.
    Jwk,
    /// Line breaks that are written as `\n`.
    LineBreaks,
    /// UTF-16, most significant byte first.
    Utf16Be,
    /// UTF-16, least significant byte first.
    Utf16Le,
}

impl KeyEncoding {
    /// Removes one encoding; `None` if the input has none of these. A JWK is not decoded here.
    #[must_use]
    pub fn decode(input: &[u8]) -> Option<(Self, Zeroizing<Vec<u8>>)> {
        if is_utf16(input) {
            return Some(utf16(input));
        }
        let text = without_bom(input).trim_ascii();
        let decoded = |encoding: Self| move |bytes| (encoding, Zeroizing::new(bytes));
        let with_line_breaks = || line_breaks(text).map(decoded(Self::LineBreaks));
        let from_hex = || hex(text).map(decoded(Self::Hex));
        let from_base64 = || base64(text).map(decoded(Self::Base64));
        with_line_breaks().or_else(from_hex).or_else(from_base64)
    }

    /// The name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Jwk => "a JWK",
            Self::LineBreaks => "line breaks as \\n",
            Self::Utf16Be | Self::Utf16Le => "UTF-16",
        }
    }

    /// The command of a shell that removes it between standard input and standard output.
    #[must_use]
    pub const fn filter(self) -> &'static str {
        match self {
            Self::Base64 => "perl -MMIME::Base64 -0777 -ne 'tr{_-}{/+}; print decode_base64($_)'",
            Self::Hex => r#"perl -0777 -ne 's/^0x//i; s/[^0-9a-f]//gi; print pack("H*", $_)'"#,
            Self::Jwk => "jwksd jwk to-pem - --private",
            // Blanks, because not every sed can write a line break. They separate the lines of PEM as well.
            Self::LineBreaks => r"sed 's/\\[nr]/ /g; s/\\//g'",
            Self::Utf16Be => "iconv -f UTF-16BE -t UTF-8",
            Self::Utf16Le => "iconv -f UTF-16LE -t UTF-8",
        }
    }
}

fn utf16(input: &[u8]) -> (KeyEncoding, Zeroizing<Vec<u8>>) {
    let is_big_endian = input.starts_with(b"\xfe\xff") || input.starts_with(b"\0");
    let (encoding, from_bytes): (_, fn([u8; 2]) -> u16) = if is_big_endian {
        (KeyEncoding::Utf16Be, u16::from_be_bytes)
    } else {
        (KeyEncoding::Utf16Le, u16::from_le_bytes)
    };
    let (pairs, _) = input.as_chunks();
    let units: Zeroizing<Vec<u16>> = Zeroizing::new(pairs.iter().copied().map(from_bytes).collect());
    (encoding, Zeroizing::new(String::from_utf16_lossy(&units).into_bytes()))
}

/// As the filter does it.
fn line_breaks(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.contains("\\n"))?;
    let blanks = Zeroizing::new(text.replace("\\n", " "));
    let blanks = Zeroizing::new(blanks.replace("\\r", " "));
    Some(blanks.replace('\\', "").into_bytes())
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let text = HEX_PREFIXES.iter().find_map(|prefix| text.strip_prefix(*prefix)).unwrap_or(text);
    let is_between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b':' | b'\'');
    let digits = text.iter().filter(|byte| !is_between(byte));
    let digits: Option<Vec<u8>> = digits
        .map(|byte| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits =
        Zeroizing::new(digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?);
    let (pairs, _) = digits.as_chunks();
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
    base64.extend(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
    let decoded = BASE64.iter().find_map(|engine| engine.decode(&*base64).ok());
    decoded.filter(|bytes| !bytes.is_empty())
}
