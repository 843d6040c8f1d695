//! Encodings of a 32-byte key: which texts are one, and which contain one among other characters.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::trim::trim_invisible;

// Tools differ: OpenSSL pads base64, and JWK tools do not pad base64url.
const PADDING_OPTIONAL: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING_OPTIONAL);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING_OPTIONAL);

/// The 32 bytes that a text encodes as base64, base64url (padded or not) or 64 hex digits.
pub(super) fn decode(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    // 64 hex digits are also valid base64, but of 48 bytes.
    let decoded = if text.len() == 64 { Zeroizing::new(hex(text)?) } else { base64(text)? };
    <[u8; 32]>::try_from(decoded.as_slice()).ok().map(Zeroizing::new)
}

/// Whether a text is not an encoded key, but contains one: in quotes, as `b'…'`, after `NAME=`, with blanks in it, or encoded
/// twice. As a passphrase it would silently be another key.
pub(super) fn wraps_key(text: &str) -> bool {
    if decode(text).is_some() {
        return false;
    }
    // Blanks break long lines, and colons stand between the bytes of a hex dump.
    let joined = Zeroizing::new(text.replace([' ', '\t', '\r', '\n', ':'], ""));
    has_key(text) || has_key(&joined) || is_encoded_twice(text)
}

fn has_key(text: &str) -> bool {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
    text.split(|c| !is_of_key(c)).any(|word| {
        // dotenv removes the quotes of b'…' and leaves the b.
        let forms = [Some(word), word.strip_prefix('b'), word.strip_prefix("0x"), word.strip_prefix("0X")];
        forms.into_iter().flatten().any(|form| is_mixed(form) && decode(form).is_some())
    })
}

/// Whether the characters can be those of 32 random bytes, and not words of a passphrase without its blanks.
fn is_mixed(word: &str) -> bool {
    let has = |kind: fn(&char) -> bool| word.chars().any(|c| kind(&c));
    word.len() == 64
        || has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase)
}

/// As values of Kubernetes secrets are, when the key was base64 already.
fn is_encoded_twice(text: &str) -> bool {
    let decoded = base64(text);
    let inner = decoded.as_ref().and_then(|bytes| str::from_utf8(bytes).ok()).map(trim_invisible);
    inner.and_then(decode).is_some()
}

fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    BASE64URL.decode(text).or_else(|_| BASE64.decode(text)).ok().map(Zeroizing::new)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const BASE64_KEY: &str = "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=";
    const HEX_KEY: &str = "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7";

    #[test]
    fn other_characters_around_or_between_encoded_bytes_are_noticed() {
        for key in [BASE64_KEY, BASE64_KEY.trim_end_matches('='), HEX_KEY] {
            for (before, after) in [
                ("\"", "\""),
                ("'", "'"),
                ("`", "`"),
                ("“", "”"),
                ("„", "“"),
                ("‘", "’"),
                ("«", "»"),
                ("<", ">"),
                ("b'", "'"),
                ("b\"", "\""),
                ("B'", "'"),
                ("b", ""),
                ("", ";"),
                ("", ","),
                ("", "\\n"),
                ("", "%3D"),
                ("\"", ""),
                ("base64:", ""),
                ("key: ", ""),
                ("NOT_MY_KEY=", ""),
                ("export NOT_MY_KEY='", "'"),
                ("# the master key\n", ""),
                ("{\"key\":\"", "\"}"),
            ] {
                assert!(wraps_key(&format!("{before}{key}{after}")), "{before}{key}{after}");
            }
            assert!(!wraps_key(key), "{key}");
            let (one, two) = key.split_at(20);
            assert!(wraps_key(&format!("{one} {two}")) && wraps_key(&format!("\"{one}\n{two}\"")));
            assert!(wraps_key(&STANDARD.encode(key)) && wraps_key(&STANDARD.encode(format!("{key}\n"))));
        }
        let pairs: Vec<_> = HEX_KEY.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect();
        assert!(
            wraps_key(&pairs.join(":")) && wraps_key(&pairs.join(" ")) && wraps_key(&format!("0x{HEX_KEY}"))
        );
    }

    #[test]
    fn passphrases_are_not_mistaken_for_encoded_bytes() {
        for phrase in [
            "correct horse battery staple",
            "\"correct horse battery staple\"",
            // 43 letters, so that without blanks it has the length of an encoded key.
            "correct horse battery staple ankle bridges candl",
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139",
            "0e0e7c3f-8a0b-4c0c-9d67-3a3b9f1d7c11",
            "sixteen letters!",
        ] {
            assert!(!wraps_key(phrase), "{phrase}");
        }
    }
}
