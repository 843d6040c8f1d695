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

/// Length of 32 bytes in base64 without padding.
const BASE64_LENGTH: usize = 43;

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
    // Blanks break long lines.
    let joined = Zeroizing::new(text.replace([' ', '\t', '\r', '\n', ':'], ""));
    [text, &joined].into_iter().any(|text| has_hex(text) || has_base64(text))
        || is_hex_dump(text)
        || is_encoded_twice(text)
}

/// Whether a text has exactly 64 hex digits in a row, whatever is around them: `0x…`, `\x…`, `H'…'`, `…h`.
fn has_hex(text: &str) -> bool {
    let runs = text.split(|c: char| !c.is_ascii_hexdigit());
    // dotenv removes the quotes of b'…' and leaves the b, which is a hex digit too.
    runs.flat_map(|run| [Some(run), run.strip_prefix('b')]).flatten().any(|run| run.len() == 64)
}

/// Whether a text has 64 hex digits in groups of the same length: `f0 15 …`, `f0:15:…`, `{0xf0, 0x15, …}`, `\xf0\x15…`.
/// The groups of a UUID differ, so that two of them can be a passphrase.
fn is_hex_dump(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let groups: Vec<_> = words.map(hex_digits).collect();
    groups.chunk_by(|one, two| one == two).any(|run| {
        let digits = run.first().copied().flatten().unwrap_or_default();
        digits.is_multiple_of(2) && digits * run.len() == 64
    })
}

/// How many hex digits a word has, without a prefix; `None` for a word with other characters.
fn hex_digits(word: &str) -> Option<usize> {
    let digits = word.strip_prefix('0').unwrap_or(word).strip_prefix(['x', 'X']).unwrap_or(word);
    digits.chars().all(|c| c.is_ascii_hexdigit()).then_some(digits.len())
}

/// Whether a text has a word that is 32 bytes in base64, with or without something before and after it.
fn has_base64(text: &str) -> bool {
    text.split(|c| !is_of_base64(c)).any(|word| {
        // dotenv removes the quotes of b'…' and leaves the b.
        let forms = [Some(word), word.strip_prefix('b')];
        forms.into_iter().flatten().any(|form| is_mixed(form) && is_key(form)) || is_marked_key(word)
    })
}

fn is_of_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || is_sign(c)
}

/// The characters of base64 and base64url that also stand between words.
fn is_sign(c: char) -> bool {
    matches!(c, '+' | '/' | '-' | '_')
}

fn is_key(word: &str) -> bool {
    word.len() == BASE64_LENGTH && decode(word).is_some()
}

/// Whether a word is a key with a mark before or after it that a sign of base64 separates: `base64-…`, `_…_`.
fn is_marked_key(word: &str) -> bool {
    let starts = word.char_indices().filter(|(_, c)| is_sign(*c)).map(|(at, _)| at + 1);
    starts.chain([0]).any(|start| {
        let key = word.get(start..start + BASE64_LENGTH);
        let after = word.get(start + BASE64_LENGTH..).unwrap_or_default();
        (after.is_empty() || after.starts_with(is_sign))
            && key.is_some_and(|key| looks_random(key) && is_key(key))
    })
}

/// Whether the characters can be those of 32 random bytes, and not words of a passphrase without its blanks.
fn is_mixed(word: &str) -> bool {
    let has = |kind: fn(&char) -> bool| word.chars().any(|c| kind(&c));
    has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase)
}

/// Whether capitals, small letters and digits follow each other as often as in random text: 26 times on average, and not
/// only at the beginnings of words.
fn looks_random(word: &str) -> bool {
    let kind = |byte: &u8| (byte.is_ascii_uppercase(), byte.is_ascii_lowercase(), byte.is_ascii_digit());
    let kinds: Vec<_> = word.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| kind(&byte)).collect();
    kinds.windows(2).filter(|pair| pair.first() != pair.last()).count() > 14
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
                ("base64-", ""),
                ("key_", "_"),
                ("--", "--"),
                ("sha256/", "/"),
            ] {
                assert!(wraps_key(&format!("{before}{key}{after}")), "{before}{key}{after}");
            }
            assert!(!wraps_key(key), "{key}");
            let (one, two) = key.split_at(20);
            assert!(wraps_key(&format!("{one} {two}")) && wraps_key(&format!("\"{one}\n{two}\"")));
            assert!(wraps_key(&STANDARD.encode(key)) && wraps_key(&STANDARD.encode(format!("{key}\n"))));
        }
    }

    #[test]
    fn hex_digits_in_the_notation_of_a_program_are_noticed() {
        let pairs = |key: &str, separator: &str| {
            let pairs = key.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
            pairs.collect::<Vec<_>>().join(separator)
        };
        for key in [HEX_KEY.to_owned(), HEX_KEY.to_uppercase()] {
            for (before, after) in [
                ("0x", ""),
                ("0X", ""),
                ("\\x", ""),
                ("x'", "'"),
                ("X'", "'::bytea"),
                ("H'", "'"),
                ("", "h"),
                ("", "H"),
                ("&H", ""),
                ("$", ""),
                ("#", ""),
                ("16#", "#"),
                ("hex:", ""),
                ("hex(", ")"),
                ("b", ""),
                ("sha256-", ""),
                ("the key is ", "."),
            ] {
                assert!(wraps_key(&format!("{before}{key}{after}")), "{before}{key}{after}");
            }
            for dump in [
                pairs(&key, " "),
                pairs(&key, ":"),
                pairs(&key, "-"),
                format!("0x{}", pairs(&key, ", 0x")),
                format!("\\x{}", pairs(&key, "\\x")),
                format!("{{0x{}}}", pairs(&key, ",0x")),
                format!("the code: {}", pairs(&key, " ")),
            ] {
                assert!(wraps_key(&dump), "{dump}");
            }
        }
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
            "0e0e7c3f-8a0b-4c0c-9d67-3a3b9f1d7c11 6f1c9f0e-1b7b-4f0e-9d3c-0a4f5f3b2c11",
            "A-Passphrase-Of-2024-With-Some-More-Words-Than-Are-Needed-Here",
            "my_Long_Passphrase_Number_1_With_Many_Words_In_It_And_No_Blanks",
            "CorrectHorseBatteryStapleCorrectHorseBatteryStaple2024",
            // 63, 65 and 128 digits.
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a",
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7f",
            "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
            "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzlXxhHHwg744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzlXxhHHw",
        ] {
            assert!(!wraps_key(phrase), "{phrase}");
        }
    }
}
