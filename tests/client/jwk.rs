//! `jwksd jwk`: keys are generated, saved, converted, and reduced to their public part.

use serde_json::json;

use crate::{WorkDir, examples};

#[test]
fn each_type_of_key_is_generated_and_its_public_part_printed() {
    let dir = WorkDir::new();
    for (args, kty, crv, alg) in [
        (vec![], "RSA", json!(null), "RS256"),
        (vec!["--type", "rsa", "--key-size", "3072", "--alg", "PS256"], "RSA", json!(null), "PS256"),
        (vec!["--type", "ec"], "EC", json!("P-256"), "ES256"),
        (vec!["--type", "ec", "--curve", "P-384"], "EC", json!("P-384"), "ES384"),
        (vec!["--type", "ec", "--curve", "P-521"], "EC", json!("P-521"), "ES512"),
        (vec!["--type", "ed25519"], "OKP", json!("Ed25519"), "EdDSA"),
    ] {
        let said = dir.run(&[&["jwk", "generate"], &args[..]].concat());
        assert_eq!(
            said.stderr,
            "the private key was not kept: use --save to write it to a file, or --private to print it\n"
        );
        let jwk = said.json();
        assert_eq!((&jwk["kty"], &jwk["crv"], &jwk["alg"]), (&json!(kty), &crv, &json!(alg)));
        assert_eq!((jwk["use"].as_str(), jwk.get("d")), (Some("sig"), None));
        dir.write("x.jwk", &jwk.to_string());
        let thumbprint = dir.run(&["jwk", "thumbprint", "x.jwk"]).out();
        assert_eq!(jwk["kid"], thumbprint.trim(), "the kid is the thumbprint");
        let size = jwk["n"].as_str().map(str::len);
        assert!(kty != "RSA" || size == Some(if alg == "PS256" { 512 } else { 342 }), "{size:?}");
    }
    assert_eq!(dir.files(), ["x.jwk"], "no other file is written");
}

#[test]
fn a_saved_key_is_readable_only_by_its_owner_and_overwrites_nothing() {
    let dir = WorkDir::new();
    let said = dir.run(&["jwk", "generate", "--type", "ec", "--save", "--kid", "mine"]);
    assert_eq!(said.stderr, "the private key is in mine.pem\n");
    let public = said.json();
    assert_eq!(public["kid"], "mine");
    let pem = dir.read("mine.pem");
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(dir.path().join("mine.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(dir.run(&["jwk", "from-pem", "mine.pem", "--kid", "mine"]).json(), public);

    let again = dir.run(&["jwk", "generate", "--save", "--kid", "mine"]);
    again.refused(1, "mine.pem already exists, and files are never replaced");
    assert_eq!((dir.read("mine.pem"), dir.files()), (pem, vec!["mine.pem".to_owned()]));
}

#[test]
fn invalid_options_of_generate_are_refused_before_a_key_is_generated() {
    let dir = WorkDir::new();
    let name = |kid: &str| {
        format!(
            "{kid:?} cannot be a file name: with --save, use a kid of letters, digits and . _ - that does not start with . or -"
        )
    };
    let algorithms = "use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519";
    for (args, message) in [
        (vec!["--type", "ec", "--key-size", "2048"], "--key-size is only for --type rsa".to_owned()),
        (vec!["--curve", "P-256"], "--curve is only for --type ec".to_owned()),
        (vec!["--save", "--kid", "../x"], name("../x")),
        (vec!["--save", "--kid", ".x"], name(".x")),
        (vec!["--save", "--kid="], name("")),
        (vec!["--alg", "HS256"], format!("\"HS256\" is not a supported algorithm: {algorithms}")),
        (
            vec!["--alg", "ES256"],
            "\"alg\" is \"ES256\", which does not fit an RSA key: use RS256, RS384, RS512, PS256, PS384, PS512"
                .to_owned(),
        ),
        (vec!["--kid", "a\nb"], "\"kid\" must have 1 to 256 bytes and no control characters".to_owned()),
    ] {
        dir.run(&[&["jwk", "generate"], &args[..]].concat()).refused(2, &message);
    }
    for args in [&["--type", "dsa"][..], &["--key-size", "1024"], &["--port", "1"], &["--issuer", "x"]] {
        assert_eq!(dir.run(&[&["jwk", "generate"], args].concat()).code, Some(2), "{args:?}");
    }
    dir.run(&["--port", "1", "jwk", "generate"])
        .refused(2, "--port is a setting, which this command does not read: leave it out");
    assert_eq!(dir.files(), [""; 0]);
}

#[test]
fn jwk_needs_neither_settings_nor_a_store() {
    let dir = WorkDir::new();
    dir.write(".env", "NOT_MY_KEY=two words\n");
    let env = [("PORT", "70000"), ("RUST_LOG", "("), ("NOT_MY_KEY", "x"), ("ISSUER", "x")];
    let said = dir.run_with(&["jwk", "generate", "--type", "ed25519"], &env, "");
    assert_eq!((said.code, dir.files()), (Some(0), vec![".env".to_owned()]), "{said:?}");
}

#[test]
fn thumbprints_and_public_parts_match_the_rfcs() {
    let dir = WorkDir::new();
    for example in examples()["thumbprints"].as_array().unwrap() {
        let said = dir.run_with(&["jwk", "thumbprint", "-"], &[], &example["key"].to_string());
        assert_eq!(said.out().trim(), example["thumbprint"].as_str().unwrap(), "{}", example["example"]);
    }
    let set = &examples()["set"];
    let said = dir.run_with(&["jwk", "public", "-"], &[], &set.to_string());
    assert_eq!(&said.json(), set, "a set without private members is unchanged");
    let key = &examples()["signatures"][0]["key"];
    let said = dir.run_with(&["jwk", "public", "-"], &[], &json!({"keys": [key]}).to_string());
    assert_eq!(said.json(), json!({"keys": [{"kty": "RSA", "n": key["n"], "e": "AQAB"}]}));
}

#[test]
fn the_keys_of_the_rfcs_survive_a_round_trip_through_pem() {
    let dir = WorkDir::new();
    for example in examples()["signatures"].as_array().unwrap() {
        let key = &example["key"];
        let pem = dir.run_with(&["jwk", "to-pem", "-", "--private"], &[], &key.to_string()).out();
        let jwk = dir.run_with(&["jwk", "from-pem", "-", "--private"], &[], &pem).json();
        for (name, value) in key.as_object().unwrap() {
            assert!(
                ["kid", "use"].contains(&name.as_str()) || jwk[name] == *value,
                "{} {name}",
                example["example"]
            );
        }
        let public = dir.run_with(&["jwk", "public", "-"], &[], &key.to_string()).out();
        let spki = dir.run_with(&["jwk", "to-pem", "-"], &[], &public).out();
        assert!(spki.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{spki}");
        let again = dir.run_with(&["jwk", "from-pem", "-"], &[], &spki).json();
        assert_eq!(again, dir.run_with(&["jwk", "from-pem", "-"], &[], &pem).json());
    }
}

#[test]
fn a_private_key_is_written_only_to_the_requested_place() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    dir.run(&["jwk", "to-pem", "k.jwk"]).refused(
        2,
        "k.jwk is a private key: use --output FILE to write it to a file, --private to print it, or `jwksd jwk public` to get its public key",
    );
    let said = dir.run(&["jwk", "to-pem", "k.jwk", "--output", "k.pem"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(dir.read("k.pem"), dir.run(&["jwk", "to-pem", "k.jwk", "--private"]).out());
    dir.run(&["jwk", "to-pem", "k.jwk", "--output", "k.pem"])
        .refused(1, "k.pem already exists, and files are never replaced");

    let public = dir.run(&["jwk", "from-pem", "k.pem", "--kid", "k"]).json();
    assert_eq!(public, dir.run(&["jwk", "public", "k.jwk"]).json(), "the output is the public part");
}

#[test]
fn an_invalid_key_is_refused_without_quoting_private_parameters() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let of = |text: &str, args: &[&str]| dir.run_with(args, &[], text);
    for (args, text, message) in [
        (&["jwk", "thumbprint", "-"][..], "x", "not valid JSON: expected value at line 1 column 1"),
        (
            &["jwk", "thumbprint", "-"],
            r#"{"kty":"RSA","kty":"EC"}"#,
            "not valid JSON: the member \"kty\" appears twice at line 1 column 24",
        ),
        (
            &["jwk", "thumbprint", "-"],
            r#"{"keys":[]}"#,
            "this is a JWK Set: use one key of its \"keys\", for example with `jq '.keys[0]' FILE`",
        ),
        (
            &["jwk", "public", "-"],
            r#"{"kty":"oct","k":"c2VjcmV0"}"#,
            "this is a symmetric key (\"kty\" is \"oct\"): it has no public key, and everyone who can verify with it can also sign",
        ),
        (&["jwk", "to-pem", "-"], "[]", "a JWK must be a JSON object"),
        (&["jwk", "from-pem", "-"], "x", "not a key in PEM"),
        (
            &["jwk", "from-pem", "-"],
            include_str!("../../crates/jose/tests/data/rsa-1024.pem"),
            "the RSA key has 1024 bits: use 2048 to 8192",
        ),
    ] {
        of(text, args).refused(1, &format!("cannot use standard input: {message}"));
    }
    dir.run(&["jwk", "to-pem", "k.pub", "--private"])
        .refused(1, "cannot use k.pub: this is a public key (it has no \"d\"): use the private key");
    dir.run(&["jwk", "thumbprint", "nowhere"])
        .refused(1, "cannot read nowhere: No such file or directory (os error 2)");
    let long = " ".repeat(1024 * 1024 + 1);
    of(&long, &["jwk", "thumbprint", "-"]).refused(1, "standard input is longer than 1048576 bytes");
}
