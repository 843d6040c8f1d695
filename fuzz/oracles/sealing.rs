//! The master key, and the rows that are sealed under it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jwksd_core::clock::Timestamp;
use jwksd_core::key::Kid;
use jwksd_core::key::seal::{MasterSecret, PASSPHRASE_MIN, SALT_LEN, SealContext, SealError, Sealer};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::bytes::Bytes;

/// The text of `NOT_MY_KEY`: 32 bytes are the same key in every encoding.
pub fn master_key(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let Ok(secret) = MasterSecret::parse(text) else {
        // What is trimmed is never more than the whole text.
        assert!(
            text.trim().chars().count() < PASSPHRASE_MIN || text.contains(|c: char| !c.is_ascii_graphic())
        );
        return;
    };
    let again = |form: &str| MasterSecret::parse(form).unwrap().key().copied();
    assert_eq!(again(&format!("\u{feff} {text}\r\n")), secret.key().copied());
    if let Some(key) = secret.key() {
        let hex = key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let base64 = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|form| form.encode(key));
        assert!(base64.iter().any(|form| text.contains(form)) || text.to_lowercase().contains(&hex));
        for form in base64.iter().chain([&hex]) {
            assert_eq!(again(form), Some(*key));
        }
        assert!(!secret.wraps_key());
    }
}

/// Rows of the store: a sealed value opens only unchanged and in its own row.
pub fn sealed(input: &[u8]) {
    let sealer = sealer();
    let mut rest = Bytes(input);
    let kid = String::from_utf8_lossy(rest.take(8)).into_owned();
    let contexts = [
        SealContext::Key(Kid(i64::from_be_bytes(rest.array())), Timestamp::from_secs(i64::from(rest.byte()))),
        SealContext::Key(Kid(i64::from(rest.byte())), Timestamp::from_secs(i64::from(rest.byte()))),
        SealContext::External(&kid, None),
        SealContext::External(&kid, Some(Timestamp::from_secs(i64::from(rest.byte())))),
        SealContext::Check,
    ];
    let (mine, at, change) = (contexts[usize::from(rest.byte()) % contexts.len()], rest.byte(), rest.byte());
    assert!(!sealer.matches(rest.0));
    for context in contexts {
        assert!(sealer.open(context, input).is_err() && sealer.open(context, rest.0).is_err());
    }
    let mut row = sealer.seal(mine, rest.0, &mut StdRng::seed_from_u64(0)).unwrap();
    for context in contexts.into_iter().filter(|context| *context != mine) {
        assert_eq!(sealer.open(context, &row), Err(SealError::AuthenticationFailed));
    }
    let at = usize::from(at) % row.len();
    row[at] ^= change;
    assert_eq!(sealer.open(mine, &row).is_ok(), change == 0);
    row[at] ^= change;
    assert_eq!(sealer.open(mine, &row).unwrap().as_slice(), rest.0);
    row.truncate(at);
    assert!(sealer.open(mine, &row).is_err());
}

fn sealer() -> Sealer {
    MasterSecret::parse(&"a5".repeat(32)).unwrap().sealer(&[0; SALT_LEN]).unwrap()
}
