//! `Ed25519` (RFC 9864) and `EdDSA` (RFC 8037) are two names for the signatures of an Ed25519 key.

use serde_json::{Value, json};

use crate::WorkDir;

const SET: &str = include_str!("../data/ed25519-rfc9864.jwks");
const TOKEN: &str = include_str!("../data/ed25519-rfc9864.jwt");

fn verify(dir: &WorkDir, set: &str, token: &str) -> (Option<i32>, String) {
    dir.write("set.json", set);
    let said = dir.run_with(&["jwt", "verify", "--jwks-file", "set.json", "-"], &[], token);
    (said.code, said.stdout.lines().next().unwrap_or_default().to_owned())
}

fn with_alg(jwk: &str, alg: Option<&str>) -> String {
    let mut jwk: Value = serde_json::from_str(jwk).unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    if let Some(alg) = alg {
        jwk["alg"] = json!(alg);
    }
    jwk.to_string()
}

#[test]
fn a_token_and_a_key_of_another_tool_with_the_alg_ed25519_are_verified() {
    let dir = WorkDir::new();
    let valid = (Some(0), "valid".to_owned());
    assert_eq!(verify(&dir, SET, TOKEN), valid);
    assert_eq!(verify(&dir, &SET.replace("\"alg\": \"Ed25519\", ", ""), TOKEN), valid);
    let seen = dir.run_with(&["jwt", "inspect", "--json", "-"], &[], TOKEN).json();
    assert_eq!(
        seen["odd"],
        json!(["the token names no audience (no \"aud\")"]),
        "the algorithm is not reported as unsupported"
    );
    let (code, said) = verify(&dir, SET, &TOKEN.replacen("Ck", "Cg", 1).replace("66-0", "66-1"));
    assert_eq!(
        (code, said.as_str()),
        (Some(1), "invalid: the signature does not match the key, the header and the claims (bad_signature)")
    );
}

#[test]
fn each_of_the_two_names_verifies_with_a_key_of_either_name() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let (private, public) = (dir.read("k.jwk"), dir.read("k.pub"));
    for own in [Some("EdDSA"), Some("Ed25519"), None] {
        dir.write("k.jwk", &with_alg(&private, own));
        for alg in ["EdDSA", "Ed25519"] {
            let token = dir.run(&["jwt", "sign", "--key-file", "k.jwk", "--alg", alg]).out();
            let header = dir.run(&["jwt", "inspect", "--json", token.trim()]).json()["header"].clone();
            assert_eq!(header, json!({"alg": alg, "kid": "k", "typ": "JWT"}));
            for theirs in [Some("EdDSA"), Some("Ed25519"), None] {
                let set = with_alg(&public, theirs);
                assert_eq!(
                    verify(&dir, &set, &token),
                    (Some(0), "valid".to_owned()),
                    "{own:?} {alg} {theirs:?}"
                );
            }
        }
    }
    dir.write("k.jwk", &with_alg(&private, Some("Ed25519")));
    let token = dir.run(&["jwt", "sign", "--key-file", "k.jwk"]).out();
    let header = dir.run(&["jwt", "inspect", "--json", token.trim()]).json()["header"].clone();
    assert_eq!(header["alg"], "Ed25519", "a key signs under its own name");
}

#[test]
fn a_key_keeps_the_name_that_was_chosen() {
    let dir = WorkDir::new();
    let args = ["jwk", "generate", "--type", "ed25519", "--alg", "Ed25519", "--save", "--kid", "k"];
    let public = dir.run(&args).json();
    assert_eq!(public["alg"], "Ed25519");
    assert_eq!(dir.run(&["jwk", "from-pem", "k.pem", "--kid", "k", "--alg", "Ed25519"]).json(), public);
    assert_eq!(dir.run(&["jwk", "from-pem", "k.pem"]).json()["alg"], "EdDSA", "the default stays");
}

#[test]
fn the_name_ed25519_does_not_fit_other_keys() {
    let dir = WorkDir::new();
    dir.key("k", &["ec"]);
    dir.run(&["jwt", "sign", "--key-file", "k.jwk", "--alg", "Ed25519"])
        .refused(2, "--alg Ed25519 does not fit an EC P-256 key: use ES256");
    let (code, said) = verify(&dir, &with_alg(&dir.read("k.pub"), None), &TOKEN.replace("demo", "k"));
    assert_eq!(code, Some(1), "{said}");
    dir.run(&["jwk", "generate", "--alg", "Ed25519"]).refused(
        2,
        "\"alg\" is \"Ed25519\", which does not fit an RSA key: use RS256, RS384, RS512, PS256, PS384, PS512",
    );
}
