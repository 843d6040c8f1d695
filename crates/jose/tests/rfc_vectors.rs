//! Keys and signatures from the examples of the RFCs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use jwksd_jose::algorithm::{Algorithm, Curve, KeyType};
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::invalid_pem::InvalidPem;
use jwksd_jose::json::SecretJson;
use jwksd_jose::jwk::{Jwk, to_public};
use jwksd_jose::jwk_set::TrustedKeys;
use jwksd_jose::jws::Jws;
use jwksd_jose::members::PRIVATE_MEMBERS;
use jwksd_jose::pem::{self, Key};
use jwksd_jose::private_key::{NewKey, PrivateJwk, PrivateKey, private_jwk};
use jwksd_jose::public_key::PublicKey;

fn examples() -> Value {
    serde_json::from_str(include_str!("data/jose.json")).unwrap()
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn private(key: &Value) -> PrivateKey {
    PrivateKey::from_members(key.as_object().unwrap()).unwrap()
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
fn example_signatures_verify_and_deterministic_ones_are_reproduced() {
    for example in examples()["signatures"].as_array().unwrap() {
        let (name, token) = (&example["example"], example["token"].as_str().unwrap());
        let key = private(&example["key"]);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let header: Value = serde_json::from_slice(&decode(message.split('.').next().unwrap())).unwrap();
        let algorithm = Algorithm::from_name(header["alg"].as_str().unwrap()).unwrap();
        let signature = decode(signature);
        let public = Jwk::parse(&to_public(&example["key"]).unwrap()).unwrap();
        assert!(public.key().verifies(algorithm, message.as_bytes(), &signature), "{name}");
        assert!(!public.key().verifies(algorithm, b"another message", &signature), "{name}");
        let again = key.sign(algorithm, message.as_bytes()).unwrap();
        assert!(public.key().verifies(algorithm, message.as_bytes(), &again), "{name}");
        if matches!(algorithm, Algorithm::Rs256 | Algorithm::EdDsa) {
            assert_eq!(again, signature, "{name}");
        }
        for other in Algorithm::ALL.into_iter().filter(|other| !other.is_same_as(algorithm)) {
            assert!(!public.key().verifies(other, message.as_bytes(), &signature), "{name} {other}");
        }
    }
}

#[test]
fn thumbprints_match_the_examples_and_ignore_other_members() {
    for example in examples()["thumbprints"].as_array().unwrap() {
        let key = with(example["key"].clone(), &json!({"kid": "other", "x5t": "x"}));
        let key = PublicKey::from_members(key.as_object().unwrap()).unwrap();
        assert_eq!(key.thumbprint(), example["thumbprint"].as_str().unwrap(), "{}", example["example"]);
    }
}

#[test]
fn a_key_survives_the_round_trip_through_pem_and_jwk() {
    let made = [NewKey::Ec(Curve::P256), NewKey::Ec(Curve::P384), NewKey::Ec(Curve::P521), NewKey::Ed25519];
    let made = made.map(|what| PrivateKey::generate(what).unwrap());
    let examples = examples();
    let known = examples["signatures"].as_array().unwrap().iter().map(|example| private(&example["key"]));
    for key in known.chain(made) {
        let text = pem::private_pem(&key).unwrap();
        let Key::Private(again) = Key::from_pem(text.as_bytes()).unwrap() else { panic!("{text:?}") };
        assert_eq!(*pem::private_pem(&again).unwrap(), *text);
        let Key::Public(public) = Key::from_pem(pem::public_pem(key.public()).unwrap().as_bytes()).unwrap()
        else {
            panic!("a public key");
        };
        assert_eq!(public, *key.public());
        let algorithm = public.key_type().default_algorithm();
        let public = Jwk::new(public, "k".to_owned(), algorithm).unwrap();
        let jwk = PrivateJwk::parse(&private_jwk(&key, &public).unwrap()).unwrap();
        assert_eq!(*pem::private_pem(jwk.key()).unwrap(), *text);
        assert_eq!((jwk.kid().as_str(), jwk.algorithm()), ("k", Some(algorithm)));
        assert_eq!(Jwk::parse(&serde_json::to_value(&public).unwrap()), Ok(public));
    }
}

#[test]
fn an_rsa_key_without_its_primes_signs_the_same() {
    let whole = &examples()["signatures"][0]["key"];
    let bare = with(whole.clone(), &json!({"p": null, "q": null, "dp": null, "dq": null, "qi": null}));
    assert_eq!(private(&bare).sign(Algorithm::Rs256, b"x"), private(whole).sign(Algorithm::Rs256, b"x"));
    let some = with(whole.clone(), &json!({"qi": null}));
    let expected = PrivateKey::from_members(some.as_object().unwrap()).unwrap_err();
    assert_eq!(expected, InvalidJwk::SomePrimes);
}

#[test]
fn private_parameters_that_do_not_match_are_rejected() {
    let examples = examples();
    let [rsa, ec, ed] = [0, 1, 6].map(|at| examples["signatures"][at]["key"].clone());
    let made = private_jwk(&PrivateKey::generate(NewKey::Ed25519).unwrap(), &Jwk::parse(&any_key()).unwrap());
    let other = made.unwrap().reveal()["d"].clone();
    for (key, expected) in [
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
        assert_eq!(parse(key).unwrap_err(), expected);
    }
}

fn parse(key: Value) -> Result<PrivateJwk, InvalidJwk> {
    PrivateJwk::parse(&SecretJson::new(key))
}

#[test]
fn each_invalid_public_key_is_rejected_with_its_reason() {
    let examples = examples();
    let rsa = to_public(&examples["signatures"][0]["key"]).unwrap();
    let ec = to_public(&examples["signatures"][1]["key"]).unwrap();
    let number = |bytes: Vec<u8>| json!(URL_SAFE_NO_PAD.encode(bytes));
    let modulus = decode(rsa["n"].as_str().unwrap());
    let even = [&modulus[..modulus.len() - 1], &[0xa0]].concat();
    for (key, message) in [
        (json!([]), "a JWK must be a JSON object"),
        (json!({}), "\"kty\" is missing"),
        (json!({"kty": 1}), "\"kty\" must be a string"),
        (json!({"kty": "DSA"}), "\"kty\" is \"DSA\": use RSA, EC or OKP"),
        (
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            "this is a symmetric key (\"kty\" is \"oct\"): it has no public key, and everyone who can verify with it can also sign",
        ),
        (
            with(any_key(), &json!({"d": "c2VjcmV0"})),
            "this is a private key (it has \"d\"): get its public key with `jwksd jwk public`",
        ),
        (with(any_key(), &json!({"crv": "Ed448"})), "\"crv\" is \"Ed448\": use Ed25519"),
        (with(any_key(), &json!({"x": "AQAB"})), "\"x\" must have 32 bytes"),
        (
            with(any_key(), &json!({"x": "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
            "the point is not a valid Ed25519 public key",
        ),
        (with(any_key(), &json!({"use": "enc"})), "\"use\" is \"enc\": it must be \"sig\""),
        (with(any_key(), &json!({"key_ops": ["sign"]})), "\"key_ops\" does not contain \"verify\""),
        (with(any_key(), &json!({"key_ops": "verify"})), "\"key_ops\" does not contain \"verify\""),
        (
            with(any_key(), &json!({"alg": "ES256"})),
            "\"alg\" is \"ES256\", which does not fit an Ed25519 key: use EdDSA, Ed25519",
        ),
        (with(any_key(), &json!({"kid": ""})), "\"kid\" must have 1 to 256 bytes and no control characters"),
        (with(any_key(), &json!({"kid": 1})), "\"kid\" must be a string"),
        (
            with(ec.clone(), &json!({"crv": "secp256k1"})),
            "\"crv\" is \"secp256k1\": use P-256, P-384 or P-521",
        ),
        (with(ec.clone(), &json!({"crv": "P-384"})), "\"x\" must have 48 bytes"),
        (with(ec.clone(), &json!({"y": ec["x"]})), "the point is not a valid EC P-256 public key"),
        (
            with(rsa.clone(), &json!({"n": format!("{}==", rsa["n"].as_str().unwrap())})),
            "\"n\" must be base64url without padding",
        ),
        (
            with(rsa.clone(), &json!({"e": "AAEAAQ"})),
            "\"e\" starts with a zero byte: remove the leading zeros",
        ),
        (
            with(rsa.clone(), &json!({"n": number(modulus[..128].to_vec())})),
            "the RSA key has 1024 bits: use 2048 to 8192",
        ),
        (
            with(rsa.clone(), &json!({"n": number([modulus.as_slice(); 5].concat())})),
            "the RSA key has 10240 bits: use 2048 to 8192",
        ),
        (with(rsa.clone(), &json!({"n": number(even)})), "the RSA modulus is even"),
        (
            with(rsa.clone(), &json!({"e": "AQ"})),
            "the RSA exponent must be odd, at least 3 and at most 33 bits long: use 65537",
        ),
        (
            with(rsa, &json!({"alg": "RSA-OAEP"})),
            "\"alg\" is \"RSA-OAEP\", which does not fit an RSA key: use RS256, RS384, RS512, PS256, PS384, PS512",
        ),
    ] {
        let error = Jwk::parse(&key).unwrap_err().to_string();
        assert_eq!(error, message);
        assert!(!error.contains("c2VjcmV0"));
    }
}

#[test]
fn the_public_jwk_contains_only_members_known_to_be_public() {
    let key = with(
        examples()["signatures"][6]["key"].clone(),
        &json!({"kid": "1", "key_ops": ["sign", "verify", "deriveKey"], "password": "x"}),
    );
    assert_eq!(to_public(&key).unwrap(), with(any_key(), &json!({"kid": "1", "key_ops": ["verify"]})));
    assert!(PRIVATE_MEMBERS.iter().all(|name| to_public(&key).unwrap().get(name).is_none()));
}

#[test]
fn an_unusable_key_does_not_invalidate_its_set() {
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
fn each_invalid_pem_is_rejected_with_its_reason() {
    let short = include_str!("data/rsa-1024.pem");
    let key = pem::private_pem(&PrivateKey::generate(NewKey::Ed25519).unwrap()).unwrap();
    let relabelled = |label: &str| key.replace("PRIVATE KEY", label);
    for (text, expected) in [
        (short.to_owned(), InvalidPem::Key(InvalidJwk::RsaSize { bits: 1024 })),
        (relabelled("ENCRYPTED PRIVATE KEY"), InvalidPem::Encrypted),
        (relabelled("CERTIFICATE"), InvalidPem::Certificate),
        (relabelled("OPENSSH PRIVATE KEY"), InvalidPem::OpenSsh),
        (relabelled("PUBLIC KEY"), InvalidPem::Damaged),
        (format!("{}{}", *key, *key), InvalidPem::Several),
        ("no key".to_owned(), InvalidPem::Malformed),
    ] {
        assert_eq!(Key::from_pem(text.as_bytes()).unwrap_err(), expected);
    }
    assert!(
        Key::from_pem(format!("Key Attributes\n{}\n\n", *key).as_bytes()).is_ok(),
        "with text of OpenSSL around it"
    );
    let (certificate, parameters) = (relabelled("CERTIFICATE"), relabelled("DH PARAMETERS"));
    for bundle in [
        format!("{}{certificate}{certificate}", *key),
        format!("{certificate}{}", *key),
        format!("{parameters}{}{certificate}", *key),
    ] {
        let (read, expected) = (Key::from_pem(bundle.as_bytes()), Key::from_pem(key.as_bytes()));
        assert_eq!(read.unwrap().public(), expected.unwrap().public());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,200}", bytes in proptest::collection::vec(0_u8.., 0..200)) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let _ = Jws::parse(&text);
        let _ = Jws::parse(&format!("{}.{}.", part(text.as_bytes()), part(&bytes)));
        let _ = Key::from_pem(text.as_bytes());
        let pem = base64::engine::general_purpose::STANDARD.encode(&bytes);
        for label in ["PRIVATE KEY", "PUBLIC KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "RSA PUBLIC KEY"] {
            let lines: Vec<_> = pem.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
            let lines = lines.join("\n");
            let _ = Key::from_pem(
                format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n").as_bytes(),
            );
        }
        for kty in ["RSA", "EC", "OKP", "oct", text.as_str()] {
            for crv in ["P-256", "P-384", "P-521", "Ed25519"] {
                let number = part(&bytes);
                let key = json!({"kty": kty, "crv": crv, "n": number, "e": number, "x": number, "y": number, "d": number});
                let _ = Jwk::parse(&to_public(&key).unwrap_or(Value::Null));
                let _ = parse(key);
            }
        }
    }
}

#[test]
fn debug_shows_no_private_parameter() {
    let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
    let json = SecretJson::new(json!({"d": "x"}));
    assert_eq!(format!("{key:?} {json:?}"), "PrivateKey SecretJson");
    assert_eq!(
        format!("{:?}", PrivateJwk::from_key(key)),
        "PrivateJwk { key: PrivateKey, kid: None, algorithm: None }"
    );
}
