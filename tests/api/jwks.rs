use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::helpers::{DAY, HOUR, MINUTE, TestApp, TestResponse};

const PATHS: [&str; 2] = ["/.well-known/jwks.json", "/jwks"];

#[tokio::test]
async fn the_jwks_has_the_public_part_of_every_unexpired_key_and_nothing_else() {
    let app = TestApp::spawn().await;
    for path in PATHS {
        let answer = app.get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        let n = answer.json["keys"][0]["n"].clone();
        assert_eq!(
            answer.json,
            json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": n, "e": "AQAB"}]})
        );
        assert_eq!(n.as_str().unwrap().len(), 342, "2048 bits in base64url without padding");
    }
}

#[tokio::test]
async fn the_jwks_is_publicly_cacheable_and_readable_from_any_origin() {
    let app = TestApp::spawn().await;
    for path in PATHS {
        let answer = app.get(path).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let head = TestResponse::send(app.request(Method::HEAD, path)).await;
        assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
        for name in ["content-type", "cache-control", "access-control-allow-origin", "etag", "content-length"]
        {
            assert_eq!(head.header(name), answer.header(name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_with_the_current_etag_gets_304() {
    let app = TestApp::spawn().await;
    let etag = app.get("/jwks").await.header("etag").unwrap().to_owned();
    let with = async |value: &str| {
        TestResponse::send(app.request(Method::GET, "/jwks").header("if-none-match", value)).await
    };
    for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let answer = with(&known).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    for unknown in ["\"x\"", "", etag.trim_matches('"')] {
        assert_eq!(with(unknown).await.status, StatusCode::OK, "{unknown}");
    }
}

#[tokio::test]
async fn an_expired_key_leaves_the_jwks_in_that_second_and_caches_expire_with_it() {
    let app = TestApp::spawn().await;
    app.pass(DAY - 2 * HOUR).await;
    assert_eq!(app.published_kids().await, ["1", "3"]);
    let etag = app.get("/jwks").await.header("etag").unwrap().to_owned();

    app.clock.advance(2 * HOUR - MINUTE);
    assert_eq!(app.get("/jwks").await.header("cache-control"), Some("public, max-age=60"));
    app.clock.advance(MINUTE - std::time::Duration::from_millis(1));
    assert_eq!(app.published_kids().await, ["1", "3"]);
    assert_eq!(app.get("/jwks").await.header("cache-control"), Some("public, max-age=0"));

    // No rotation has run since: the JWKS depends on the clock only.
    app.clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(app.published_kids().await, ["3"]);
    assert_ne!(app.get("/jwks").await.header("etag").unwrap(), etag);
}

#[tokio::test]
async fn a_key_that_left_the_jwks_stays_out_when_the_clock_is_set_back() {
    let app = TestApp::spawn().await;
    app.pass(DAY - 2 * HOUR).await;
    app.clock.advance(2 * HOUR);
    assert_eq!(app.published_kids().await, ["3"]);
    let later = jwksd_core::clock::Clock::now(app.clock.as_ref());
    app.clock.set(later.minus(HOUR));
    assert_eq!(app.published_kids().await, ["3"]);
    app.clock.set(later);
    app.keyring.tick().await.unwrap();
    app.clock.set(later.minus(HOUR));
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn without_a_key_to_publish_the_response_is_503_and_not_an_empty_jwks() {
    let app = TestApp::spawn().await;
    app.clock.advance(DAY);
    let answer = app.get("/jwks").await;
    answer.expect_error(503, "no_key", "There is no key to publish");
    assert_eq!(answer.header("retry-after"), Some("1"));
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
}

#[tokio::test]
async fn a_key_that_left_the_jwks_stays_out_even_if_its_expiry_was_not_recorded_before_the_clock_was_set_back()
 {
    let app = TestApp::spawn().await;
    app.pass(DAY - 2 * HOUR).await;
    app.clock.advance(2 * HOUR);
    assert_eq!(app.published_kids().await, ["3"]);
    app.clock.set(jwksd_core::clock::Clock::now(app.clock.as_ref()).minus(HOUR));
    // Another process changes a key, so that the snapshot is reloaded.
    let touch = sqlx::query("UPDATE key_lives SET made_at = made_at");
    touch.execute(&mut app.db().await).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(app.published_kids().await, ["3"]);
    let recorded: Option<i64> = sqlx::query_scalar("SELECT expired_at FROM key_lives WHERE kid = 1")
        .fetch_one(&mut app.db().await)
        .await
        .unwrap();
    assert!(recorded.is_some());
}
