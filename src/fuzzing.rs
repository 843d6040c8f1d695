//! What fuzzers drive: everything that reads what strangers send, one function a target.
//!
//! A function takes any bytes, hands them to the readers, and holds what came out to what is promised of it: a finding
//! is a panic. `fuzz/` has a program for each; the tests below run them for a moment on the inputs that are kept in
//! `fuzz/corpus`, and on inputs like those.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a fuzzer's finding is a panic")]

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::domain::account::{EMAIL_MAX, Email, USERNAME_MAX, Username};
use crate::domain::clock::Timestamp;
use crate::domain::jose::external_key::ExternalKey;
use crate::domain::jose::json::{self, SecretJson};
use crate::domain::jose::jwk::{Jwk, to_public};
use crate::domain::jose::jwk_set::TrustedKeys;
use crate::domain::jose::jws::Jws;
use crate::domain::jose::members::PRIVATE_MEMBERS;
use crate::domain::jose::pem::{Key, from_pkcs1_pem, private_pem, public_pem, to_pkcs1_pem};
use crate::domain::jose::private_key::{PrivateJwk, private_jwk};
use crate::domain::jose::validation::{self, Validation};
use crate::domain::jose::{inspect, numeric_date};
use crate::domain::key::seal::{MasterSecret, PASSPHRASE_MIN, SALT_LEN, SealContext, SealError, Sealer};
use crate::domain::key::{Kid, import};
use crate::{config, http};

/// What is done with an input.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 10] = [
    ("account", account),
    ("client_ip", client_ip),
    ("credentials", credentials),
    ("jwk_set", jwk_set),
    ("master_key", master_key),
    ("pem", pem),
    ("query", query),
    ("sealed", sealed),
    ("settings", settings),
    ("token", token),
];

/// The name and the address that somebody registers.
pub fn account(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Ok(name) = Username::parse(text) {
        assert_eq!(name.as_ref(), text);
        assert!(!text.is_empty() && text.len() <= USERNAME_MAX);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "it goes into logs and tokens as it is");
    }
    if let Ok(email) = Email::parse(text) {
        assert_eq!(email.as_ref(), text);
        assert!(text.len() <= EMAIL_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!text.contains(['<', '>', '"']), "an address and nothing around it");
        let (local, domain) = text.rsplit_once('@').unwrap();
        assert!(!local.is_empty() && domain.contains('.'));
    }
}

/// Which header is read, the peer, and the lines of the header.
pub fn client_ip(input: &[u8]) {
    let mut rest = Draw(input);
    let (which, is_v6) = (rest.byte(), rest.byte() % 2 == 1);
    let peer = if is_v6 { IpAddr::from(rest.array::<16>()) } else { IpAddr::from(rest.array::<4>()) };
    let lines: Vec<_> = rest.0.split(|byte| *byte == b'\n').collect();
    http::fuzzing::client_ip(which, peer, &lines);
}

/// Which `Content-Type` and whether there is an `Authorization`, that, and the body.
pub fn credentials(input: &[u8]) {
    let mut rest = Draw(input);
    let (labels, length) = (rest.byte(), rest.byte());
    let label = [
        None,
        Some(b"application/json".as_slice()),
        Some(b"application/x-www-form-urlencoded"),
        Some(b"Application/Problem+JSON ; charset=x"),
    ][usize::from(labels % 4)];
    let authorization = (labels & 4 != 0).then(|| rest.take(length.into()));
    http::fuzzing::credentials(label, authorization, rest.0);
}

/// JWK Sets and JWKs: those that are trusted, those that somebody uploads, and private ones.
pub fn jwk_set(input: &[u8]) {
    let Ok(value) = json::value(input) else {
        assert!(ExternalKey::parse_all(input).is_err());
        return;
    };
    assert_eq!(serde_json::from_slice::<Value>(input).unwrap(), value, "it is read as others read it");
    match TrustedKeys::parse(&value) {
        Ok(TrustedKeys::One(key)) => expect_a_public_key(&key),
        Ok(TrustedKeys::Set(entries)) => {
            entries.iter().filter_map(|entry| entry.key.as_ref().ok()).for_each(expect_a_public_key);
        }
        Err(_) => {}
    }
    for upload in ExternalKey::parse_all(input).into_iter().flatten() {
        expect_a_public_key(upload.jwk());
        assert_eq!(upload.jwk().kid(), Some(upload.kid()));
        let stored = serde_json::to_vec(upload.jwk()).unwrap();
        assert_eq!(ExternalKey::stored(&stored, upload.exp()), Some(upload));
    }
    if let Ok(half) = to_public(&value) {
        assert!(PRIVATE_MEMBERS.iter().all(|name| half.get(name).is_none()));
        assert_eq!(to_public(&half), Ok(half));
    }
    if let Ok(private) = PrivateJwk::parse(&SecretJson::new(value)) {
        let key = private.key();
        let algorithm = private.algorithm().unwrap_or(key.public().key_type().default_algorithm());
        let public = Jwk::new(key.public().clone(), private.kid(), algorithm).unwrap();
        let again = PrivateJwk::parse(&private_jwk(key, &public).unwrap()).unwrap();
        assert_eq!(again.key().public(), key.public());
        expect_a_public_key(&public);
    }
}

/// A key that was taken shows nothing private, comes back the same from all that it is written as, and is one to a
/// library that is not ours.
fn expect_a_public_key(key: &Jwk) {
    let written = json!(key);
    assert!(PRIVATE_MEMBERS.iter().all(|name| written.get(name).is_none()));
    assert_eq!(Jwk::parse(&written).as_ref(), Ok(key));
    let pem = public_pem(key.key()).unwrap();
    assert_eq!(Key::from_pem(&pem).unwrap().public(), key.key());
    // It does not know this curve.
    if written["crv"] != "P-521" {
        let theirs: jsonwebtoken::jwk::Jwk = serde_json::from_value(written).unwrap();
        assert!(jsonwebtoken::DecodingKey::from_jwk(&theirs).is_ok());
    }
}

/// What `NOT_MY_KEY` may say. 32 bytes are the same key however they are written.
pub fn master_key(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match MasterSecret::parse(text) {
        Ok(MasterSecret::Key(key)) => {
            let hex = key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            let base64 = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|form| form.encode(*key));
            assert!(text.is_ascii() && (43..=44).contains(&text.len()) || text.len() == 64);
            assert!(base64.iter().any(|form| form == text) || text.eq_ignore_ascii_case(&hex));
            for form in base64.iter().chain([&hex]) {
                assert!(matches!(MasterSecret::parse(form), Ok(MasterSecret::Key(again)) if again == key));
            }
        }
        Ok(MasterSecret::Passphrase(passphrase)) => {
            assert_eq!(passphrase.as_str(), text);
            assert!(text.chars().count() >= PASSPHRASE_MIN);
        }
        Err(_) => assert!(text.chars().count() < PASSPHRASE_MIN),
    }
}

/// Keys in PEM, as commands take them and as the store gives them back.
pub fn pem(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    for key in [import::parse(text).ok(), from_pkcs1_pem(text).ok()].into_iter().flatten() {
        let written = to_pkcs1_pem(&key).unwrap();
        let again = from_pkcs1_pem(&written).unwrap();
        assert_eq!(to_pkcs1_pem(&again).unwrap(), written);
    }
    if let Ok(key) = Key::from_pem(text) {
        let public = Key::from_pem(&public_pem(key.public()).unwrap()).unwrap();
        assert_eq!(public.public(), key.public());
        if let Key::Private(key) = &key {
            let again = Key::from_pem(&private_pem(key).unwrap()).unwrap();
            assert!(matches!(&again, Key::Private(again) if again.public() == key.public()));
        }
    }
}

/// The query of /auth.
pub fn query(input: &[u8]) {
    if let Ok(text) = str::from_utf8(input) {
        http::fuzzing::query(text);
    }
}

/// Rows of the store: bytes that we did not seal, and bytes that we did and somebody changed or moved.
pub fn sealed(input: &[u8]) {
    let sealer = sealer();
    let mut rest = Draw(input);
    let kid = String::from_utf8_lossy(rest.take(8)).into_owned();
    let contexts = [
        SealContext::Key(Kid(i64::from_be_bytes(rest.array())), Timestamp::from_secs(i64::from(rest.byte()))),
        SealContext::Key(Kid(i64::from(rest.byte())), Timestamp::from_secs(i64::from(rest.byte()))),
        SealContext::Uploaded(&kid, None),
        SealContext::Uploaded(&kid, Some(Timestamp::from_secs(i64::from(rest.byte())))),
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
    MasterSecret::Key(Zeroizing::new([0xA5; 32])).sealer(&[0; SALT_LEN]).unwrap()
}

/// The text of any setting.
pub fn settings(input: &[u8]) {
    if let Ok(text) = str::from_utf8(input) {
        config::fuzzing::setting(text);
    }
}

/// Tokens given to `jwt verify` and `jwt inspect`: none is valid but those that the holders of the keys have signed.
/// Claims alone are taken as if they were signed.
pub fn token(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Ok(claims) = json::object(input) {
        expect_a_right_check(&claims);
    }
    let Ok(jws) = Jws::parse(text) else {
        return;
    };
    let _ = inspect::inspect(&jws, NOW);
    for keys in &EXAMPLES.keys {
        if let Ok(claims) = jws.verify(keys) {
            let (signed, _) = text.rsplit_once('.').unwrap();
            assert!(EXAMPLES.signed.iter().any(|known| known == signed), "a forgery");
            expect_a_right_check(&claims);
        }
    }
}

/// Half a minute before the tokens of RFC 7515 end.
const NOW: Timestamp = Timestamp::from_secs(1_300_819_350);

/// Claims that pass are what was expected.
fn expect_a_right_check(claims: &Map<String, Value>) {
    for (name, value) in claims {
        let _ = numeric_date::describe(name, value, NOW);
    }
    let expected = Validation {
        issuer: Some("joe".to_owned()),
        audience: Some("us".to_owned()),
        ignore_exp: false,
        leeway: Duration::from_mins(1),
    };
    if validation::validate(claims, &expected, NOW).is_ok() {
        assert_eq!(claims["iss"], "joe");
        let names_us = |aud: &Value| aud == "us";
        assert!(names_us(&claims["aud"]) || claims["aud"].as_array().unwrap().iter().any(names_us));
        assert!(claims["exp"].as_f64().unwrap() > 1_300_819_290.0);
        assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_f64().unwrap() <= 1_300_819_410.0));
    }
    let nothing = Validation { ignore_exp: true, ..Validation::default() };
    let _ = validation::validate(claims, &nothing, NOW);
}

/// Keys of the RFCs, each alone and all in a set, and what they have signed.
struct Examples {
    keys: Vec<TrustedKeys>,
    signed: Vec<String>,
}

static EXAMPLES: LazyLock<Examples> = LazyLock::new(|| {
    let examples: Value = serde_json::from_str(include_str!("../tests/data/jose.json")).unwrap();
    let examples = examples["signatures"].as_array().unwrap();
    let public: Vec<_> = examples.iter().map(|example| to_public(&example["key"]).unwrap()).collect();
    let mut keys: Vec<_> = public.iter().map(|key| TrustedKeys::parse(key).unwrap()).collect();
    keys.push(TrustedKeys::parse(&json!({"keys": public})).unwrap());
    let signed = examples.iter().map(|example| example["token"].as_str().unwrap());
    let signed = signed.map(|token| token.rsplit_once('.').unwrap().0.to_owned()).collect();
    Examples { keys, signed }
});

/// Bytes, drawn from the front; zeros when there are no more.
struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn byte(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn fuzz() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    /// The inputs of a target that are kept, with their names.
    fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let found = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
        let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    #[test]
    fn every_target_has_a_program_and_inputs() {
        let names = |folder: &str| -> BTreeSet<_> {
            let found = fs::read_dir(fuzz().join(folder)).unwrap();
            found.map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned()).collect()
        };
        let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| name.into()).collect();
        assert_eq!(names("fuzz_targets"), targets);
        assert_eq!(names("corpus"), targets);
    }

    #[test]
    fn every_input_that_is_kept_keeps_the_promises() {
        for (name, target) in TARGETS {
            for (path, input) in kept(name) {
                assert!(std::panic::catch_unwind(|| target(&input)).is_ok(), "{}", path.display());
            }
        }
    }

    /// What is done to a kept input: bytes cut out at one place, and others put in.
    type Edit = (Index, usize, Vec<u8>);

    fn edited(mut input: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
        for (place, cut, put) in edits {
            let from = place.index(input.len() + 1);
            let to = (from + cut).min(input.len());
            input.splice(from..to, put);
        }
        input
    }

    #[test]
    fn inputs_like_those_that_are_kept_keep_the_promises() {
        let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
        for (name, target) in TARGETS {
            let bytes = prop_oneof![select(b"\"\\{}[]:,.=&%;-_ 0aA\n".as_slice()), any::<u8>()];
            let edit = (any::<Index>(), 0_usize..4, proptest::collection::vec(bytes, 0..6));
            let kept: Vec<_> = kept(name).into_iter().map(|(_, input)| input).collect();
            let inputs = (select(kept), proptest::collection::vec(edit, 0..4));
            let run =
                proptest::test_runner::TestRunner::new(config.clone()).run(&inputs, |(input, edits)| {
                    target(&edited(input, edits));
                    Ok(())
                });
            assert!(run.is_ok(), "{name}: {}", run.unwrap_err());
        }
    }
}
