//! `jwksd jwt verify`: valid, or invalid with a code and a sentence for each reason.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::json::SecretJson;
use jwksd_jose::private_key::PrivateJwk;
use serde_json::{Value, json};

use crate::{WorkDir, examples};

const EXP: i64 = 4_000_000_000;

fn encode(part: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// A token with an empty signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

/// An issuer of arbitrarily invalid tokens, with its keys in `jwks.json`.
struct Forger {
    dir: WorkDir,
    key: PrivateJwk,
}

impl Forger {
    fn new() -> Self {
        let dir = WorkDir::new();
        dir.key("1", &["ec"]);
        dir.key("2", &["rsa"]);
        let [ec, rsa] =
            ["1.pub", "2.pub"].map(|name| serde_json::from_str::<Value>(&dir.read(name)).unwrap());
        let mut enc = ec.clone();
        (enc["kid"], enc["use"]) = (json!("enc"), json!("enc"));
        let mut weak = rsa.clone();
        (weak["kid"], weak["e"]) = (json!("weak"), json!("AQ"));
        let mut oaep = rsa.clone();
        (oaep["kid"], oaep["alg"]) = (json!("oaep"), json!("RSA-OAEP"));
        let mut private: Value = serde_json::from_str(&dir.read("1.jwk")).unwrap();
        private["kid"] = json!("private");
        let keys = json!({"keys": [ec, rsa, enc, weak, oaep, private]});
        dir.write("jwks.json", &keys.to_string());
        let key = PrivateJwk::parse(&SecretJson::parse(dir.read("1.jwk").as_bytes()).unwrap()).unwrap();
        Self { dir, key }
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = self.key.key().sign(Algorithm::Es256, message.as_bytes()).unwrap();
        format!("{message}.{}", encode(&signature))
    }

    /// Code and sentence of the refusal, after checking that text, JSON and exit status agree.
    fn refusal(&self, token: &str, args: &[&str]) -> (String, String) {
        let args = [&["jwt", "verify", "--jwks-file", "jwks.json", "-"], args].concat();
        let said = self.dir.run_with(&args, &[], token);
        assert_eq!((said.code, said.stderr.as_str()), (Some(1), ""), "{said:?}");
        let json = self.dir.run_with(&[&args[..], &["--json"]].concat(), &[], token);
        assert_eq!(json.code, Some(1));
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["valid"], false);
        let (reason, message) = (json["reason"].as_str().unwrap(), json["message"].as_str().unwrap());
        let is_about_claims =
            ["wrong_typ", "wrong_issuer", "wrong_audience", "no_exp", "expired", "not_yet_valid"]
                .contains(&reason);
        assert_eq!(
            json["claims"].is_object(),
            is_about_claims,
            "claims are shown only if the signature is valid"
        );
        let first = said.stdout.lines().next().unwrap();
        // Elapsed times are relative to now, which differs between the two runs.
        assert!(
            first == format!("invalid: {message} ({reason})") || message.contains(" ago"),
            "{first} {message}"
        );
        (reason.to_owned(), message.to_owned())
    }
}

fn header(changes: &Value) -> String {
    let mut header = json!({"alg": "ES256", "kid": "1"});
    for (name, value) in changes.as_object().unwrap() {
        header[name] = value.clone();
    }
    header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    header.to_string()
}

fn claims() -> String {
    json!({"iss": "us", "aud": ["you", "me"], "sub": "x", "exp": EXP}).to_string()
}

#[test]
fn a_valid_token_is_shown_with_the_checks_that_were_not_made() {
    let forger = Forger::new();
    let token = forger.sign(&header(&json!({"typ": "logout+jwt"})), &claims());
    let args = ["jwt", "verify", "--jwks-file", "jwks.json", "--token", &token];
    let said = forger.dir.run(&args).out();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "valid",
            "  iss was not checked: use --issuer to check it",
            "  aud was not checked: the token is for [\"you\", \"me\"]; use --audience to check it",
            "  \"typ\" is \"logout+jwt\": the token is for one purpose, which was not checked",
        ]
    );
    assert!(lines[4..].contains(&"  sub  \"x\""), "{said}");

    let token = forger.sign(&header(&json!({})), &claims());
    let args =
        ["jwt", "verify", "--jwks-file", "jwks.json", "--issuer", "us", "--audience", "me", "--json", &token];
    // The settings of a server in the same environment are not used.
    let env = [("ISSUER", "https://them"), ("AUDIENCE", "them")];
    assert_eq!(
        forger.dir.run_with(&args, &env, "").json(),
        json!({
            "valid": true, "reason": null, "message": "valid", "notes": [
                "key 3 of the set (\"enc\") was skipped: \"use\" is \"enc\": it must be \"sig\"",
                "key 4 of the set (\"weak\") was skipped: the RSA exponent must be odd, at least 3 and at most 33 bits long: use 65537",
                "key 5 of the set (\"oaep\") was skipped: \"alg\" is \"RSA-OAEP\", which does not fit an RSA key: use RS256, RS384, RS512, PS256, PS384, PS512",
                "key 6 of the set (\"private\") was skipped: this is a private key (it has \"d\"): get its public key with `jwksd jwk public`",
            ],
            "header": {"alg": "ES256", "kid": "1"},
            "claims": {"iss": "us", "aud": ["you", "me"], "sub": "x", "exp": EXP},
        })
    );
}

#[test]
fn keys_that_are_not_known_are_skipped_with_a_note_and_the_others_verify() {
    let dir = WorkDir::new();
    dir.key("k", &["ec"]);
    let token = dir.token("k", &["iss=us"]);
    let own: Value = serde_json::from_str(&dir.read("k.pub")).unwrap();
    let foreign = [
        (
            json!({"kty": "EC", "crv": "secp256k1", "kid": "eth", "x": own["x"], "y": own["y"]}),
            " (\"eth\")",
            "\"crv\" is \"secp256k1\": use P-256, P-384 or P-521",
        ),
        (json!({"kty": "OKP", "crv": "X25519", "x": own["x"]}), "", "\"crv\" is \"X25519\": use Ed25519"),
        (
            json!({"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AA"}),
            " (\"pq\")",
            "\"kty\" is \"AKP\": use RSA, EC or OKP",
        ),
        (json!({"kid": "none"}), " (\"none\")", "\"kty\" is missing"),
        (json!("key"), "", "a JWK must be a JSON object"),
    ];
    let keys: Vec<_> = foreign.iter().map(|(key, _, _)| key.clone()).chain([own]).collect();
    dir.write("set.json", &json!({"keys": keys}).to_string());
    let args = ["jwt", "verify", "--jwks-file", "set.json", "--issuer", "us", "--json", &token];
    let notes: Vec<_> = (1..)
        .zip(&foreign)
        .map(|(number, (_, kid, why))| format!("key {number} of the set{kid} was skipped: {why}"))
        .collect();
    assert_eq!(dir.run(&args).json()["notes"], json!(notes));

    let said = dir.run(&["jwk", "public", "set.json"]);
    assert_eq!(said.stderr, format!("{}\n", notes.join("\n")));
    assert_eq!(said.json(), json!({"keys": [keys[5]]}));
    let many: Vec<_> = std::iter::repeat_n(keys[1].clone(), 1000).chain([keys[5].clone()]).collect();
    dir.write("set.json", &json!({"keys": many}).to_string());
    let notes = dir.run(&args).json()["notes"].as_array().unwrap().clone();
    assert_eq!((notes.len(), &notes[20]), (21, &json!("980 more keys of the set were skipped")));
    dir.write("set.json", &json!({"keys": keys[..2]}).to_string());
    dir.run(&["jwk", "public", "set.json"])
        .refused(1, "cannot use set.json: \"crv\" is \"secp256k1\": use P-256, P-384 or P-521");
}

#[test]
fn each_untrusted_header_is_refused_for_its_own_reason() {
    let forger = Forger::new();
    let set = r#"the set has "1", "2", "enc", "weak", "oaep", "private""#;
    for (changes, reason, message) in [
        (json!({"alg": "none"}), "alg_none", "the token is not signed (\"alg\" is \"none\")".to_owned()),
        (json!({"alg": "nOnE"}), "alg_none", "the token is not signed (\"alg\" is \"none\")".to_owned()),
        (json!({"alg": "HS256"}), "alg_hmac", "HS256 uses a shared secret: with a public key as the secret, anyone could have signed the token".to_owned()),
        (json!({"alg": "es256"}), "alg_unsupported", "\"es256\" is not a supported algorithm".to_owned()),
        (json!({"alg": null}), "malformed", "the header has no \"alg\"".to_owned()),
        (json!({"alg": 1}), "malformed", "\"alg\" in the header is not a string".to_owned()),
        (json!({"jwk": {}}), "embedded_key", "the header brings its own key (\"jwk\"): an attacker could have chosen it".to_owned()),
        (json!({"jku": "https://x"}), "embedded_key", "the header brings its own key (\"jku\"): an attacker could have chosen it".to_owned()),
        (json!({"x5u": "https://x"}), "embedded_key", "the header brings its own key (\"x5u\"): an attacker could have chosen it".to_owned()),
        (json!({"x5c": []}), "embedded_key", "the header brings its own key (\"x5c\"): an attacker could have chosen it".to_owned()),
        (json!({"crit": ["b64", "x"]}), "crit", "the token requires extensions that are not supported: \"b64\", \"x\" (\"crit\")".to_owned()),
        (json!({"crit": []}), "crit", "\"crit\" must be a list of names that is not empty".to_owned()),
        (json!({"kid": null}), "no_kid", format!("the token names no key (no \"kid\"); {set}")),
        (json!({"kid": 1}), "malformed", "\"kid\" in the header is not a string".to_owned()),
        (json!({"kid": "3\u{1b}"}), "unknown_kid", format!("the token names the key \"3\\u{{1b}}\"; {set}")),
        (json!({"kid": "2"}), "alg_mismatch", "\"alg\" is ES256, but the key is only for RS256".to_owned()),
        (json!({"alg": "RS256"}), "alg_mismatch", "\"alg\" is RS256, but the key is only for ES256".to_owned()),
        (json!({"kid": "oaep"}), "alg_mismatch", "the key that the token names cannot be used: \"alg\" is \"RSA-OAEP\", which does not fit an RSA key: use RS256, RS384, RS512, PS256, PS384, PS512".to_owned()),
        (json!({"kid": "enc"}), "key_use", "the key that the token names cannot be used: \"use\" is \"enc\": it must be \"sig\"".to_owned()),
        (json!({"kid": "weak"}), "weak_key", "the key that the token names cannot be used: the RSA exponent must be odd, at least 3 and at most 33 bits long: use 65537".to_owned()),
        (json!({"kid": "private"}), "invalid_key", "the key that the token names cannot be used: this is a private key (it has \"d\"): get its public key with `jwksd jwk public`".to_owned()),
    ] {
        let token = forger.sign(&header(&changes), &claims());
        assert_eq!(forger.refusal(&token, &[]), (reason.to_owned(), message), "{changes}");
    }
}

#[test]
fn claims_are_checked_after_the_signature_and_each_is_refused_for_its_own_reason() {
    let forger = Forger::new();
    let expected = ["--issuer", "us", "--audience", "me"];
    for (changes, reason, message) in [
        (json!({"iss": "them"}), "wrong_issuer", "the issuer is \"them\", not \"us\""),
        (json!({"iss": null}), "wrong_issuer", "the token has no \"iss\"; it must be \"us\""),
        (json!({"aud": "them"}), "wrong_audience", "the token is for [\"them\"], not for \"me\""),
        (json!({"aud": null}), "wrong_audience", "the token has no \"aud\"; it must be for \"me\""),
        (json!({"exp": null}), "no_exp", "the token has no \"exp\": it never expires"),
        (json!({"nbf": EXP - 1}), "not_yet_valid", "the token is not valid before 2096-10-02T07:06:39Z, in "),
        (json!({"exp": 1_300_819_380}), "expired", "the token expired at 2011-03-22T18:43:00Z, "),
    ] {
        let mut claims: Value = serde_json::from_str(&claims()).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let token = forger.sign(&header(&json!({})), &claims.to_string());
        let (code, said) = forger.refusal(&token, &expected);
        assert_eq!(code, reason);
        assert!(said.starts_with(message), "{said}");

        let at = token.len() - 10;
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        let broken = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        let (code, said) = forger.refusal(&broken, &expected);
        assert_eq!(
            (code.as_str(), said.as_str()),
            ("bad_signature", "the signature does not match the key, the header and the claims")
        );
    }
}

#[test]
fn a_required_type_is_compared_without_case_and_without_application() {
    let forger = Forger::new();
    for (typ, required) in
        [("at+jwt", "AT+JWT"), ("application/at+jwt", "at+jwt"), ("JWT", "application/jwt")]
    {
        let token = forger.sign(&header(&json!({"typ": typ})), &claims());
        let args = ["jwt", "verify", "--jwks-file", "jwks.json", "--typ", required, &token];
        let said = forger.dir.run(&args).out();
        assert!(said.starts_with("valid\n") && !said.contains("\"typ\" is"), "{said}");
    }
    for (typ, message) in [
        (json!("JWT"), "the type is \"JWT\"; it must be \"at+jwt\""),
        (json!(1), "the header has no \"typ\"; it must be \"at+jwt\""),
        (Value::Null, "the header has no \"typ\"; it must be \"at+jwt\""),
    ] {
        let token = forger.sign(&header(&json!({"typ": typ})), &claims());
        assert_eq!(
            forger.refusal(&token, &["--typ", "at+jwt"]),
            ("wrong_typ".to_owned(), message.to_owned())
        );
    }
}

#[test]
fn claims_of_the_wrong_type_are_malformed() {
    let forger = Forger::new();
    for (claims, message) in [
        (r#"{"exp":"4000000000"}"#, "\"exp\" is not a time in seconds since 1970"),
        (r#"{"exp":4000000000,"nbf":true}"#, "\"nbf\" is not a time in seconds since 1970"),
        (r#"{"exp":4000000000,"iss":1}"#, "\"iss\" is not a string"),
        (r#"{"exp":4000000000,"aud":[1]}"#, "\"aud\" is neither a string nor a list of strings"),
    ] {
        let token = forger.sign(&header(&json!({})), claims);
        let args = ["jwt", "verify", "--jwks-file", "jwks.json", "--token", &token];
        let said = forger.dir.run(&args);
        let first = said.stdout.lines().next().unwrap().to_owned();
        assert_eq!((said.code, first), (Some(1), format!("invalid: {message} (malformed)")));
    }
}

#[test]
fn ambiguous_input_is_malformed() {
    let forger = Forger::new();
    let good = forger.sign(&header(&json!({})), &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let twice = "not valid JSON: the member";
    for (token, words) in [
        (String::new(), "there is no token".to_owned()),
        ("a".to_owned(), "a token has three parts separated by dots, but this one has 1".to_owned()),
        (
            format!("Bearer {good}"),
            "the token contains white space: remove it, and any \"Bearer\" before the token".to_owned(),
        ),
        (
            "a.b.c.d.e".to_owned(),
            "the token is encrypted (a JWE with five parts): decrypt it and verify the token inside"
                .to_owned(),
        ),
        (format!("{message}.{signature}="), "the signature is not base64url without padding".to_owned()),
        (format!("!{good}"), "the header is not base64url without padding".to_owned()),
        (
            forger.sign(r#"{"alg":"none","alg":"ES256"}"#, "{}"),
            format!("the header is invalid: {twice} \"alg\" appears twice at line 1 column 28"),
        ),
        (forger.sign("[]", "{}"), "the header is invalid: not a JSON object".to_owned()),
        (
            forger.sign(&header(&json!({})), r#"{"exp":1,"exp":4000000000}"#),
            format!("the payload is invalid: {twice} \"exp\" appears twice at line 1 column 26"),
        ),
        (forger.sign(&header(&json!({})), "4"), "the payload is invalid: not a JSON object".to_owned()),
    ] {
        assert_eq!(forger.refusal(&token, &[]), ("malformed".to_owned(), words));
    }
}

#[test]
fn leeway_and_ignore_exp_change_only_the_time_checks() {
    let forger = Forger::new();
    let dir = &forger.dir;
    let verdict = |token: &str, args: &[&str]| {
        let args = [&["jwt", "verify", "--jwks-file", "jwks.json", "--issuer", "us", token], args].concat();
        let said = dir.run(&args);
        (said.code, said.stdout.lines().take(2).collect::<Vec<_>>().join("\n"))
    };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let past = dir.token("1", &["iss=us", &format!("exp={}", now - 30)]);
    assert_eq!(verdict(&past, &[]).0, Some(1));
    assert_eq!(verdict(&past, &["--leeway", "10s"]).0, Some(1));
    assert_eq!(verdict(&past, &["--leeway", "10m"]).0, Some(0));
    let (code, said) = verdict(&past, &["--ignore-exp"]);
    assert!(
        code == Some(0)
            && said.starts_with("valid\n  the token expired at ")
            && said.ends_with(" ago (--ignore-exp)"),
        "{said}"
    );
    let early = dir.token("1", &["iss=us", &format!("nbf={}", now + 300)]);
    assert_eq!((verdict(&early, &[]).0, verdict(&early, &["--leeway", "10m"]).0), (Some(1), Some(0)));
    let ahead = dir.token("1", &["iss=us", &format!("iat={}", now + 300)]);
    let (code, said) = verdict(&ahead, &[]);
    assert!(
        code == Some(0) && said.contains("the token says that it was issued in the future: "),
        "odd, and no more: {said}"
    );
    assert_eq!(dir.run(&["jwt", "verify", "--leeway", "soon", "x"]).code, Some(2));
}

#[test]
fn a_single_trusted_key_needs_no_kid_and_accepts_no_other() {
    let forger = Forger::new();
    let one = ["jwt", "verify", "--jwks-file", "1.pub", "--issuer", "us", "--audience", "me"];
    let verify = |token: &str| forger.dir.run(&[&one[..], &[token]].concat());
    let said = verify(&forger.sign(&header(&json!({"kid": null})), &claims())).out();
    assert!(
        said.starts_with("valid\n  the token names no key (no \"kid\"): the given key was used\nheader\n"),
        "{said}"
    );
    let said = verify(&forger.sign(&header(&json!({"kid": "2"})), &claims()));
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.starts_with(
            "invalid: the token names the key \"2\", but the trusted key is \"1\" (unknown_kid)\n"
        )
    );
}

#[test]
fn the_signatures_of_the_rfc_examples_are_valid() {
    let dir = WorkDir::new();
    for example in examples()["signatures"].as_array().unwrap() {
        let public = dir.run_with(&["jwk", "public", "-"], &[], &example["key"].to_string()).out();
        dir.write("key.jwk", &public);
        let token = example["token"].as_str().unwrap();
        let said = dir.run(&["jwt", "verify", "--jwks-file", "key.jwk", "--ignore-exp", token]);
        let first = said.stdout.lines().next().unwrap();
        // Only two of them sign claims; the others are refused after the signature check.
        let is_jwt = ["RFC 7515 §A.2", "RFC 7515 §A.3"].iter().any(|name| example["example"] == *name);
        if is_jwt {
            assert_eq!((said.code, first), (Some(0), "valid"), "{}", example["example"]);
        } else {
            assert!(first.starts_with("invalid: the payload is invalid: "), "{first}");
        }
    }
}

#[test]
fn untrusted_text_is_escaped_before_it_reaches_the_terminal() {
    let forger = Forger::new();
    let token = unsigned(&json!({"alg": "none", "x\u{1b}[2J": "\u{202e}"}), &json!({"sub": "\u{9b}31m"}));
    for args in [
        &["verify", "--jwks-file", "jwks.json"][..],
        &["verify", "--jwks-file", "jwks.json", "--json"],
        &["inspect"],
        &["inspect", "--json"],
    ] {
        let said = forger.dir.run(&[&["jwt"], args, &[&token]].concat());
        let is_plain = |text: &str| text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}'));
        assert!(is_plain(&said.stdout) && is_plain(&said.stderr), "{said:?}");
        assert!(said.stdout.contains("\\u001b[2J"), "{said:?}");
    }
}
