//! Other libraries verify our signatures, and we verify theirs.
//!
//! RSA by the `rsa` crate and ES512 by the `p521` crate, which share no code with ours; the other curves by jsonwebtoken.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::rand_core::OsRng;
use rsa::sha2::{Sha256, Sha384, Sha512};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _, Verifier as _};
use rsa::{RsaPrivateKey, RsaPublicKey, pkcs1v15, pss};
use serde_json::{Value, json};

use crate::WorkDir;

/// An `exp` that no test run reaches.
const EXP: i64 = 4_000_000_000;

fn parts(token: &str) -> (&str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    (message, URL_SAFE_NO_PAD.decode(signature).unwrap())
}

fn unsigned(alg: &str) -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(json!({"alg": alg, "kid": "k"})), encode(json!({"iss": "them", "exp": EXP})))
}

fn expect_valid(dir: &WorkDir, token: &str) {
    let said = dir.run(&["jwt", "verify", "--jwks-file", "k.pub", "--issuer", "them", token]);
    assert_eq!((said.code, said.stdout.lines().next()), (Some(0), Some("valid")), "{said:?}");
}

#[test]
fn rsa_signatures_verify_both_ways_for_each_algorithm() {
    let dir = WorkDir::new();
    dir.key("k", &["rsa"]);
    // Without an "alg", an RSA key can sign with every RSA algorithm.
    for name in ["k.jwk", "k.pub"] {
        let mut key: Value = serde_json::from_str(&dir.read(name)).unwrap();
        key.as_object_mut().unwrap().remove("alg");
        dir.write(name, &key.to_string());
    }
    let public = RsaPublicKey::from_public_key_pem(&dir.run(&["jwk", "to-pem", "k.pub"]).out()).unwrap();
    let private =
        RsaPrivateKey::from_pkcs8_pem(&dir.run(&["jwk", "to-pem", "k.jwk", "--private"]).out()).unwrap();
    let ours = |alg: &str| {
        let args = ["jwt", "sign", "--key-file", "k.jwk", "--alg", alg, "--claim", "sub=me"];
        dir.run(&args).out().trim().to_owned()
    };
    let theirs = |alg: &str, sign: &dyn Fn(&[u8]) -> Box<[u8]>| {
        let message = unsigned(alg);
        let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
        expect_valid(&dir, &format!("{message}.{signature}"));
    };
    macro_rules! both_ways {
        ($hash:ty, $pkcs1:literal, $pss:literal) => {
            let token = ours($pkcs1);
            let (message, signature) = parts(&token);
            let signature = pkcs1v15::Signature::try_from(signature.as_slice()).unwrap();
            let key = pkcs1v15::VerifyingKey::<$hash>::new(public.clone());
            key.verify(message.as_bytes(), &signature).unwrap();
            let key = pkcs1v15::SigningKey::<$hash>::new(private.clone());
            theirs($pkcs1, &|message| key.sign(message).to_bytes());

            let token = ours($pss);
            let (message, signature) = parts(&token);
            let signature = pss::Signature::try_from(signature.as_slice()).unwrap();
            let key = pss::VerifyingKey::<$hash>::new(public.clone());
            key.verify(message.as_bytes(), &signature).unwrap();
            let key = pss::SigningKey::<$hash>::new(private.clone());
            theirs($pss, &|message| key.sign_with_rng(&mut OsRng, message).to_bytes());
        };
    }
    both_ways!(Sha256, "RS256", "PS256");
    both_ways!(Sha384, "RS384", "PS384");
    both_ways!(Sha512, "RS512", "PS512");
}

#[test]
fn signatures_on_curves_verify_both_ways() {
    for (kind, algorithm) in [
        (&["ec", "--curve", "P-256"][..], Algorithm::ES256),
        (&["ec", "--curve", "P-384"], Algorithm::ES384),
        (&["ed25519"], Algorithm::EdDSA),
    ] {
        let dir = WorkDir::new();
        dir.key("k", kind);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_str(&dir.read("k.pub")).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&["us"]);
        validation.set_audience(&["you"]);
        let token = dir.token("k", &["iss=us", "aud=you", "n=1"]);
        let read = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation);
        let read = read.unwrap();
        assert_eq!((read.claims["n"].as_i64(), read.header.kid.as_deref()), (Some(1), Some("k")));

        let pem = dir.run(&["jwk", "to-pem", "k.jwk", "--private"]).out();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            _ => EncodingKey::from_ec_der(&der),
        };
        let header = Header { kid: Some("k".to_owned()), ..Header::new(algorithm) };
        let token = jsonwebtoken::encode(&header, &json!({"iss": "them", "exp": EXP}), &key).unwrap();
        expect_valid(&dir, &token);
    }
}

#[test]
fn es512_signatures_verify_both_ways() {
    use p521::ecdsa::signature::{Signer, Verifier};
    use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
    use p521::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
    let dir = WorkDir::new();
    dir.key("k", &["ec", "--curve", "P-521"]);
    let public = p521::PublicKey::from_public_key_pem(&dir.run(&["jwk", "to-pem", "k.pub"]).out()).unwrap();
    let token = dir.token("k", &["iss=us"]);
    let (message, signature) = parts(&token);
    let signature = Signature::from_slice(&signature).unwrap();
    Verifier::verify(&VerifyingKey::from(public), message.as_bytes(), &signature).unwrap();

    let pem = dir.run(&["jwk", "to-pem", "k.jwk", "--private"]).out();
    let private = SigningKey::from(p521::SecretKey::from_pkcs8_pem(&pem).unwrap());
    let message = unsigned("ES512");
    let signature: Signature = Signer::sign(&private, message.as_bytes());
    expect_valid(&dir, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())));
}
