//! What each algorithm costs: generating a key, signing a token and verifying it, and the bytes of a token and of a JWK.
//!
//! `cargo bench --bench algorithms` prints the table of `docs/keys.md`. On one thread; the median of all runs.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwksd_jose::algorithm::{Algorithm, Curve};
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};

const SIGNATURES: usize = 2000;

/// The header without `alg`, and claims of a usual length.
const CLAIMS: &str = r#"{"iss":"https://id.example.com","sub":"alice","uid":17,"aud":"https://api.example.com","iat":1800000000,"exp":1800000900,"jti":"b1f1f3a0-7c1c-4f3e-9a53-0d2f6c8e3b11"}"#;

fn main() {
    println!("| `KEY_ALG` | generate | sign | verify | token | JWK |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (algorithm, new, name) in [
        (Algorithm::Rs256, NewKey::Rsa2048, "RS256, 2048 bits"),
        (Algorithm::Rs256, NewKey::Rsa3072, "RS256, 3072 bits"),
        (Algorithm::Rs256, NewKey::Rsa4096, "RS256, 4096 bits"),
        (Algorithm::Ps256, NewKey::Rsa2048, "PS256, 2048 bits"),
        (Algorithm::Es256, NewKey::Ec(Curve::P256), "ES256"),
        (Algorithm::Es384, NewKey::Ec(Curve::P384), "ES384"),
        (Algorithm::EdDsa, NewKey::Ed25519, "EdDSA"),
    ] {
        println!("{}", row(algorithm, new, name));
    }
}

fn row(algorithm: Algorithm, new: NewKey, name: &str) -> String {
    let is_rsa = matches!(new, NewKey::Rsa2048 | NewKey::Rsa3072 | NewKey::Rsa4096);
    let generate = median(if is_rsa { 31 } else { 501 }, || PrivateKey::generate(new).unwrap());
    let key = PrivateKey::generate(new).unwrap();
    let header = format!(r#"{{"alg":"{algorithm}","kid":"17","typ":"JWT"}}"#);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(CLAIMS));
    let sign = median(SIGNATURES, || key.sign(algorithm, message.as_bytes()).unwrap());
    let signature = key.sign(algorithm, message.as_bytes()).unwrap();
    let verify = median(SIGNATURES, || {
        assert!(key.public().verifies(algorithm, message.as_bytes(), &signature));
    });
    let token = message.len() + 1 + URL_SAFE_NO_PAD.encode(&signature).len();
    let jwk = Jwk::new(key.public().clone(), "17".to_owned(), algorithm).unwrap();
    let jwk = serde_json::to_vec(&jwk).unwrap().len();
    format!(
        "| {name} | {} | {} | {} | {token} bytes | {jwk} bytes |",
        shown(generate),
        shown(sign),
        shown(verify)
    )
}

fn median<T>(times: usize, run: impl Fn() -> T) -> Duration {
    let mut measured: Vec<_> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            black_box(run());
            begun.elapsed()
        })
        .collect();
    measured.sort();
    measured[times / 2]
}

fn shown(time: Duration) -> String {
    if time >= Duration::from_millis(10) {
        format!("{:.0} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.0} µs", time.as_secs_f64() * 1e6)
    }
}
