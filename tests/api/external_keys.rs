//! External keys, published next to our own.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwksd_core::clock::Clock as _;
use jwksd_core::issuer;
use jwksd_core::key::seal::MasterSecret;
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::helpers::{HOUR, ISSUER, MASTER_KEY, MINUTE, Setup, TestApp, TestResponse, context, verify};

const NEW: &str = "another master key, long enough";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn app() -> TestApp {
    TestApp::with(Setup { admin_token: Some(TOKEN), ..Setup::default() }).await
}

fn admin(app: &TestApp, method: Method, path: &str) -> reqwest::RequestBuilder {
    app.request(method, path).bearer_auth(TOKEN)
}

async fn upload(app: &TestApp, body: impl Into<reqwest::Body>) -> TestResponse {
    TestResponse::send(admin(app, Method::POST, "/upload").body(body)).await
}

/// An external key.
fn key(kid: &str) -> Value {
    let key = PrivateKey::generate(NewKey::Ed25519).unwrap();
    let algorithm = Algorithm::from_name("EdDSA").unwrap();
    serde_json::to_value(Jwk::new(key.public().clone(), kid.to_owned(), algorithm).unwrap()).unwrap()
}

async fn published(app: &TestApp) -> Vec<Value> {
    app.get("/jwks").await.json["keys"].as_array().unwrap().clone()
}

/// Repeats a request until the rate limit of the admin API lets it through.
async fn patiently(ask: impl AsyncFn() -> TestResponse) -> TestResponse {
    loop {
        let answer = ask().await;
        if answer.status != 429 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn one_external_key_is_not_published_under_two_kids() {
    let app = app().await;
    let one = key("one");
    let mut other = one.clone();
    other["kid"] = "other".into();
    let sentence = "The keys cannot be published: the key \"other\" is published already, as \"one\": a key has one kid; \
                    withdraw that one first, or leave this one out";
    upload(&app, json!({"keys": [one, other]}).to_string()).await.expect_error(400, "invalid_jwk", sentence);
    assert_eq!(app.count("uploaded_keys").await, 0);
    assert_eq!(upload(&app, one.to_string()).await.status, 201);
    upload(&app, other.to_string()).await.expect_error(400, "invalid_jwk", sentence);
    assert_eq!(published(&app).await.len(), 2);
}

#[tokio::test]
async fn an_external_key_is_published_next_to_ours_and_can_be_withdrawn() {
    let app = app().await;
    let (own, mine) = (published(&app).await, key("mine"));
    let answer = upload(&app, mine.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json),
        (201, &json!({"message": "1 added, 0 left as they are", "keys_count": 2}))
    );
    let both: Vec<_> = own.iter().cloned().chain([mine]).collect();
    assert_eq!(published(&app).await, both);
    let exp = app.now() + 24 * 3600;
    assert_eq!(
        app.get("/keys").await.json,
        json!({"keys": [
            {"kid": "1", "alg": "RS256", "phase": "current", "exp": exp},
            {"kid": "mine", "alg": "EdDSA", "phase": "uploaded", "exp": null},
        ]})
    );
    let answer = TestResponse::send(admin(&app, Method::DELETE, "/keys/mine")).await;
    assert_eq!(answer.json, json!({"message": "1 withdrawn", "keys_count": 1}));
    assert_eq!(published(&app).await, own);
    for kid in ["mine", "1", "%2F", "%FF"] {
        let answer = TestResponse::send(admin(&app, Method::DELETE, &format!("/keys/{kid}"))).await;
        assert_eq!((answer.status.as_u16(), &answer.json["code"]), (404, &json!("unknown_key")), "{kid}");
    }
}

#[tokio::test]
async fn the_former_flow_works_fetch_the_jwks_add_a_key_upload_all() {
    let app = app().await;
    let mut set = app.get("/.well-known/jwks.json").await.json;
    set["keys"].as_array_mut().unwrap().push(key("mine"));
    for message in ["1 added, 1 left as they are", "0 added, 2 left as they are"] {
        let answer = upload(&app, set.to_string()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json),
            (201, &json!({"message": message, "keys_count": 2}))
        );
        assert_eq!(app.get("/jwks").await.json, set);
    }
    assert_eq!((app.count("keys").await, app.count("uploaded_keys").await), (2, 1));
}

#[tokio::test]
async fn an_uploaded_ed25519_key_keeps_the_name_of_its_algorithm() {
    let app = app().await;
    let set: Value = serde_json::from_str(include_str!("../data/ed25519-rfc9864.jwks")).unwrap();
    let answer = upload(&app, set.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json),
        (201, &json!({"message": "1 added, 0 left as they are", "keys_count": 2}))
    );
    assert_eq!(published(&app).await[1], set["keys"][0]);
    app.pass(23 * HOUR).await;
    assert_eq!(app.published_kids().await, ["1", "3", "demo"], "the self-check accepts the set");
}

#[tokio::test]
async fn a_jwk_set_can_be_uploaded_as_a_file_of_a_form() {
    let app = app().await;
    let set = json!({"keys": [key("a"), key("b")]}).to_string();
    let form = Form::new().part("file", Part::text(set.clone()).file_name("jwks.json"));
    let answer = TestResponse::send(admin(&app, Method::POST, "/upload").multipart(form)).await;
    assert_eq!((answer.status.as_u16(), &answer.json["keys_count"]), (201, &json!(3)));
    let two = Form::new().text("a", set.clone()).text("b", set);
    let answer = TestResponse::send(admin(&app, Method::POST, "/upload").multipart(two)).await;
    answer.expect_error(400, "invalid_body", "The form must have one file, and nothing else");
    let huge = Form::new().part("file", Part::text("x".repeat(1 << 20)));
    let answer = TestResponse::send(admin(&app, Method::POST, "/upload").multipart(huge)).await;
    answer.expect_error(413, "body_too_large", "The body is longer than 256 KiB");
}

#[tokio::test]
async fn an_external_key_leaves_the_jwks_at_its_exp_and_caches_expire_with_it() {
    let app = app().await;
    let mut mine = key("mine");
    mine["exp"] = json!(app.now() + 60);
    assert_eq!(upload(&app, mine.to_string()).await.status, 201);
    let jwks = app.get("/jwks").await;
    assert_eq!(jwks.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(jwks.json["keys"].as_array().unwrap().len(), 2);
    assert_eq!(jwks.json["keys"][1].get("exp"), None);
    app.clock.advance(MINUTE);
    assert_eq!(published(&app).await.len(), 1);
    assert_eq!(app.get("/keys").await.json["keys"].as_array().unwrap().len(), 1);
    let fetched = app.get("/jwks").await.text;
    mine["exp"] = json!(app.now() + 3600);
    assert_eq!(upload(&app, mine.to_string()).await.status, 201, "another exp replaces the old one");
    assert_eq!(published(&app).await.len(), 2);
    assert_eq!(upload(&app, fetched).await.status, 201, "a set without exp changes no exp");
    mine.as_object_mut().unwrap().remove("exp");
    assert_eq!(upload(&app, mine.to_string()).await.json["message"], "0 added, 1 left as they are");
    app.pass(HOUR).await;
    assert_eq!(published(&app).await.len(), 1);
}

#[tokio::test]
async fn expired_external_keys_are_deleted_and_their_number_stays_within_the_limit() {
    let app = app().await;
    let many = |prefix: &str, exp: i64| {
        let keys: Vec<_> = (0..100)
            .map(|number| {
                let mut jwk = key(&format!("{prefix}{number}"));
                jwk["exp"] = json!(exp);
                jwk
            })
            .collect();
        json!({"keys": keys}).to_string()
    };
    assert_eq!(upload(&app, many("a", app.now() + 60)).await.json["keys_count"], 101);
    let answer = upload(&app, key("mine").to_string()).await;
    assert_eq!((answer.status.as_u16(), &answer.json["code"]), (400, &json!("invalid_jwk")));
    app.clock.advance(MINUTE);
    assert_eq!(upload(&app, many("a", app.now() + 60)).await.json["keys_count"], 101);
    assert_eq!(app.count("uploaded_keys").await, 100);
}

#[tokio::test]
async fn an_upload_of_256_kib_is_read_and_one_byte_more_is_refused() {
    let app = app().await;
    let padded = |length| {
        let jwk = key("mine").to_string();
        let blanks = " ".repeat(length - jwk.len());
        jwk + &blanks
    };
    assert_eq!(upload(&app, padded(256 * 1024)).await.status, 201);
    let answer = upload(&app, padded(256 * 1024 + 1)).await;
    answer.expect_error(413, "body_too_large", "The body is longer than 256 KiB");
}

#[tokio::test]
async fn the_holder_of_an_external_key_can_issue_our_tokens_until_it_is_withdrawn() {
    let app = app().await;
    let theirs = PrivateKey::generate(NewKey::Rsa2048).unwrap();
    let rs256 = Algorithm::from_name("RS256").unwrap();
    let jwk = Jwk::new(theirs.public().clone(), "theirs".to_owned(), rs256).unwrap();
    upload(&app, serde_json::to_string(&jwk).unwrap()).await;

    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({"iss": ISSUER, "sub": "alice", "exp": app.now() + 60});
    let message = format!("{}.{}", part(json!({"alg": "RS256", "kid": "theirs"})), part(claims.clone()));
    let signature = theirs.sign(rs256, message.as_bytes()).unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert_eq!(verify(&token, &app.jwks().await), Ok(claims));
    assert_eq!(TestResponse::send(admin(&app, Method::DELETE, "/keys/theirs")).await.status, 200);
    assert_eq!(verify(&token, &app.jwks().await), Err("the kid is not in the JWKS".to_owned()));
}

#[tokio::test]
async fn malformed_rows_do_not_stop_the_service() {
    let app = app().await;
    upload(&app, key("mine").to_string()).await;
    let mut db = app.db().await;
    sqlx::raw_sql(
        "INSERT INTO uploaded_keys VALUES ('odd', x'00', 'soon', 1), (x'ff', x'00', 5, 1), ('real', x'00', 1.5, 1),
             ('text', 'text', NULL, 1), ('late', x'00', NULL, 'x'), (NULL, x'00', NULL, 1)",
    )
    .execute(&mut db)
    .await
    .unwrap();
    app.pass(23 * HOUR).await;
    assert_eq!(app.published_kids().await, ["1", "3", "mine"], "the rotation continues");
    assert_eq!(TestResponse::send(admin(&app, Method::DELETE, "/keys/mine")).await.status, 200);
}

#[tokio::test]
async fn an_external_key_that_expired_stays_out_when_the_clock_is_set_back() {
    let app = app().await;
    let (mut mine, begun) = (key("mine"), app.clock.now());
    mine["exp"] = json!(app.now() + 60);
    upload(&app, mine.to_string()).await;
    app.clock.advance(MINUTE);
    assert_eq!(published(&app).await.len(), 1);
    app.clock.set(begun);
    upload(&app, key("other").to_string()).await;
    assert_eq!(app.published_kids().await, ["1", "other"]);
    assert_eq!(app.get("/keys").await.json["keys"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn our_keys_cannot_be_published_under_another_kid() {
    let app = app().await;
    let mut alias = published(&app).await.remove(0);
    let ours = alias.clone();
    alias["kid"] = json!("alias");
    let sentence = "The keys cannot be published: the key \"alias\" is our own key 1";
    upload(&app, alias.to_string()).await.expect_error(400, "invalid_jwk", sentence);
    app.keyring.rotate(true).await.unwrap();
    app.keyring.revoke(jwksd_core::key::Kid(1)).await.unwrap();
    upload(&app, alias.to_string()).await.expect_error(400, "invalid_jwk", sentence);
    assert_eq!(upload(&app, ours.to_string()).await.json["message"], "0 added, 1 left as they are");
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn uploads_need_the_admin_token() {
    let closed = TestApp::spawn().await;
    let body = key("mine").to_string();
    let answer = TestResponse::send(closed.post("/upload").bearer_auth(TOKEN).body(body.clone())).await;
    answer.expect_error(403, "admin_closed", "The admin surface is closed: ADMIN_TOKEN is not set");
    let app = app().await;
    for request in [app.post("/upload").body(body.clone()), app.request(Method::DELETE, "/keys/mine")] {
        assert_eq!(TestResponse::send(request).await.json["code"], "invalid_admin_token");
    }
    assert_eq!(published(&app).await.len(), 1);
    assert_eq!(app.get("/upload").await.header("allow"), Some("POST"));
}

#[tokio::test]
async fn an_external_key_survives_a_rekey_but_not_an_edit() {
    let app = app().await;
    upload(&app, key("mine").to_string()).await;
    let context = context(&app.dir, &app.clock).await;
    let old = crate::helpers::master_key(MASTER_KEY, &context).await;
    issuer::rekey(&context, &old, &MasterSecret::parse(NEW).unwrap(), false).await.unwrap();
    let TestApp { dir, clock, .. } = app;
    let app = TestApp::with(Setup { dir, clock, master_key: NEW, ..Setup::default() }).await;
    assert_eq!(published(&app).await.len(), 2);

    let mut db = app.db().await;
    sqlx::query("UPDATE uploaded_keys SET exp = 4102444800").execute(&mut db).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(published(&app).await.len(), 1, "the longer lifetime was not sealed");
    let jwk = key("theirs").to_string();
    sqlx::query("INSERT INTO uploaded_keys (kid, jwk, uploaded_at) VALUES ('theirs', ?, 0)")
        .bind(jwk.into_bytes())
        .execute(&mut db)
        .await
        .unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(published(&app).await.len(), 1, "a key that is not sealed is not published");
}

#[tokio::test]
async fn keys_of_a_set_that_are_not_for_signatures_are_skipped_and_named() {
    let app = app().await;
    let own = published(&app).await.remove(0);
    let (good, ed) = (key("good"), key("ed"));
    let rsa = |change: Value| {
        let mut jwk = json!({"kty": "RSA", "n": own["n"], "e": "AQAB"});
        jwk.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        jwk
    };
    let enc = r#""use" is "enc": it must be "sig""#;
    let foreign = [
        // As Keycloak publishes it.
        (
            rsa(json!({"kid": "keycloak", "alg": "RSA-OAEP", "use": "enc", "x5c": ["MA=="]})),
            json!("keycloak"),
            enc,
        ),
        (rsa(json!({"use": "enc", "n": "w".repeat(171)})), Value::Null, enc),
        (json!({"kty": "EC", "crv": "P-256", "kid": 5, "use": "enc"}), Value::Null, enc),
        (
            rsa(json!({"kid": "oaep", "alg": "RSA-OAEP-256"})),
            json!("oaep"),
            "\"alg\" is \"RSA-OAEP-256\", which does not fit an RSA key: use RS256, RS384, RS512, PS256, PS384, PS512",
        ),
        (
            rsa(json!({"kid": "ops", "key_ops": ["encrypt", "wrapKey"]})),
            json!("ops"),
            "\"key_ops\" does not contain \"verify\"",
        ),
        (
            json!({"kty": "EC", "crv": "secp256k1", "kid": "eth", "use": "sig", "alg": "ES256K", "x": ed["x"], "y": ed["x"]}),
            json!("eth"),
            "\"crv\" is \"secp256k1\": use P-256, P-384 or P-521",
        ),
        (
            json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": ed["x"]}),
            json!("x"),
            "\"crv\" is \"X25519\": use Ed25519",
        ),
        (
            json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-65", "pub": "AA"}),
            json!("pq"),
            "\"kty\" is \"AKP\": use RSA, EC or OKP",
        ),
    ];
    let keys: Vec<_> = foreign.iter().map(|(key, _, _)| key.clone()).collect();
    let all = [keys.as_slice(), std::slice::from_ref(&good)].concat();
    let set = json!({"keys": all});
    let skipped: Vec<_> = (1..)
        .zip(&foreign)
        .map(|(number, (_, kid, why))| json!({"key": number, "kid": kid, "reason": why}))
        .collect();
    let answer = upload(&app, set.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json),
        (
            201,
            json!({"message": "1 added, 0 left as they are, 8 skipped", "keys_count": 2, "skipped": skipped})
        )
    );
    assert_eq!(published(&app).await, [own, good]);
    assert_eq!(app.count("uploaded_keys").await, 1);

    upload(&app, json!({"keys": keys}).to_string()).await.expect_error(
        400,
        "invalid_jwk",
        &format!(
            "The keys cannot be published: the set has no signing key that can be published; key 1: {enc}"
        ),
    );
    upload(&app, keys[0].to_string()).await.expect_error(
        400,
        "invalid_jwk",
        &format!("The keys cannot be published: key 1: {enc}"),
    );
    assert_eq!(app.count("uploaded_keys").await, 1);
}

#[tokio::test]
async fn an_exp_in_milliseconds_is_refused() {
    let app = app().await;
    let of_issue = include_str!("../data/jwks-exp-milliseconds.json").to_owned();
    let mut sets = vec![of_issue];
    for exp in
        [json!(1_795_000_000_000_i64), json!(1_795_000_000_000_000_000_i64), json!(1.795e12), json!(1e300)]
    {
        let mut jwk = key("mine");
        jwk["exp"] = exp;
        sets.push(jwk.to_string());
    }
    for set in sets {
        upload(&app, set).await.expect_error(
            400,
            "invalid_jwk",
            "The keys cannot be published: key 1: `exp` must be seconds since 1970, but this looks like milliseconds: \
             divide it by 1000",
        );
    }
    assert_eq!((published(&app).await.len(), app.count("uploaded_keys").await), (1, 0));
}

#[tokio::test]
async fn a_key_in_pem_is_refused_with_the_command_that_converts_it() {
    let app = app().await;
    upload(&app, include_str!("../../crates/jose/tests/data/keys/rsa.pem")).await.expect_error(
        400,
        "invalid_jwk",
        "The keys cannot be published: this is PEM, not JSON: convert the key with `jwksd jwk from-pem FILE`",
    );
}

#[tokio::test]
async fn a_byte_order_mark_before_an_upload_is_skipped() {
    let app = app().await;
    let marked = |kid| format!("\u{feff}{}", key(kid));
    assert_eq!(upload(&app, marked("a")).await.json["keys_count"], 2);
    let form = Form::new().part("file", Part::text(marked("b")).file_name("jwks.json"));
    let answer = TestResponse::send(admin(&app, Method::POST, "/upload").multipart(form)).await;
    assert_eq!((answer.status.as_u16(), &answer.json["keys_count"]), (201, &json!(3)));
}

#[tokio::test]
async fn an_invalid_set_is_refused_as_a_whole_and_changes_nothing() {
    let app = app().await;
    upload(&app, key("there").to_string()).await;
    let before = app.get("/jwks").await.text;
    for (name, set) in malformed(&published(&app).await[0]) {
        let answer = patiently(async || upload(&app, set.clone()).await).await;
        let codes = BTreeSet::from(["invalid_jwk", "kid_taken", "body_too_large", "invalid_body"]);
        assert!(answer.status.is_client_error(), "{name}: {answer:?}");
        assert!(codes.contains(answer.json["code"].as_str().unwrap()), "{name}: {answer:?}");
        assert!(!answer.text.contains("c2VjcmV0"), "{name}: the response does not quote private parameters");
        assert_eq!(app.get("/jwks").await.text, before, "{name}");
    }
    assert_eq!(app.count("uploaded_keys").await, 1);
}

/// Uploads with a valid key first and one fault each.
fn malformed(own: &Value) -> Vec<(String, String)> {
    let good = key("good");
    let rsa = |change: &dyn Fn(&mut Value)| {
        let mut jwk = own.clone();
        jwk["kid"] = json!("mine");
        change(&mut jwk);
        jwk
    };
    let ec = |x: &str, y: &str, crv: &str| json!({"kty": "EC", "kid": "ec", "crv": crv, "x": x, "y": y});
    let (x, y) =
        ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let huge = "w".repeat(2800);
    let mut faults: Vec<(&str, Value)> = vec![
        ("a private RSA key", rsa(&|jwk| jwk["d"] = json!("c2VjcmV0"))),
        ("a prime", rsa(&|jwk| jwk["p"] = json!("c2VjcmV0"))),
        ("a CRT exponent", rsa(&|jwk| jwk["dp"] = json!("c2VjcmV0"))),
        ("a private EC key", {
            let mut jwk = ec(x, y, "P-256");
            jwk["d"] = json!("c2VjcmV0");
            jwk
        }),
        ("a private Ed25519 key", {
            let mut jwk = key("ed");
            jwk["d"] = json!("c2VjcmV0");
            jwk
        }),
        ("a symmetric key", json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"})),
        ("a modulus of 1024 bits", rsa(&|jwk| jwk["n"] = json!("w".repeat(171)))),
        ("a huge modulus", rsa(&|jwk| jwk["n"] = json!(huge.clone()))),
        ("an even modulus", rsa(&|jwk| jwk["n"] = json!(format!("{}A", "w".repeat(341))))),
        ("no modulus", rsa(&|jwk| drop(jwk.as_object_mut().unwrap().remove("n")))),
        ("a modulus that is a number", rsa(&|jwk| jwk["n"] = json!(5))),
        ("an empty modulus", rsa(&|jwk| jwk["n"] = json!(""))),
        ("a zero exponent", rsa(&|jwk| jwk["e"] = json!("AA"))),
        ("an exponent of one", rsa(&|jwk| jwk["e"] = json!("AQ"))),
        ("an even exponent", rsa(&|jwk| jwk["e"] = json!("BA"))),
        ("a huge exponent", rsa(&|jwk| jwk["e"] = json!("w".repeat(342)))),
        ("no exponent", rsa(&|jwk| drop(jwk.as_object_mut().unwrap().remove("e")))),
        ("base64 with padding", rsa(&|jwk| jwk["e"] = json!("AQAB===="))),
        ("base64 of another alphabet", rsa(&|jwk| jwk["n"] = json!(format!("+/{}", "w".repeat(340))))),
        ("a leading zero", rsa(&|jwk| jwk["e"] = json!("AAEAAQ"))),
        ("no kty", rsa(&|jwk| drop(jwk.as_object_mut().unwrap().remove("kty")))),
        ("an alg of another kind", rsa(&|jwk| jwk["alg"] = json!("ES256"))),
        ("an alg that is not for signatures", rsa(&|jwk| jwk["alg"] = json!("RSA-OAEP"))),
        ("key_ops of a private key", rsa(&|jwk| jwk["key_ops"] = json!(["sign"]))),
        ("key_ops as a string", rsa(&|jwk| jwk["key_ops"] = json!("encrypt"))),
        ("a use as a list", rsa(&|jwk| jwk["use"] = json!(["enc"]))),
        (
            "a private key for encryption",
            rsa(&|jwk| (jwk["use"], jwk["d"]) = (json!("enc"), json!("c2VjcmV0"))),
        ),
        ("alg none", rsa(&|jwk| jwk["alg"] = json!("none"))),
        ("alg HS256", rsa(&|jwk| jwk["alg"] = json!("HS256"))),
        ("a kid that cannot be part of a path", rsa(&|jwk| jwk["kid"] = json!(".."))),
        ("our key under another kid", rsa(&|_| {})),
        ("no kid", rsa(&|jwk| drop(jwk.as_object_mut().unwrap().remove("kid")))),
        ("an empty kid", rsa(&|jwk| jwk["kid"] = json!(""))),
        ("a kid that is a number", rsa(&|jwk| jwk["kid"] = json!(1))),
        ("a kid of digits that is not ours", rsa(&|jwk| jwk["kid"] = json!("77"))),
        ("our kid with another key", {
            let mut jwk = key("1");
            jwk["kid"] = json!("1");
            jwk
        }),
        ("the kid of another uploaded key", key("there")),
        ("a point off the curve", ec(x, x, "P-256")),
        ("a point of another curve", ec(x, y, "P-384")),
        ("a short coordinate", ec(&x[..40], y, "P-256")),
        ("no y", json!({"kty": "EC", "kid": "ec", "crv": "P-256", "x": x})),
        ("an exp in the past", rsa(&|jwk| jwk["exp"] = json!(1_000_000))),
        ("an exp that is not a time", rsa(&|jwk| jwk["exp"] = json!("tomorrow"))),
        ("no object", json!("key")),
        ("the same kid twice", good.clone()),
    ];
    faults.push(("null instead of a key", Value::Null));
    let mut sets: Vec<(String, String)> = faults
        .into_iter()
        .map(|(name, jwk)| (name.to_owned(), json!({"keys": [good.clone(), jwk]}).to_string()))
        .collect();
    let hundred: Vec<_> = (0..201).map(|number| key(&format!("k{number}"))).collect();
    for (name, text) in [
        ("too many keys", json!({"keys": hundred}).to_string()),
        ("keys that are not an array", json!({"keys": good}).to_string()),
        ("no set", "{}".to_owned()),
        ("no JSON", "{\"keys\": [".to_owned()),
        ("an array", "[]".to_owned()),
        ("nothing", String::new()),
        ("a member twice", r#"{"keys": [], "keys": []}"#.to_owned()),
        ("ten megabytes", format!("{{\"keys\": [{}]}}", " ".repeat(10 << 20))),
    ] {
        sets.push((name.to_owned(), text));
    }
    assert!(sets.len() >= 40, "{}", sets.len());
    sets
}
