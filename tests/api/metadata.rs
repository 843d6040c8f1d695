use serde_json::json;

use crate::helpers::{DAY, ISSUER, TestApp, TestResponse, decode};

#[tokio::test]
async fn discovery_names_the_issuer_and_the_jwks() {
    let app = TestApp::spawn().await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let answer = app.get(path).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(
            answer.json,
            json!({
                "issuer": ISSUER,
                "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
                "response_types_supported": ["token"],
                "grant_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": [],
                "claims_supported": ["iss", "sub", "uid", "aud", "iat", "exp", "jti"],
            })
        );
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}

#[tokio::test]
async fn the_host_of_a_request_appears_neither_in_discovery_nor_in_tokens() {
    let app = TestApp::spawn().await;
    let plain = app.get("/.well-known/openid-configuration").await.json;
    let password = app.register("alice").await;
    let forged = |request: reqwest::RequestBuilder| {
        let forwarded = "host=evil.example;proto=http";
        request
            .header("host", "evil.example")
            .header("x-forwarded-host", "evil.example")
            .header("forwarded", forwarded)
    };
    let request = app.request(reqwest::Method::GET, "/.well-known/openid-configuration");
    assert_eq!(TestResponse::send(forged(request)).await.json, plain);
    let credentials = json!({"username": "alice", "password": password});
    let token = TestResponse::send(forged(app.post("/auth").json(&credentials))).await.token();
    assert_eq!(decode(&token).1["iss"], ISSUER);
}

#[tokio::test]
async fn a_service_that_can_sign_is_ready() {
    let app = TestApp::spawn().await;
    for (path, status) in [("/healthz", "alive"), ("/readyz", "ready")] {
        let answer = app.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json), (200, &json!({"status": status})));
    }
}

#[tokio::test]
async fn a_service_whose_keys_expire_before_a_new_token_is_alive_but_not_ready() {
    let app = TestApp::spawn().await;
    app.clock.advance(DAY - std::time::Duration::from_secs(15 * 60 - 1));
    let answer = app.get("/readyz").await;
    answer.expect_error(503, "not_ready", "Not ready: no key can sign a token of full TOKEN_TTL");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(app.get("/healthz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_rotation_that_stalls_for_a_minute_makes_the_service_not_ready() {
    let app = TestApp::spawn().await;
    app.clock.advance(std::time::Duration::from_secs(61));
    app.get("/readyz").await.expect_error(
        503,
        "not_ready",
        "Not ready: the key rotation has made no progress for 60 s",
    );
    app.keyring.tick().await.unwrap();
    assert_eq!(app.get("/readyz").await.status.as_u16(), 200);
}
