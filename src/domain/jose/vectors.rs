//! The examples of the RFCs, through keys and signatures.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::algorithm::{Algorithm, Curve, KeyType};
use super::json::SecretJson;
use super::jwk::{self, InvalidJwk, PublicJwk, to_public};
use super::jwk_set::TrustedKeys;
use super::jws::Jws;
use super::pem::{self, InvalidPem, Key};
use super::private_key::{NewKey, PrivateJwk, PrivateKey, private_jwk};
use super::public_key::PublicKey;

fn examples() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/jose.json")).unwrap()
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn private(key: &Value) -> PrivateKey {
    PrivateKey::of_members(key.as_object().unwrap()).unwrap()
}

fn any_key() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn with(mut key: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            key.as_object_mut().unwrap().remove(name);
        } else {
            key[name] = value.clone();
        }
    }
    key
}

#[test]
fn the_examples_signatures_verify_and_those_that_can_be_made_again_come_out_the_same() {
    for example in examples()["signatures"].as_array().unwrap() {
        let (name, token) = (&example["example"], example["token"].as_str().unwrap());
        let key = private(&example["key"]);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let header: Value = serde_json::from_slice(&decode(message.split('.').next().unwrap())).unwrap();
        let algorithm = Algorithm::named(header["alg"].as_str().unwrap()).unwrap();
        let signature = decode(signature);
        let public = PublicJwk::parse(&to_public(&example["key"]).unwrap()).unwrap();
        assert!(public.key().verifies(algorithm, message.as_bytes(), &signature), "{name}");
        assert!(!public.key().verifies(algorithm, b"another message", &signature), "{name}");
        let again = key.sign(algorithm, message.as_bytes()).unwrap();
        assert!(public.key().verifies(algorithm, message.as_bytes(), &again), "{name}");
        if matches!(algorithm, Algorithm::Rs256 | Algorithm::EdDsa) {
            assert_eq!(again, signature, "{name}");
        }
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            assert!(!public.key().verifies(other, message.as_bytes(), &signature), "{name} {other}");
        }
    }
}

#[test]
fn thumbprints_are_those_of_the_examples_whatever_else_a_key_says() {
    for example in examples()["thumbprints"].as_array().unwrap() {
        let key = with(example["key"].clone(), &json!({"kid": "other", "x5t": "x"}));
        let key = PublicKey::of_members(key.as_object().unwrap()).unwrap();
        assert_eq!(key.thumbprint(), example["thumbprint"].as_str().unwrap(), "{}", example["example"]);
    }
}

#[test]
fn a_key_comes_back_the_same_from_pem_and_from_jwk() {
    let made = [NewKey::Ec(Curve::P256), NewKey::Ec(Curve::P384), NewKey::Ec(Curve::P521), NewKey::Ed25519];
    let made = made.map(|what| PrivateKey::generate(what).unwrap());
    let examples = examples();
    let known = examples["signatures"].as_array().unwrap().iter().map(|example| private(&example["key"]));
    for key in known.chain(made) {
        let text = pem::private_pem(&key).unwrap();
        let Key::Private(again) = Key::from_pem(&text).unwrap() else { panic!("{text:?}") };
        assert_eq!(*pem::private_pem(&again).unwrap(), *text);
        let Key::Public(public) = Key::from_pem(&pem::public_pem(key.public()).unwrap()).unwrap() else {
            panic!("a public key");
        };
        assert_eq!(public, *key.public());
        let algorithm = public.key_type().usual_algorithm();
        let public = PublicJwk::new(public, "k".to_owned(), algorithm).unwrap();
        let jwk = PrivateJwk::parse(&private_jwk(&key, &public).unwrap()).unwrap();
        assert_eq!(*pem::private_pem(jwk.key()).unwrap(), *text);
        assert_eq!((jwk.kid().as_str(), jwk.algorithm()), ("k", Some(algorithm)));
        assert_eq!(PublicJwk::parse(&serde_json::to_value(&public).unwrap()), Ok(public));
    }
}

#[test]
fn an_rsa_key_without_its_primes_is_the_same_key() {
    let whole = &examples()["signatures"][0]["key"];
    let bare = with(whole.clone(), &json!({"p": null, "q": null, "dp": null, "dq": null, "qi": null}));
    assert_eq!(private(&bare).sign(Algorithm::Rs256, b"x"), private(whole).sign(Algorithm::Rs256, b"x"));
    let some = with(whole.clone(), &json!({"qi": null}));
    let refused = PrivateKey::of_members(some.as_object().unwrap()).unwrap_err();
    assert_eq!(refused, InvalidJwk::SomePrimes);
}

#[test]
fn private_numbers_that_do_not_fit_are_refused() {
    let examples = examples();
    let [rsa, ec, ed] = [0, 1, 6].map(|at| examples["signatures"][at]["key"].clone());
    let made =
        private_jwk(&PrivateKey::generate(NewKey::Ed25519).unwrap(), &PublicJwk::parse(&any_key()).unwrap());
    let other = made.unwrap().reveal()["d"].clone();
    for (key, refused) in [
        (with(rsa.clone(), &json!({"d": "AQAB"})), InvalidJwk::Inconsistent),
        (with(rsa.clone(), &json!({"p": rsa["q"], "q": rsa["q"]})), InvalidJwk::Inconsistent),
        (with(rsa.clone(), &json!({"oth": []})), InvalidJwk::MultiPrime),
        (with(ec.clone(), &json!({"d": other})), InvalidJwk::Inconsistent),
        (with(ec, &json!({"d": "AQAB"})), InvalidJwk::Length { member: "d", expected: 32 }),
        (with(ed.clone(), &json!({"d": other})), InvalidJwk::Inconsistent),
        (with(ed.clone(), &json!({"use": "enc"})), InvalidJwk::Use("enc".to_owned())),
        (with(ed.clone(), &json!({"key_ops": ["verify"]})), InvalidJwk::KeyOps("sign")),
        (with(ed, &json!({"d": null})), InvalidJwk::Public),
    ] {
        let SecretOr::Refused(error) = parse(key) else { panic!("{refused:?}") };
        assert_eq!(error, refused);
    }
}

enum SecretOr {
    Key,
    Refused(InvalidJwk),
}

fn parse(key: Value) -> SecretOr {
    match PrivateJwk::parse(&SecretJson::of(key)) {
        Ok(_) => SecretOr::Key,
        Err(error) => SecretOr::Refused(error),
    }
}

#[test]
fn what_is_no_public_key_for_signatures_is_refused_for_its_own_reason() {
    let examples = examples();
    let rsa = to_public(&examples["signatures"][0]["key"]).unwrap();
    let ec = to_public(&examples["signatures"][1]["key"]).unwrap();
    let number = |bytes: Vec<u8>| json!(URL_SAFE_NO_PAD.encode(bytes));
    let modulus = decode(rsa["n"].as_str().unwrap());
    let even = [&modulus[..modulus.len() - 1], &[0xa0]].concat();
    for (key, message) in [
        (json!([]), "a JWK is a JSON object"),
        (json!({}), "\"kty\" is missing"),
        (json!({"kty": 1}), "\"kty\" must be a string"),
        (json!({"kty": "DSA"}), "\"kty\" is \"DSA\": RSA, EC or OKP would do"),
        (
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            "a symmetric key (\"kty\" is \"oct\"): it has no public half, and whoever verifies with it can sign",
        ),
        (
            with(any_key(), &json!({"d": "c2VjcmV0"})),
            "a private key (it has \"d\"), where the public one is wanted: `jwksd jwk public` strips it",
        ),
        (with(any_key(), &json!({"crv": "Ed448"})), "\"crv\" is \"Ed448\": Ed25519 would do"),
        (with(any_key(), &json!({"x": "AQAB"})), "\"x\" must have 32 bytes"),
        (
            with(any_key(), &json!({"x": "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
            "the point is not a public key on the curve of Ed25519",
        ),
        (with(any_key(), &json!({"use": "enc"})), "\"use\" is \"enc\", and not \"sig\""),
        (with(any_key(), &json!({"key_ops": ["sign"]})), "\"key_ops\" does not say \"verify\""),
        (with(any_key(), &json!({"key_ops": "verify"})), "\"key_ops\" does not say \"verify\""),
        (
            with(any_key(), &json!({"alg": "ES256"})),
            "\"alg\" is \"ES256\", which is none for an Ed25519 key: EdDSA would do",
        ),
        (with(any_key(), &json!({"kid": ""})), "\"kid\" must have 1 to 256 bytes and no control characters"),
        (with(any_key(), &json!({"kid": 1})), "\"kid\" must be a string"),
        (
            with(ec.clone(), &json!({"crv": "secp256k1"})),
            "\"crv\" is \"secp256k1\": P-256, P-384 or P-521 would do",
        ),
        (with(ec.clone(), &json!({"crv": "P-384"})), "\"x\" must have 48 bytes"),
        (with(ec.clone(), &json!({"y": ec["x"]})), "the point is not a public key on the curve of EC P-256"),
        (
            with(rsa.clone(), &json!({"n": format!("{}==", rsa["n"].as_str().unwrap())})),
            "\"n\" must be base64url without padding",
        ),
        (
            with(rsa.clone(), &json!({"e": "AAEAAQ"})),
            "\"e\" begins with a zero byte: a number is written without any",
        ),
        (
            with(rsa.clone(), &json!({"n": number(modulus[..128].to_vec())})),
            "an RSA key of 1024 bits: 2048 to 8192 would do",
        ),
        (
            with(rsa.clone(), &json!({"n": number([modulus.as_slice(); 5].concat())})),
            "an RSA key of 10240 bits: 2048 to 8192 would do",
        ),
        (with(rsa.clone(), &json!({"n": number(even)})), "the RSA modulus is even"),
        (
            with(rsa.clone(), &json!({"e": "AQ"})),
            "the RSA exponent must be odd, 3 or more, and have 33 bits at most; 65537 is usual",
        ),
        (
            with(rsa, &json!({"alg": "RSA-OAEP"})),
            "\"alg\" is \"RSA-OAEP\", which is none for an RSA key: RS256, RS384, RS512, PS256, PS384, PS512 would do",
        ),
    ] {
        let said = PublicJwk::parse(&key).unwrap_err().to_string();
        assert_eq!(said, message);
        assert!(!said.contains("c2VjcmV0"));
    }
}

#[test]
fn the_public_half_keeps_what_is_known_to_be_public_and_no_more() {
    let key = with(
        examples()["signatures"][6]["key"].clone(),
        &json!({"kid": "1", "key_ops": ["sign", "verify", "deriveKey"], "password": "x"}),
    );
    assert_eq!(to_public(&key).unwrap(), with(any_key(), &json!({"kid": "1", "key_ops": ["verify"]})));
    assert!(jwk::PRIVATE_MEMBERS.iter().all(|name| to_public(&key).unwrap().get(name).is_none()));
}

#[test]
fn a_set_keeps_its_other_keys_beside_one_that_cannot_be_used() {
    let TrustedKeys::Set(entries) = TrustedKeys::parse(&examples()["set"]).unwrap() else { panic!("a set") };
    assert_eq!(entries[0].key, Err(InvalidJwk::Use("enc".to_owned())));
    assert_eq!(entries[0].kid.as_deref(), Some("1"));
    let rsa = entries[1].key.as_ref().unwrap();
    assert_eq!(
        (rsa.kid(), rsa.algorithm(), rsa.key().key_type()),
        (Some("2011-04-29"), Some(Algorithm::Rs256), KeyType::Rsa)
    );
}

#[test]
fn pem_of_something_else_is_named() {
    let short = include_str!("../../../tests/data/rsa-1024.pem");
    let key = pem::private_pem(&PrivateKey::generate(NewKey::Ed25519).unwrap()).unwrap();
    let relabelled = |label: &str| key.replace("PRIVATE KEY", label);
    for (text, refused) in [
        (short.to_owned(), InvalidPem::Key(InvalidJwk::RsaSize { bits: 1024 })),
        (relabelled("ENCRYPTED PRIVATE KEY"), InvalidPem::Encrypted),
        (relabelled("CERTIFICATE"), InvalidPem::Certificate),
        (relabelled("OPENSSH PRIVATE KEY"), InvalidPem::Label("OPENSSH PRIVATE KEY".to_owned())),
        (relabelled("PUBLIC KEY"), InvalidPem::Malformed),
        (format!("{}{}", *key, *key), InvalidPem::Several),
        ("no key".to_owned(), InvalidPem::Malformed),
    ] {
        assert_eq!(Key::from_pem(&text).unwrap_err(), refused);
    }
    assert!(Key::from_pem(&format!("Key Attributes\n{}\n\n", *key)).is_ok(), "text of OpenSSL around it");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,200}", bytes in proptest::collection::vec(0_u8.., 0..200)) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let _ = Jws::parse(&text);
        let _ = Jws::parse(&format!("{}.{}.", part(text.as_bytes()), part(&bytes)));
        let _ = Key::from_pem(&text);
        let pem = base64::engine::general_purpose::STANDARD.encode(&bytes);
        for label in ["PRIVATE KEY", "PUBLIC KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "RSA PUBLIC KEY"] {
            let lines: Vec<_> = pem.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
            let lines = lines.join("\n");
            let _ = Key::from_pem(&format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"));
        }
        for kty in ["RSA", "EC", "OKP", "oct", text.as_str()] {
            for crv in ["P-256", "P-384", "P-521", "Ed25519"] {
                let number = part(&bytes);
                let key = json!({"kty": kty, "crv": crv, "n": number, "e": number, "x": number, "y": number, "d": number});
                let _ = PublicJwk::parse(&to_public(&key).unwrap_or(Value::Null));
                let _ = parse(key);
            }
        }
    }
}

#[test]
fn debug_shows_no_private_number() {
    let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
    let json = SecretJson::of(json!({"d": "x"}));
    assert_eq!(format!("{key:?} {json:?}"), "PrivateKey SecretJson");
    assert_eq!(
        format!("{:?}", PrivateJwk::bare(key)),
        "PrivateJwk { key: PrivateKey, kid: None, algorithm: None }"
    );
}
