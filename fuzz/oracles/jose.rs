//! Keys and tokens: JWK Sets, PEM, JWS, claims.

use std::sync::LazyLock;
use std::time::Duration;

use jwksd_core::clock::Timestamp;
use jwksd_core::key::external_key::ExternalKey;
use jwksd_core::key::import;
use jwksd_core::key::uploaded_set::UploadedSet;
use jwksd_jose::json::{self, SecretJson};
use jwksd_jose::jwk::{Jwk, to_public};
use jwksd_jose::jwk_set::TrustedKeys;
use jwksd_jose::jws::Jws;
use jwksd_jose::members::PRIVATE_MEMBERS;
use jwksd_jose::pem::{
    Key, contains_private_key, from_stored_pem, private_pem, public_pem, read_private_key, to_stored_pem,
};
use jwksd_jose::private_key::{PrivateJwk, private_jwk};
use jwksd_jose::validation::{self, Validation};
use jwksd_jose::{inspect, numeric_date};
use serde_json::{Map, Value, json};

/// JWK Sets and JWKs: trusted, external and private ones. Accepted keys survive a round trip through JSON and PEM.
pub fn jwk_set(input: &[u8]) {
    // A byte order mark before a file or a body is skipped.
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let Ok(value) = json::value(input) else {
        assert!(UploadedSet::parse(input).is_err());
        return;
    };
    assert_eq!(
        serde_json::from_slice::<Value>(input).unwrap(),
        value,
        "the strict reader and `serde_json` agree"
    );
    match TrustedKeys::parse(&value) {
        Ok(TrustedKeys::One(key)) => expect_public(&key),
        Ok(TrustedKeys::Set(entries)) => {
            entries.iter().filter_map(|entry| entry.key.as_ref().ok()).for_each(expect_public);
        }
        Err(_) => {}
    }
    for upload in UploadedSet::parse(input).into_iter().flat_map(|set| set.keys) {
        expect_public(upload.jwk());
        assert_eq!(upload.jwk().kid(), Some(upload.kid()));
        let stored = serde_json::to_vec(upload.jwk()).unwrap();
        assert_eq!(ExternalKey::stored(&stored, upload.exp()), Some(upload));
    }
    if let Ok(public) = to_public(&value) {
        assert!(PRIVATE_MEMBERS.iter().all(|name| public.get(name).is_none()));
        assert_eq!(to_public(&public), Ok(public));
    }
    if let Ok(private) = PrivateJwk::parse(&SecretJson::new(value)) {
        let key = private.key();
        let algorithm = private.algorithm().unwrap_or(key.public().key_type().default_algorithm());
        let public = Jwk::new(key.public().clone(), private.kid(), algorithm).unwrap();
        let again = PrivateJwk::parse(&private_jwk(key, &public).unwrap()).unwrap();
        assert_eq!(again.key().public(), key.public());
        expect_public(&public);
    }
}

/// An accepted key has no private member, survives a round trip through each format, and `jsonwebtoken` accepts it too.
fn expect_public(key: &Jwk) {
    let written = json!(key);
    assert!(PRIVATE_MEMBERS.iter().all(|name| written.get(name).is_none()));
    assert_eq!(Jwk::parse(&written).as_ref(), Ok(key));
    let pem = public_pem(key.key()).unwrap();
    assert_eq!(Key::from_pem(pem.as_bytes()).unwrap().public(), key.key());
    // `jsonwebtoken` does not support this curve.
    if written["crv"] != "P-521" {
        let theirs: jsonwebtoken::jwk::Jwk = serde_json::from_value(written).unwrap();
        assert!(jsonwebtoken::DecodingKey::from_jwk(&theirs).is_ok());
    }
}

/// Keys in PEM or DER, for commands and in the store: they survive a round trip.
pub fn pem(input: &[u8]) {
    let pkcs1 = str::from_utf8(input).ok().and_then(|text| from_stored_pem(text).ok());
    for key in [import::parse(input).ok(), pkcs1].into_iter().flatten() {
        let written = to_stored_pem(&key).unwrap();
        let again = from_stored_pem(&written).unwrap();
        assert_eq!(to_stored_pem(&again).unwrap(), written);
    }
    if read_private_key(input).is_ok() {
        assert!(contains_private_key(input));
    }
    if let Ok(key) = Key::from_pem(input) {
        let public = Key::from_pem(public_pem(key.public()).unwrap().as_bytes()).unwrap();
        assert_eq!(public.public(), key.public());
        if let Key::Private(key) = &key {
            let again = Key::from_pem(private_pem(key).unwrap().as_bytes()).unwrap();
            assert!(matches!(&again, Key::Private(again) if again.public() == key.public()));
        }
    }
}

/// Tokens for `jwt verify` and `jwt inspect`: only those that the holders of the keys signed are valid. An input that is a
/// JSON object is validated as the claims of a token.
pub fn token(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Ok(claims) = json::object(input) {
        expect_valid_claims(&claims);
    }
    let Ok(jws) = Jws::parse(text) else {
        return;
    };
    let _ = inspect::inspect(&jws, NOW);
    for keys in &EXAMPLES.keys {
        if let Ok(claims) = jws.verify(keys) {
            let (signed, _) = text.rsplit_once('.').unwrap();
            assert!(EXAMPLES.signed.iter().any(|example| example == signed), "a forged token is accepted");
            expect_valid_claims(&claims);
        }
    }
}

/// Half a minute before the tokens of RFC 7515 expire.
const NOW: Timestamp = Timestamp::from_secs(1_300_819_350);

/// Claims that pass the validation are the expected ones.
fn expect_valid_claims(claims: &Map<String, Value>) {
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
    let lenient = Validation { ignore_exp: true, ..Validation::default() };
    let _ = validation::validate(claims, &lenient, NOW);
}

/// Keys of the RFCs, each by itself and all in a set, and the tokens they signed.
struct Examples {
    keys: Vec<TrustedKeys>,
    signed: Vec<String>,
}

static EXAMPLES: LazyLock<Examples> = LazyLock::new(|| {
    let examples: Value =
        serde_json::from_str(include_str!("../../crates/jose/tests/data/jose.json")).unwrap();
    let examples = examples["signatures"].as_array().unwrap();
    let public: Vec<_> = examples.iter().map(|example| to_public(&example["key"]).unwrap()).collect();
    let mut keys: Vec<_> = public.iter().map(|key| TrustedKeys::parse(key).unwrap()).collect();
    keys.push(TrustedKeys::parse(&json!({"keys": public})).unwrap());
    let signed = examples.iter().map(|example| example["token"].as_str().unwrap());
    let signed = signed.map(|token| token.rsplit_once('.').unwrap().0.to_owned()).collect();
    Examples { keys, signed }
});
