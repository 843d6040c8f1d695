//! `GET /verify` and `POST /introspect`: checking tokens for services that do not verify them themselves.

use std::time::Duration;

use jwksd_core::clock::Timestamp;
use jwksd_core::token::fault::Fault;
use jwksd_http::AuthMode;
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::jwk_set::TrustedKeys;
use jwksd_jose::jws::Jws;
use jwksd_jose::token_type::TokenType;
use jwksd_jose::validation::{Validation, validate};
use reqwest::Method;
use serde_json::{Value, json};

use crate::algorithms::spec;
use crate::helpers::{HOUR, ISSUER, Setup, TTL, TestApp, TestResponse, decode};

const ADMIN: &str = "0123456789abcdef0123456789abcdef";
const INTROSPECT: &str = "fedcba9876543210fedcba9876543210";
const AUDIENCES: &str = "https://api.example,https://files.example";

async fn app() -> TestApp {
    with(Setup::default()).await
}

async fn with(setup: Setup) -> TestApp {
    TestApp::with(Setup { admin_token: Some(ADMIN), introspect_token: Some(INTROSPECT), ..setup }).await
}

async fn signed_in(app: &TestApp, name: &str) -> (String, String) {
    let password = app.register(name).await;
    let token = app.auth(name, &password).await.token();
    (password, token)
}

async fn verify(app: &TestApp, query: &str, token: &str) -> TestResponse {
    TestResponse::send(app.request(Method::GET, &format!("/verify{query}")).bearer_auth(token)).await
}

async fn introspect(app: &TestApp, secret: &str, token: &str) -> TestResponse {
    TestResponse::send(app.post("/introspect").bearer_auth(secret).form(&[("token", token)])).await
}

#[track_caller]
fn expect_accepted(answer: &TestResponse, subject: &str, uid: Option<&str>) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""), "{answer:?}");
    assert_eq!((answer.header("x-auth-subject"), answer.header("x-auth-uid")), (Some(subject), uid));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[track_caller]
fn expect_refused(answer: &TestResponse, challenge: &str) {
    answer.expect_error(401, "invalid_token", "The token is missing or not valid");
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    assert_eq!((answer.header("x-auth-subject"), answer.header("x-auth-uid")), (None, None));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

const CHALLENGE: &str = r#"Bearer realm="jwksd", error="invalid_token""#;

/// Both routes refuse the token.
async fn expect_ended(app: &TestApp, token: &str) {
    expect_refused(&verify(app, "", token).await, CHALLENGE);
    let answer = introspect(app, INTROSPECT, token).await;
    assert_eq!((answer.status.as_u16(), answer.json), (200, json!({"active": false})));
}

async fn expect_valid(app: &TestApp, token: &str) {
    assert_eq!(verify(app, "", token).await.status, 204);
    assert_eq!(introspect(app, INTROSPECT, token).await.json["active"], true);
}

#[tokio::test]
async fn verify_names_the_subject_of_a_valid_token_under_any_host() {
    let app = app().await;
    let (_, token) = signed_in(&app, "Alice").await;
    expect_accepted(&verify(&app, "", &token).await, "Alice", Some("1"));
    let head = app.request(Method::HEAD, "/verify").bearer_auth(&token);
    expect_accepted(&TestResponse::send(head).await, "Alice", Some("1"));
    let foreign = app.request(Method::GET, "/verify").bearer_auth(&token).header("host", "jwksd_internal");
    expect_accepted(
        &TestResponse::send(foreign.header("origin", "https://a.example")).await,
        "Alice",
        Some("1"),
    );
}

#[tokio::test]
async fn verify_refuses_a_request_without_one_bearer_token() {
    let app = app().await;
    let (_, token) = signed_in(&app, "alice").await;
    expect_refused(&app.get("/verify").await, r#"Bearer realm="jwksd""#);
    let basic = app.request(Method::GET, "/verify").basic_auth("alice", Some(&token));
    expect_refused(&TestResponse::send(basic).await, r#"Bearer realm="jwksd""#);
    let two = app.request(Method::GET, "/verify").bearer_auth(&token).bearer_auth(&token);
    expect_refused(&TestResponse::send(two).await, r#"Bearer realm="jwksd""#);
    for text in ["x", "a.b.c", ADMIN] {
        expect_refused(&verify(&app, "", text).await, CHALLENGE);
    }
}

#[tokio::test]
async fn introspection_returns_the_claims_of_a_valid_token() {
    let app = app().await;
    let (_, token) = signed_in(&app, "Alice").await;
    let mut expected = decode(&token).1;
    expected["active"] = json!(true);
    expected["token_type"] = json!("Bearer");
    expected["username"] = json!("Alice");
    for secret in [INTROSPECT, ADMIN] {
        let answer = introspect(&app, secret, &token).await;
        assert_eq!((answer.status.as_u16(), &answer.json), (200, &expected));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let hint = [("token", token.as_str()), ("token_type_hint", "access_token"), ("further", "x")];
    let answer = TestResponse::send(app.post("/introspect").bearer_auth(INTROSPECT).form(&hint)).await;
    assert_eq!(answer.json, expected);
    let body = json!({"token": token});
    assert_eq!(
        TestResponse::send(app.post("/introspect").bearer_auth(INTROSPECT).json(&body)).await.json,
        expected
    );
    for body in ["", "token_type_hint=x", "token=a&token=b"] {
        let request = app.post("/introspect").bearer_auth(INTROSPECT);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        TestResponse::send(request).await.expect_error(
            400,
            "invalid_body",
            "The body must be a form with `token`, once",
        );
    }
}

#[tokio::test]
async fn introspection_needs_its_token_and_throttles_only_wrong_ones() {
    let app = app().await;
    let (_, token) = signed_in(&app, "alice").await;
    let answer = TestResponse::send(app.post("/introspect").form(&[("token", &token)])).await;
    answer.expect_error(401, "invalid_introspect_token", "The bearer token is missing or wrong");
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="jwksd""#));
    for _ in 0..9 {
        let answer = introspect(&app, "wrong", &token).await;
        answer.expect_error(401, "invalid_introspect_token", "The bearer token is missing or wrong");
        assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE));
    }
    assert_eq!(introspect(&app, "wrong", &token).await.status, 429);
    for _ in 0..20 {
        assert_eq!(introspect(&app, INTROSPECT, &token).await.json["active"], true);
    }
    let metrics = app.request(Method::GET, "/metrics").bearer_auth(INTROSPECT);
    assert_eq!(TestResponse::send(metrics).await.status, 429, "it does not open the admin API");
    let foreign = app.post("/introspect").bearer_auth(INTROSPECT).header("host", "foreign.example");
    assert_eq!(TestResponse::send(foreign.form(&[("token", &token)])).await.json["code"], "unknown_host");
}

#[tokio::test]
async fn introspection_is_closed_without_a_secret() {
    let app = TestApp::spawn().await;
    let answer = introspect(&app, INTROSPECT, "x").await;
    answer.expect_error(
        403,
        "introspection_closed",
        "Introspection is closed: neither INTROSPECT_TOKEN nor ADMIN_TOKEN is set",
    );
}

#[tokio::test]
async fn tokens_of_disabled_and_deleted_accounts_are_refused() {
    let app = app().await;
    let (_, alice) = signed_in(&app, "alice").await;
    let (_, bob) = signed_in(&app, "bob").await;
    app.accounts.disable("alice").await.unwrap();
    expect_ended(&app, &alice).await;
    app.accounts.enable("alice").await.unwrap();
    expect_valid(&app, &alice).await;
    app.accounts.delete("alice").await.unwrap();
    expect_ended(&app, &alice).await;
    expect_valid(&app, &bob).await;
}

#[tokio::test]
async fn a_sign_out_ends_the_tokens_until_now_and_the_next_sign_in_is_accepted() {
    let app = app().await;
    let (password, old) = signed_in(&app, "alice").await;
    let (_, other) = signed_in(&app, "bob").await;
    app.accounts.sign_out("ALICE").await.unwrap();
    expect_ended(&app, &old).await;
    expect_valid(&app, &other).await;
    // The clock stands still: this is the second of the sign-out.
    let new = app.auth("alice", &password).await.token();
    assert_eq!(decode(&new).1["iat"], json!(app.now() + 1));
    expect_valid(&app, &new).await;
    app.clock.advance(Duration::from_secs(5));
    let later = app.auth("alice", &password).await.token();
    assert_eq!(decode(&later).1["iat"], json!(app.now()));
    expect_valid(&app, &later).await;
    expect_valid(&app, &new).await;
    // A clock that went back does not undo it.
    app.clock.set(Timestamp::from_secs(app.now() - 60));
    app.accounts.sign_out("alice").await.unwrap();
    expect_ended(&app, &old).await;
    // Not issued in the future, which verifiers would refuse as well.
    let early = app.auth("alice", &password).await.token();
    assert_eq!(decode(&early).1["iat"], json!(app.now()));
    expect_ended(&app, &early).await;
    assert!(app.accounts.sign_out("unknown").await.is_err());
}

#[tokio::test]
async fn no_token_is_valid_while_the_store_cannot_tell() {
    let app = app().await;
    let (_, token) = signed_in(&app, "alice").await;
    sqlx::query("ALTER TABLE sign_outs RENAME TO gone").execute(&mut app.db().await).await.unwrap();
    for answer in [verify(&app, "", &token).await, introspect(&app, INTROSPECT, &token).await] {
        answer.expect_error(503, "unavailable", "The service cannot answer just now");
        assert_eq!((answer.header("retry-after"), answer.header("x-auth-subject")), (Some("1"), None));
    }
    // A token that no key of ours signed needs no store.
    expect_refused(&verify(&app, "", "a.b.c").await, CHALLENGE);
}

#[tokio::test]
async fn both_routes_answer_under_the_path_of_the_issuer() {
    let app = with(Setup { issuer: "https://issuer.example/tenant", ..Setup::default() }).await;
    let (_, token) = signed_in(&app, "alice").await;
    let under = |path: &str| format!("{}/tenant{path}", app.url);
    let client = reqwest::Client::new();
    let verified = client.get(under("/verify")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(verified.status(), 204);
    let introspected = client.post(under("/introspect")).bearer_auth(INTROSPECT).form(&[("token", &token)]);
    let introspected: Value = introspected.send().await.unwrap().json().await.unwrap();
    assert_eq!(introspected["active"], true);
}

#[tokio::test]
async fn checking_a_token_costs_no_password_hash() {
    let app = app().await;
    let (_, token) = signed_in(&app, "alice").await;
    let hashes = async || {
        let metrics = app.request(Method::GET, "/metrics").bearer_auth(ADMIN);
        let metrics = TestResponse::send(metrics).await.text;
        metrics
            .lines()
            .find(|line| line.starts_with("jwksd_argon2_duration_seconds_count"))
            .unwrap()
            .to_owned()
    };
    let before = hashes().await;
    expect_valid(&app, &token).await;
    expect_refused(&verify(&app, "", "x").await, CHALLENGE);
    assert_eq!(hashes().await, before);
}

#[tokio::test]
async fn a_password_change_does_not_sign_out() {
    let app = app().await;
    let (password, token) = signed_in(&app, "alice").await;
    let body = json!({"username": "alice", "password": password});
    assert_eq!(TestResponse::send(app.post("/password").json(&body)).await.status, 200);
    app.accounts.reset_password("alice", None).await.unwrap();
    expect_valid(&app, &token).await;
}

#[tokio::test]
async fn expired_tokens_and_those_of_revoked_keys_are_refused() {
    let app = app().await;
    let (password, token) = signed_in(&app, "alice").await;
    let body = json!({"username": "alice", "password": password});
    let expired = TestResponse::send(app.post("/auth?expired").json(&body)).await.token();
    expect_ended(&app, &expired).await;
    app.clock.advance(TTL - Duration::from_secs(1));
    expect_valid(&app, &token).await;
    app.clock.advance(Duration::from_secs(1));
    expect_ended(&app, &token).await;
    let token = app.auth("alice", &password).await.token();
    app.keyring.revoke(jwksd_core::key::Kid(1)).await.unwrap();
    expect_ended(&app, &token).await;
}

#[tokio::test]
async fn a_token_is_for_one_audience_and_verify_can_ask_for_it() {
    let app = with(Setup { audience: Some(AUDIENCES), ..Setup::default() }).await;
    let (password, first) = signed_in(&app, "alice").await;
    assert_eq!(decode(&first).1["aud"], "https://api.example");
    let body = json!({"username": "alice", "password": password, "aud": "https://files.example"});
    let second = TestResponse::send(app.post("/auth").json(&body)).await.token();
    assert_eq!(decode(&second).1["aud"], "https://files.example");
    let form = [("aud", "https://files.example")];
    let basic = app.post("/auth").basic_auth("alice", Some(&password)).form(&form);
    assert_eq!(decode(&TestResponse::send(basic).await.token()).1["aud"], "https://files.example");
    for token in [&first, &second] {
        expect_valid(&app, token).await;
    }
    let files = "?aud=https%3A%2F%2Ffiles.example";
    expect_refused(&verify(&app, files, &first).await, CHALLENGE);
    expect_accepted(&verify(&app, files, &second).await, "alice", Some("1"));
    expect_refused(&verify(&app, "?aud=https://other.example", &second).await, CHALLENGE);
    for query in ["?aud=", "?aud", "?aud=a&aud=b"] {
        verify(&app, query, &first).await.expect_error(
            400,
            "invalid_audience",
            "`aud` must be one audience, once",
        );
    }
}

#[tokio::test]
async fn an_unknown_audience_is_refused_before_the_password_is_checked() {
    for (audience, sentence) in [
        (None, "`aud` cannot be chosen, because AUDIENCE is not set: leave it out"),
        (Some("api"), "`aud` must be api, or left out"),
        (
            Some(AUDIENCES),
            "`aud` must be one of https://api.example, https://files.example, or left out for https://api.example",
        ),
    ] {
        let app = with(Setup { audience, ..Setup::default() }).await;
        let body = json!({"username": "alice", "password": "wrong", "aud": "other"});
        let answer = TestResponse::send(app.post("/auth").json(&body)).await;
        answer.expect_error(400, "invalid_audience", sentence);
    }
}

#[tokio::test]
async fn access_tokens_have_all_claims_of_rfc_9068() {
    let token_type = TokenType::AccessToken;
    let app = with(Setup { audience: Some(AUDIENCES), token_type, ..Setup::default() }).await;
    let (_, token) = signed_in(&app, "alice").await;
    let (header, mut claims) = decode(&token);
    assert_eq!(header, json!({"alg": "RS256", "typ": "at+jwt", "kid": "1"}));
    assert!(claims.as_object_mut().unwrap().remove("jti").unwrap().is_string());
    let (iat, ttl) = (app.now(), i64::try_from(TTL.as_secs()).unwrap());
    assert_eq!(
        claims,
        json!({
            "iss": ISSUER, "sub": "alice", "client_id": "alice", "uid": 1, "aud": "https://api.example",
            "iat": iat, "exp": iat + ttl,
        })
    );
    expect_valid(&app, &token).await;
}

#[tokio::test]
async fn open_mode_fault_tokens_keep_the_type_and_a_client_id_of_the_client_wins() {
    let (auth_mode, token_type) = (AuthMode::Open, TokenType::AccessToken);
    // Some faults are only possible with ECDSA.
    let spec = spec(Algorithm::Es256);
    let app = with(Setup { auth_mode, audience: Some("api"), token_type, spec, ..Setup::default() }).await;
    let body = json!({"sub": "alice", "claims": {"client_id": "app"}});
    let token = TestResponse::send(app.post("/auth").json(&body)).await.token();
    assert_eq!(decode(&token).1["client_id"], "app");
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::RevokedKey) {
        let token = TestResponse::send(app.post(&format!("/auth?fault={}", fault.name()))).await.token();
        assert_eq!(decode(&token).0["typ"], "at+jwt", "{}", fault.name());
    }
}

#[tokio::test]
async fn open_mode_accepts_tokens_about_any_subject() {
    let app = with(Setup { auth_mode: AuthMode::Open, ..Setup::default() }).await;
    for (sub, header) in [
        ("alice", "alice"),
        ("a b", "a%20b"),
        ("50%", "50%25"),
        ("J\u{fc}rgen", "J%C3%BCrgen"),
        ("a,b;c=\"d\"", "a,b;c=\"d\""),
    ] {
        let body = json!({"sub": sub, "claims": {"active": false, "username": "x", "token_type": "y"}});
        let token = TestResponse::send(app.post("/auth").json(&body)).await.token();
        expect_accepted(&verify(&app, "", &token).await, header, None);
        let mut expected = decode(&token).1;
        expected["active"] = json!(true);
        expected["token_type"] = json!("Bearer");
        expected["username"] = json!(sub);
        assert_eq!(introspect(&app, INTROSPECT, &token).await.json, expected);
    }
    // No AUDIENCE names this service, so a token for another one is refused unless that is asked for.
    let body = json!({"aud": ["a", "b"]});
    let token = TestResponse::send(app.post("/auth").json(&body)).await.token();
    expect_ended(&app, &token).await;
    assert_eq!(verify(&app, "?aud=b", &token).await.status, 204);
}

/// What `jwksd jwt verify` says, which shares this code.
fn offline(token: &str, jwks: &Value, now: i64) -> bool {
    let keys = TrustedKeys::parse(jwks).unwrap();
    let expected = Validation {
        issuer: Some(ISSUER.to_owned()),
        audience: Some("https://api.example".to_owned()),
        ..Validation::default()
    };
    let claims = Jws::parse(token).and_then(|jws| jws.verify(&keys));
    claims.and_then(|claims| validate(&claims, &expected, Timestamp::from_secs(now))).is_ok()
}

#[tokio::test]
async fn verify_and_offline_verification_agree_on_good_and_fault_tokens() {
    let audience = Some("https://api.example");
    let spec = spec(Algorithm::Es256);
    let app = with(Setup { auth_mode: AuthMode::Open, audience, spec, ..Setup::default() }).await;
    let revoked = app.keyring.report().first().unwrap().kid;
    app.pass(HOUR).await;
    app.keyring.rotate(true).await.unwrap();
    app.keyring.revoke(revoked).await.unwrap();
    let mut paths = vec!["/auth".to_owned(), "/auth?expired".to_owned()];
    paths.extend(Fault::ALL.map(|fault| format!("/auth?fault={}", fault.name())));
    for path in paths {
        let answer = TestResponse::send(app.post(&path)).await;
        let token = answer.token();
        let is_valid = verify(&app, "", &token).await.status == 204;
        assert_eq!(is_valid, offline(&token, &app.get("/jwks").await.json, app.now()), "{path}");
        assert_eq!(is_valid, path == "/auth", "{path}");
    }
}
