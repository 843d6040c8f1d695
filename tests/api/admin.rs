//! The admin API's authentication, and `/metrics`.

use reqwest::Method;

use crate::helpers::{HOUR, Setup, TestApp, TestResponse};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn open() -> TestApp {
    TestApp::with(Setup { admin_token: Some(TOKEN), auth_rate_limit: 2, ..Setup::default() }).await
}

async fn ask(app: &TestApp, authorization: &str) -> TestResponse {
    TestResponse::send(app.request(Method::GET, "/metrics").header("authorization", authorization)).await
}

async fn metrics(app: &TestApp) -> Vec<String> {
    let answer = ask(app, &format!("Bearer {TOKEN}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    answer.text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_admin_api_is_closed_without_a_token() {
    let app = TestApp::spawn().await;
    for answer in [app.get("/metrics").await, ask(&app, &format!("Bearer {TOKEN}")).await] {
        answer.expect_error(403, "admin_closed", "The admin surface is closed: ADMIN_TOKEN is not set");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn only_the_admin_token_is_accepted() {
    let app = open().await;
    let answer = app.get("/metrics").await;
    answer.expect_error(401, "invalid_admin_token", "The bearer token is missing or wrong");
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="jwksd""#));
    for wrong in ["Bearer x", &format!("Bearer {TOKEN}0"), &format!("Bearer {}", &TOKEN[1..])] {
        let answer = ask(&app, wrong).await;
        answer.expect_error(401, "invalid_admin_token", "The bearer token is missing or wrong");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="jwksd", error="invalid_token""#),
            "{wrong}"
        );
    }
    assert_eq!(ask(&app, &format!("Basic {TOKEN}")).await.status, 401);
    assert_eq!(ask(&app, &format!("bearer {TOKEN}")).await.status, 200, "the scheme is case-insensitive");
}

#[tokio::test]
async fn wrong_tokens_are_rate_limited_and_the_right_one_never_is() {
    let app = open().await;
    for _ in 0..10 {
        assert_eq!(ask(&app, "Bearer x").await.status, 401);
    }
    for authorization in ["Bearer x", "Bearer", "Basic eDp4"] {
        let answer = ask(&app, authorization).await;
        answer.expect_error(429, "rate_limited", "Too many requests; wait as long as Retry-After says");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    for _ in 0..30 {
        assert_eq!(ask(&app, &format!("Bearer {TOKEN}")).await.status, 200);
    }
    let withdrawn = app.request(Method::DELETE, "/keys/unknown").bearer_auth(TOKEN);
    assert_eq!(TestResponse::send(withdrawn).await.status, 404);
}

#[tokio::test]
async fn the_closed_admin_api_is_rate_limited_for_every_token() {
    let app = TestApp::spawn().await;
    for _ in 0..10 {
        assert_eq!(ask(&app, &format!("Bearer {TOKEN}")).await.status, 403);
    }
    assert_eq!(ask(&app, &format!("Bearer {TOKEN}")).await.status, 429);
}

#[track_caller]
fn expect(metrics: &[String], line: &str) {
    assert!(metrics.iter().any(|found| found == line), "{line} is missing in:\n{}", metrics.join("\n"));
}

#[tokio::test]
async fn metrics_count_requests_sign_ins_hashes_and_keys() {
    let app = open().await;
    let password = app.register("alice").await;
    app.auth("alice", &password).await.token();
    assert_eq!(app.auth("alice", "wrong").await.status, 401);
    assert_eq!(app.auth("alice", "wrong").await.status, 429);
    assert_eq!(app.get("/jwks").await.status, 200);
    assert_eq!(app.get("/nowhere/1").await.status, 404);
    app.pass(HOUR).await;
    let metrics = metrics(&app).await;
    for line in [
        r#"jwksd_http_requests_total{route="/auth",status="200"} 1"#,
        r#"jwksd_http_requests_total{route="/auth",status="401"} 1"#,
        r#"jwksd_http_requests_total{route="/auth",status="429"} 1"#,
        r#"jwksd_http_requests_total{route="/register",status="201"} 1"#,
        r#"jwksd_http_requests_total{route="/jwks",status="200"} 1"#,
        r#"jwksd_http_requests_total{route="unmatched",status="404"} 1"#,
        r#"jwksd_http_request_duration_seconds_count{route="/auth"} 3"#,
        r#"jwksd_http_rate_limited_total{route="/auth"} 1"#,
        r#"jwksd_sign_ins_total{outcome="accepted"} 1"#,
        r#"jwksd_sign_ins_total{outcome="refused"} 1"#,
        r#"jwksd_sign_ins_total{outcome="failed"} 0"#,
        "jwksd_argon2_duration_seconds_count 3",
        "jwksd_argon2_wait_seconds_count 3",
        "jwksd_argon2_running 0",
        "jwksd_argon2_waiting 0",
        r#"jwksd_keys{phase="current"} 1"#,
        r#"jwksd_keys{phase="expired"} 1"#,
        r#"jwksd_keys{phase="next"} 0"#,
        "jwksd_signing_key_age_seconds 3600",
        "jwksd_rotation_failures 0",
        "jwksd_store_errors_total 0",
        &format!(r#"jwksd_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
    ] {
        expect(&metrics, line);
    }
    let next = metrics.iter().find_map(|line| line.strip_prefix("jwksd_next_rotation_seconds "));
    let next: f64 = next.unwrap().parse().unwrap();
    assert!((next - (22.0 * 3600.0)).abs() < 3600.0, "{next}");
}

#[tokio::test]
async fn store_errors_are_counted() {
    let app = open().await;
    let password = app.register("alice").await;
    sqlx::query("ALTER TABLE account_states RENAME TO gone").execute(&mut app.db().await).await.unwrap();
    assert_eq!(app.auth("alice", &password).await.status, 503);
    let metrics = metrics(&app).await;
    expect(&metrics, "jwksd_store_errors_total 1");
    expect(&metrics, r#"jwksd_sign_ins_total{outcome="failed"} 1"#);
}
