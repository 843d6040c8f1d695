//! `jwksd jwt sign` and `jwt inspect`.

use serde_json::{Value, json};

use crate::{WorkDir, examples};

#[test]
fn a_signed_token_has_the_given_claims_and_those_that_verifiers_need() {
    let dir = WorkDir::new();
    dir.key("k", &["ec"]);
    let payload = r#"{"sub":"me","roles":["a"]}"#;
    let args = [
        "jwt",
        "sign",
        "--key-file",
        "k.jwk",
        "--payload",
        "-",
        "--claim",
        "iss=https://us",
        "--claim",
        "n=1",
        "--ttl",
        "1h",
    ];
    let token = dir.run_with(&args, &[], payload).out();
    let seen = dir.run(&["jwt", "inspect", "--json", token.trim()]).json();
    assert_eq!(seen["header"], json!({"alg": "ES256", "kid": "k", "typ": "JWT"}));
    let claims = &seen["claims"];
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!((exp - iat, jti.len()), (3600, 36));
    let expected =
        json!({"sub": "me", "roles": ["a"], "iss": "https://us", "n": 1, "iat": iat, "exp": exp, "jti": jti});
    assert_eq!(*claims, expected);
}

#[test]
fn each_key_format_signs_the_same_and_the_kid_is_given_read_or_computed() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    dir.run(&["jwk", "to-pem", "k.jwk", "--output", "k.pem"]).out();
    let thumbprint = dir.run(&["jwk", "thumbprint", "k.jwk"]).out();
    let claims = ["--claim", "iat=1", "--claim", "exp=2", "--claim", "jti=x"];
    let sign = |file: &str, kid: &[&str]| {
        dir.run(&[&["jwt", "sign", "--key-file", file], &claims[..], kid].concat()).out()
    };
    assert_eq!(sign("k.pem", &["--kid", "k"]), sign("k.jwk", &[]), "Ed25519 signatures are deterministic");
    let seen = dir.run(&["jwt", "inspect", "--json", sign("k.pem", &[]).trim()]).json();
    assert_eq!(seen["header"]["kid"], thumbprint.trim());
}

#[test]
fn a_token_is_saved_to_a_file_that_only_its_owner_can_read() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let args = ["jwt", "sign", "--key-file", "k.jwk", "--output", "token"];
    let said = dir.run(&args);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""));
    let token = dir.read("token");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(dir.path().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    dir.run(&args).refused(1, "token already exists, and files are never replaced");
    assert_eq!(dir.read("token"), token);
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_a_warning() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(dir.path().join("k.jwk"), open).unwrap();
    let said = dir.run(&["jwt", "sign", "--key-file", "k.jwk"]);
    assert_eq!(said.stderr, "warning: other users can read k.jwk: run `chmod 600 k.jwk`\n");
    assert_eq!(said.code, Some(0));
}

#[test]
fn invalid_claims_and_keys_are_refused() {
    let dir = WorkDir::new();
    dir.key("k", &["ec"]);
    dir.write("list.json", "[]");
    dir.write("twice.json", r#"{"sub":"a","sub":"b"}"#);
    dir.write("enc.jwk", &dir.read("k.jwk").replace("\"sig\"", "\"enc\""));
    let strict = "not valid JSON:";
    for (code, file, args, message) in [
        (
            2,
            "k.jwk",
            &["--alg", "RS256"][..],
            "--alg RS256 does not fit an EC P-256 key: use ES256".to_owned(),
        ),
        (
            2,
            "k.jwk",
            &["--claim", "sub=1"],
            "the claim \"sub\" must be a string: use --claim 'sub=\"…\"'".to_owned(),
        ),
        (
            2,
            "k.jwk",
            &["--claim", "exp=9", "--ttl", "1m"],
            "both --ttl and the claim \"exp\" are given: use only one".to_owned(),
        ),
        (2, "k.jwk", &["--claim", "a=1", "--claim", "a=2"], "the claim \"a\" is given twice".to_owned()),
        (2, "k.jwk", &["--claim", "a"], "--claim \"a\": use name=value".to_owned()),
        (2, "k.jwk", &["--ttl", "0"], "--ttl is 0: use at least 1s".to_owned()),
        (2, "-", &["--payload", "-"], "--key-file and --payload cannot both be standard input".to_owned()),
        (1, "k.jwk", &["--payload", "list.json"], "cannot use list.json: not a JSON object".to_owned()),
        (
            1,
            "k.jwk",
            &["--payload", "twice.json"],
            format!("cannot use twice.json: {strict} the member \"sub\" appears twice at line 1 column 21"),
        ),
        (
            1,
            "k.pub",
            &[],
            "cannot use k.pub: this is a public key (it has no \"d\"): use the private key".to_owned(),
        ),
        (1, "enc.jwk", &[], "cannot use enc.jwk: \"use\" is \"enc\": it must be \"sig\"".to_owned()),
    ] {
        dir.run(&[&["jwt", "sign", "--key-file", file], args].concat()).refused(code, &message);
    }
    dir.key("r", &["rsa"]);
    dir.run(&["jwt", "sign", "--key-file", "r.jwk", "--alg", "PS256"])
        .refused(2, "--alg PS256: the key is only for RS256");
}

#[test]
fn inspect_shows_a_token_in_readable_form_with_its_oddities() {
    let dir = WorkDir::new();
    let token = examples()["signatures"][0]["token"].as_str().unwrap().to_owned();
    let said = dir.run_with(&["jwt", "inspect", "-"], &[], &format!("{token}\n")).out();
    let (shown, odd) = said.split_once("odd\n").unwrap();
    let (before, after) = shown.split_once(" (2011-03-22T18:43:00Z, ").unwrap();
    assert_eq!(
        before,
        "not verified: anyone could have written this\nheader\n  alg  \"RS256\"\nclaims\n  exp                         1300819380 "
    );
    assert!(
        after.ends_with(" ago)\n  http://example.com/is_root  true\n  iss                         \"joe\"\n"),
        "{after}"
    );
    assert!(
        odd.starts_with(
            "  the token names no key (no \"kid\")\n  the token names no audience (no \"aud\")\n  the token expired "
        ),
        "{odd}"
    );
}

#[test]
fn inspect_names_each_oddity() {
    let dir = WorkDir::new();
    let odd = |header: Value, claims: Value| {
        let token = crate::verify::unsigned(&header, &claims);
        let seen = dir.run(&["jwt", "inspect", "--json", "--token", &token]).json();
        assert_eq!(seen["verified"], false);
        seen["odd"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let fine = json!({"iss": "x", "aud": "y", "iat": 4_000_000_000_i64 - 60, "exp": 4_000_000_000_i64});
    let with = |changes: Value| {
        let mut claims = fine.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let header = json!({"alg": "RS256", "kid": "1"});
    for (header, claims, line) in [
        (json!({"alg": "none", "kid": "1"}), fine.clone(), "the token is not signed (\"alg\" is \"none\")"),
        (
            json!({"alg": "RS256", "kid": "1", "jku": "x"}),
            fine.clone(),
            "the header brings its own key (\"jku\"), which verifiers must not use",
        ),
        (
            json!({"alg": "RS256", "kid": "1", "crit": ["b64"]}),
            fine.clone(),
            "the header has \"crit\": only verifiers that support the listed extensions may accept the token",
        ),
        (json!({"alg": "RS256", "kid": 1}), fine.clone(), "\"kid\" is not a string"),
        (
            json!({"alg": "RS256", "kid": "1", "typ": "logout+jwt"}),
            fine.clone(),
            "\"typ\" is \"logout+jwt\": the token is for one purpose, which was not checked",
        ),
        (header.clone(), json!({}), "the token never expires (no \"exp\")"),
        (header.clone(), with(json!({"exp": "4000000000"})), "\"exp\" is not a time in seconds since 1970"),
        (
            header.clone(),
            with(json!({"exp": 4_000_000_000_000_i64})),
            "\"exp\" looks like milliseconds: it must be in seconds",
        ),
        (header.clone(), with(json!({"iat": 4_100_000_000_i64})), "the token expired before it was issued"),
        (
            header.clone(),
            with(json!({"iat": 3_999_000_000_i64})),
            "the token has a long lifetime: 11days 13h from \"iat\" to \"exp\"",
        ),
        (
            header.clone(),
            with(json!({"nbf": 4_000_000_000_i64})),
            "the token is never valid: \"nbf\" is not before \"exp\"",
        ),
    ] {
        let found = odd(header, claims);
        assert!(found.iter().any(|found| found == line), "{line}: {found:?}");
    }
}

#[test]
fn an_invalid_token_cannot_be_inspected() {
    let dir = WorkDir::new();
    dir.run(&["jwt", "inspect", "a.b"])
        .refused(1, "cannot read the token: a token has three parts separated by dots, but this one has 2");
    assert_eq!(dir.run(&["jwt", "inspect"]).code, Some(2), "the token is missing");
}
