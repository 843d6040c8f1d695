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
use crate::support::Server;

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

/// Verifies a token through the key set of its server, with `rsa` or jsonwebtoken, by the `alg` of the published key.
fn expect_verified_by_another_library(dir: &WorkDir, set: &Value, token: &str) {
    let header: Value = {
        let header = token.split('.').next().unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
    };
    let jwk = set["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == header["kid"]).unwrap();
    let alg = jwk["alg"].as_str().unwrap();
    assert_eq!(header["alg"], alg);
    let (message, signature) = parts(token);
    let message = message.as_bytes();
    dir.write("published.jwk", &jwk.to_string());
    let pem = || dir.run(&["jwk", "to-pem", "published.jwk"]).out();
    macro_rules! rsa {
        ($scheme:ident, $hash:ty) => {{
            let key = $scheme::VerifyingKey::<$hash>::new(RsaPublicKey::from_public_key_pem(&pem()).unwrap());
            key.verify(message, &$scheme::Signature::try_from(signature.as_slice()).unwrap()).unwrap();
        }};
    }
    match alg {
        "RS256" => rsa!(pkcs1v15, Sha256),
        "RS384" => rsa!(pkcs1v15, Sha384),
        "RS512" => rsa!(pkcs1v15, Sha512),
        "PS256" => rsa!(pss, Sha256),
        "PS384" => rsa!(pss, Sha384),
        "PS512" => rsa!(pss, Sha512),
        _ => {
            let key = DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
            let validation = Validation::new(alg.parse().unwrap());
            jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
        }
    }
}

#[tokio::test]
async fn tokens_of_all_algorithms_verify_before_during_and_after_each_change() {
    let dir = WorkDir::new();
    let env = [("AUTH_MODE", "open"), ("AUTH_RATE_LIMIT", "0")];
    let server = Server::start(dir.path(), &env);
    let client = reqwest::Client::new();
    let get = async |path: &str| {
        client.get(format!("{}{path}", server.url)).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let token = async || {
        let answer = client.post(format!("{}/auth", server.url)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    };
    let mut tokens = vec![token().await];
    for alg in ["RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "RS256"] {
        let next = dir.run(&["keys", "rotate", "--key-alg", alg]);
        assert_eq!(next.code, Some(0), "{next:?}");
        let published = async || get("/jwks").await["keys"].as_array().unwrap().len();
        while published().await <= tokens.len() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // The next key is published and does not sign yet.
        let during = token().await;
        assert_eq!(during.split('.').next(), tokens.last().unwrap().split('.').next());
        assert_eq!(dir.run(&["keys", "rotate", "--now", "--key-alg", alg]).code, Some(0));
        let mut after = token().await;
        while after.split('.').next() == during.split('.').next() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            after = token().await;
        }
        tokens.push(after);
        let set = get("/jwks").await;
        for token in tokens.iter().chain([&during]) {
            expect_verified_by_another_library(&dir, &set, token);
            let args = ["jwt", "verify", "--issuer", &server.url, token];
            assert_eq!(dir.run(&args).code, Some(0), "{alg}");
        }
    }
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
