//! Open mode as a test issuer: tokens with requested claims, and tokens that must be refused.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use jwksd_core::key::{KeyProfile, KeySpec, Kid, KidFormat};
use jwksd_http::AuthMode;
use jwksd_jose::algorithm as jose;
use jwksd_jose::pem::public_pem;
use jwksd_jose::public_key::PublicKey;
use serde_json::{Value, json};

use crate::helpers::{ISSUER, Setup, TestApp, TestResponse, algorithm, decode, verify};

const AUDIENCE: &str = "https://api.example";

async fn open() -> TestApp {
    TestApp::with(Setup { auth_mode: AuthMode::Open, audience: Some(AUDIENCE), ..Setup::default() }).await
}

async fn open_with(algorithm: jose::Algorithm) -> TestApp {
    let spec = KeySpec { profile: KeyProfile { algorithm, ..KeyProfile::default() }, ..KeySpec::default() };
    TestApp::with(Setup { auth_mode: AuthMode::Open, audience: Some(AUDIENCE), spec, ..Setup::default() })
        .await
}

async fn ask(app: &TestApp, query: &str, body: Value) -> TestResponse {
    TestResponse::send(app.post(&format!("/auth{query}")).json(&body)).await
}

#[tokio::test]
async fn a_client_chooses_subject_audience_lifetime_and_claims() {
    let app = open().await;
    let overrides = json!({
        "sub": "alice", "aud": ["a", "b"], "ttl": "2h", "claims": {"roles": ["admin"], "nbf": 1, "deep": {"x": null}},
    });
    let claims = verify(&ask(&app, "", overrides).await.token(), &app.jwks().await).unwrap();
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    let expected = json!({
        "iss": ISSUER, "sub": "alice", "aud": ["a", "b"], "iat": app.now(), "exp": app.now() + 7200,
        "jti": claims["jti"], "roles": ["admin"], "nbf": 1, "deep": {"x": null},
    });
    assert_eq!((claims, exp - iat), (expected, 7200));

    let form = [("sub", "bob"), ("aud", "c"), ("ttl", "90"), ("claims", r#"{"scope":"read"}"#)];
    let claims = decode(&TestResponse::send(app.post("/auth").form(&form)).await.token()).1;
    assert_eq!(
        (&claims["sub"], &claims["aud"], &claims["scope"]),
        (&json!("bob"), &json!("c"), &json!("read"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 90);

    // JSON does not distinguish integers from floats.
    let claims = decode(&ask(&app, "", json!({"ttl": 90.0})).await.token()).1;
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 90);

    let claims = decode(&ask(&app, "", json!({"username": "carol", "password": "x"})).await.token()).1;
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("carol"), &json!(AUDIENCE)));
    let claims = decode(&ask(&app, "?expired", json!({"ttl": 60, "sub": "dave"})).await.token()).1;
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert!(claims["exp"].as_i64().unwrap() < app.now());
}

#[tokio::test]
async fn invalid_overrides_are_refused_with_the_reason() {
    let app = open().await;
    let most = 24 * 3600;
    let ttl = "`ttl` must be a number of seconds, or a text such as 90s or 15m";
    for (overrides, sentence) in [
        (
            json!({"claims": {"iss": "x"}}),
            "`claims` cannot be taken: the claim \"iss\" is set by the issuer; sub, aud and ttl have fields of their own",
        ),
        (
            json!({"claims": {"exp": 1}}),
            "`claims` cannot be taken: the claim \"exp\" is set by the issuer; sub, aud and ttl have fields of their own",
        ),
        (
            json!({"claims": {"nbf": "soon"}}),
            "`claims` cannot be taken: the claim nbf must be a number of seconds since 1970",
        ),
        (json!({"ttl": 0}), ttl),
        (json!({"ttl": -1}), ttl),
        (json!({"ttl": 1.5}), ttl),
        (json!({"ttl": "soon"}), ttl),
        (
            json!({"ttl": most + 1}),
            &format!(
                "`ttl` is too long: a token may live for at most {most} s now, because it never outlives its key"
            ),
        ),
        (
            json!({"sub": "a", "username": "x".repeat(256)}),
            "The subject may have at most 255 characters, and no control characters",
        ),
        (json!({"sub": "a\u{7}"}), "The subject may have at most 255 characters, and no control characters"),
    ] {
        ask(&app, "", overrides.clone()).await.expect_error(400, "invalid_body", sentence);
    }
    for overrides in [json!({"aud": 1}), json!({"claims": []}), json!({"exp": 1}), json!({"sub": 1})] {
        let answer = ask(&app, "", overrides.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json["code"]),
            (400, &json!("invalid_body")),
            "{overrides}"
        );
    }
    assert_eq!(ask(&app, "", json!({"ttl": most})).await.status, 200);
}

#[tokio::test]
async fn password_mode_takes_no_overrides_and_issues_no_fault_tokens() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    let overrides = json!({"username": "alice", "password": password, "sub": "root"});
    assert_eq!(ask(&app, "", overrides).await.json["code"], "invalid_body");
    let credentials = json!({"username": "alice", "password": password});
    ask(&app, "?fault=expired", credentials).await.expect_error(
        403,
        "faults_closed",
        "Tokens with faults are issued only in open mode",
    );
    assert_eq!(app.count("auth_logs").await, 0);
}

/// The names in GET /faults.
async fn names(app: &TestApp) -> Vec<String> {
    let listing = app.get("/faults").await;
    assert_eq!(listing.status, 200);
    let faults = listing.json["faults"].as_array().unwrap();
    for fault in faults {
        assert!(fault["description"].as_str().unwrap().ends_with('.'), "{fault}");
        assert!(fault["reference"].as_str().unwrap().starts_with("RFC "), "{fault}");
    }
    faults.iter().map(|fault| fault["name"].as_str().unwrap().to_owned()).collect()
}

/// A strict verifier on another library: only the algorithm of the published key, with the published key of that `kid`, all claims checked.
async fn judge(app: &TestApp, token: &str) -> Result<Value, String> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
    let kid = header.kid.ok_or("no kid")?;
    let jwks = app.jwks().await;
    let key = jwks.find(&kid).ok_or("unknown kid")?;
    let mut validation = Validation::new(algorithm(key));
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // jsonwebtoken reads the system clock, and the test has its own: times are checked below.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation)
        .map_err(|error| match error.kind() {
            ErrorKind::MissingRequiredClaim(claim) => format!("no {claim}"),
            _ => error.to_string(),
        })?
        .claims;
    if claims["exp"].as_i64().unwrap() <= app.now() {
        return Err("expired".to_owned());
    }
    if claims["nbf"].as_i64().is_some_and(|nbf| nbf > app.now()) {
        return Err("not yet valid".to_owned());
    }
    if header.crit.is_some() {
        return Err("crit".to_owned());
    }
    Ok(claims)
}

#[tokio::test]
async fn another_library_refuses_every_fault_for_its_own_reason() {
    // An EC key, because two of the faults are faults of such tokens only.
    let app = open_with(jose::Algorithm::Es256).await;
    app.keyring.rotate(true).await.unwrap();
    app.keyring.revoke(Kid(1)).await.unwrap();
    let good = ask(&app, "", json!({})).await.token();
    judge(&app, &good).await.unwrap();
    let reasons = [
        ("alg-hs256-with-public-der", "InvalidAlgorithm"),
        ("alg-hs256-with-public-jwk", "InvalidAlgorithm"),
        ("alg-hs256-with-public-key", "InvalidAlgorithm"),
        ("alg-hs256-with-public-raw", "InvalidAlgorithm"),
        ("alg-none", "unknown variant `none`"),
        ("bad-signature", "InvalidSignature"),
        ("crit-unknown", "crit"),
        ("der-signature", "InvalidSignature"),
        ("embedded-jwk", "InvalidSignature"),
        ("expired", "expired"),
        ("no-exp", "no exp"),
        ("no-kid", "no kid"),
        ("not-yet-valid", "not yet valid"),
        ("revoked-key", "unknown kid"),
        ("unknown-kid", "unknown kid"),
        ("wrong-audience", "InvalidAudience"),
        ("wrong-curve", "InvalidAlgorithm"),
        ("wrong-issuer", "InvalidIssuer"),
    ];
    assert_eq!(names(&app).await, reasons.map(|(name, _)| name));
    for (name, reason) in reasons {
        let token = ask(&app, &format!("?fault={name}"), json!({"sub": "alice"})).await.token();
        let refused = judge(&app, &token).await.unwrap_err();
        assert!(refused.contains(reason), "{name}: {refused}");
    }
}

#[tokio::test]
async fn a_fault_token_has_one_fault_and_is_otherwise_valid() {
    let app = open().await;
    let fault = async |name: &str| {
        let token =
            ask(&app, &format!("?fault={name}"), json!({"sub": "alice", "claims": {"x": 1}})).await.token();
        let (header, claims) = decode(&token);
        (token, header, claims)
    };
    for name in ["expired", "not-yet-valid", "no-exp", "wrong-issuer", "wrong-audience", "crit-unknown"] {
        let (token, header, claims) = fault(name).await;
        assert_eq!(
            (&header["alg"], &header["kid"], &claims["sub"], &claims["x"]),
            (&json!("RS256"), &json!("1"), &json!("alice"), &json!(1)),
            "{name}"
        );
        let key = app.jwks().await.find("1").cloned().unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded =
            jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(&key).unwrap(), &validation);
        assert!(decoded.is_ok(), "{name} is signed by a published key");
    }
    let (token, header, _) = fault("alg-none").await;
    assert_eq!((header, token.ends_with('.')), (json!({"alg": "none", "typ": "JWT", "kid": "1"}), true));
    let (_, header, _) = fault("embedded-jwk").await;
    assert_eq!((&header["jwk"]["kty"], &header["kid"]), (&json!("RSA"), &json!("1")));
    assert_ne!(
        header["jwk"]["n"],
        json!(app.get("/jwks").await.json["keys"][0]["n"]),
        "the embedded key is not the published one"
    );
    assert!(header["jwk"].get("d").is_none());
    assert_eq!(fault("no-kid").await.1, json!({"alg": "RS256", "typ": "JWT"}));
    let (good, bad) = (ask(&app, "", json!({})).await.token(), fault("bad-signature").await.0);
    assert_eq!(good.rsplit('.').next().unwrap().len(), bad.rsplit('.').next().unwrap().len());
}

#[tokio::test]
async fn unknown_and_unavailable_faults_are_refused() {
    let app = open().await;
    let sentence =
        "Invalid 'fault' query parameter: GET /faults lists what it may be; it does not go with 'expired'";
    for query in
        ["?fault=", "?fault=EXPIRED", "?fault=x", "?fault=expired&fault=no-kid", "?fault=no-kid&expired"]
    {
        ask(&app, query, json!({})).await.expect_error(400, "invalid_fault", sentence);
    }
    let answer = ask(&app, "?fault=revoked-key", json!({})).await;
    answer.expect_error(404, "no_suitable_key", "No suitable key found");
}

/// A verifier that takes the algorithm from the token, and the published key in this format as the secret.
fn is_confused_by(token: &str, secret: &[u8]) -> bool {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.set_audience(&[AUDIENCE]);
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(secret), &validation).is_ok()
}

#[tokio::test]
async fn tokens_that_confuse_the_algorithm_have_the_published_key_as_their_secret_whatever_its_type() {
    let base64 = |value: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
    };
    for algorithm in
        [jose::Algorithm::Rs256, jose::Algorithm::Es256, jose::Algorithm::Es384, jose::Algorithm::EdDsa]
    {
        let app = open_with(algorithm).await;
        let set = app.get("/jwks").await;
        let jwk = &set.json["keys"][0];
        let key = PublicKey::from_members(jwk.as_object().unwrap()).unwrap();
        let pem = public_pem(&key).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(der).unwrap()
        };
        let raw = match algorithm {
            jose::Algorithm::Rs256 => base64(&jwk["n"]),
            jose::Algorithm::EdDsa => base64(&jwk["x"]),
            _ => [vec![4], base64(&jwk["x"]), base64(&jwk["y"])].concat(),
        };
        let published = set.text.strip_prefix("{\"keys\":[").unwrap().strip_suffix("]}").unwrap();
        for (name, secret) in
            [("der", &*der), ("jwk", published.as_bytes()), ("key", pem.as_bytes()), ("raw", &*raw)]
        {
            let fault = format!("?fault=alg-hs256-with-public-{name}");
            let token = ask(&app, &fault, json!({"sub": "alice"})).await.token();
            assert_eq!(
                decode(&token).0,
                json!({"alg": "HS256", "typ": "JWT", "kid": "1"}),
                "{algorithm} {name}"
            );
            assert!(is_confused_by(&token, secret), "{algorithm} {name}");
        }
    }
}

#[tokio::test]
async fn faults_of_ecdsa_are_issued_only_while_an_ec_key_signs() {
    for algorithm in [jose::Algorithm::Rs256, jose::Algorithm::EdDsa] {
        let app = open_with(algorithm).await;
        for name in ["der-signature", "wrong-curve"] {
            let answer = ask(&app, &format!("?fault={name}"), json!({})).await;
            answer.expect_error(404, "no_suitable_key", "No suitable key found");
        }
    }
    for (algorithm, other) in [(jose::Algorithm::Es256, "ES384"), (jose::Algorithm::Es384, "ES256")] {
        let app = open_with(algorithm).await;
        let token = ask(&app, "?fault=wrong-curve", json!({})).await.token();
        assert_eq!(decode(&token).0, json!({"alg": other, "typ": "JWT", "kid": "1"}));
        let token = ask(&app, "?fault=der-signature", json!({})).await.token();
        assert_eq!(decode(&token).0, json!({"alg": algorithm.name(), "typ": "JWT", "kid": "1"}));
    }
}

#[tokio::test]
async fn a_signature_in_der_is_that_of_the_published_key() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let app = open_with(jose::Algorithm::Es256).await;
    let jwk = app.get("/jwks").await.json["keys"][0].clone();
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], bytes("x"), bytes("y")].concat();
    // Leading zeros and set first bits change the length of DER, so one token is not enough.
    for _ in 0..50 {
        let token = ask(&app, "?fault=der-signature", json!({})).await.token();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point);
        assert!(key.verify(signed.as_bytes(), &signature).is_ok(), "{token}");
    }
}

#[tokio::test]
async fn fault_tokens_have_the_algorithm_and_the_kid_of_the_current_key() {
    let profile = KeyProfile { algorithm: jose::Algorithm::EdDsa, kid_format: KidFormat::Thumbprint };
    let spec = KeySpec { profile, ..KeySpec::default() };
    let app = TestApp::with(Setup { auth_mode: AuthMode::Open, spec, ..Setup::default() }).await;
    let kid = app.get("/jwks").await.json["keys"][0]["kid"].clone();
    assert_eq!(kid.as_str().unwrap().len(), 43);
    let fault = async |name: &str| decode(&ask(&app, &format!("?fault={name}"), json!({})).await.token()).0;
    let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid});
    for name in ["bad-signature", "expired", "no-exp", "not-yet-valid", "wrong-audience", "wrong-issuer"] {
        assert_eq!(fault(name).await, header, "{name}");
    }
    let embedded = fault("embedded-jwk").await;
    assert_eq!((&embedded["alg"], &embedded["kid"]), (&json!("EdDSA"), &kid));
    assert_eq!(embedded["jwk"]["crv"], "Ed25519");
    assert_eq!(fault("no-kid").await, json!({"alg": "EdDSA", "typ": "JWT"}));
}
