use reqwest::Method;

use crate::helpers::{Setup, TestApp, TestResponse};

const SENTENCE: &str = "Too many requests; wait as long as Retry-After says";

fn limited() -> Setup {
    Setup { auth_rate_limit: 3, register_rate_limit: 2, ..Setup::default() }
}

fn expect_limited(answer: &TestResponse) {
    answer.expect_error(429, "rate_limited", SENTENCE);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn every_post_to_auth_counts_whatever_its_result_and_other_methods_do_not() {
    let app = TestApp::with(limited()).await;
    for _ in 0..20 {
        assert_eq!(TestResponse::send(app.request(Method::GET, "/auth")).await.status.as_u16(), 405);
    }
    let bodies = ["{", "{}", r#"{"username":"a","password":"b"}"#];
    for (body, status) in bodies.into_iter().zip([400, 401, 401]) {
        assert_eq!(TestResponse::send(app.post("/auth").body(body)).await.status.as_u16(), status);
    }
    expect_limited(&TestResponse::send(app.post("/auth?expired=nonsense").body("{")).await);
    assert_eq!(app.get("/jwks").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_post_to_auth_that_a_page_may_not_send_counts_too() {
    for path in ["/auth", "/tenant/auth"] {
        let app = TestApp::with(Setup { issuer: "https://id.example/tenant", ..limited() }).await;
        for headers in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "a b")]
        {
            let answer = app.post(path).header(headers.0, headers.1).send().await.unwrap();
            let status = if headers.0 == "host" { 400 } else { 403 };
            assert_eq!(answer.status().as_u16(), status, "{path} {headers:?}");
        }
        let page = app.post(path).header("origin", "https://evil.example").send().await.unwrap();
        assert_eq!((page.status().as_u16(), &page.headers()["retry-after"]), (429, &"1".parse().unwrap()));
        expect_limited(&TestResponse::send(app.post("/auth")).await);
        // A preflight does not count.
        let preflight = app.request(Method::OPTIONS, path).header("origin", "https://evil.example");
        let preflight = preflight.header("access-control-request-method", "POST").send().await.unwrap();
        assert_eq!(preflight.status().as_u16(), 405);
    }
}

#[tokio::test]
async fn registrations_have_their_own_bucket() {
    let app = TestApp::with(limited()).await;
    app.register("a").await;
    app.register("b").await;
    expect_limited(&TestResponse::send(app.post("/register").body("{}")).await);
    assert_eq!(app.count("users").await, 2);
    assert_eq!(TestResponse::send(app.post("/auth")).await.status.as_u16(), 401);
}

#[tokio::test]
async fn a_forwarded_address_counts_only_behind_a_trusted_proxy() {
    let from = |app: &TestApp, client: &str| app.post("/auth").header("x-forwarded-for", client.to_owned());

    let direct = TestApp::with(limited()).await;
    for client in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        assert_eq!(TestResponse::send(from(&direct, client)).await.status.as_u16(), 401);
    }
    expect_limited(&TestResponse::send(from(&direct, "198.51.100.4")).await);

    let proxied = TestApp::with(Setup { trusted_proxies: vec!["127.0.0.0/8"], ..limited() }).await;
    for client in ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "2001:db8::1"] {
        assert_eq!(TestResponse::send(from(&proxied, client)).await.status.as_u16(), 401);
    }
    for _ in 0..2 {
        assert_eq!(TestResponse::send(from(&proxied, "6.6.6.6, 198.51.100.1")).await.status.as_u16(), 401);
    }
    expect_limited(&TestResponse::send(from(&proxied, "7.7.7.7, 198.51.100.1")).await);
}

#[tokio::test]
async fn the_forwarded_address_is_the_one_in_auth_logs() {
    let app = TestApp::with(Setup { trusted_proxies: vec!["127.0.0.1/32"], ..Setup::default() }).await;
    let password = app.register("alice").await;
    let body = serde_json::json!({"username": "alice", "password": password});
    TestResponse::send(app.post("/auth").header("x-forwarded-for", "2001:db8::7").json(&body)).await.token();
    let ip: String =
        sqlx::query_scalar("SELECT request_ip FROM auth_logs").fetch_one(&mut app.db().await).await.unwrap();
    assert_eq!(ip, "2001:db8::7");
}

#[tokio::test]
async fn bytes_that_are_not_text_neither_change_the_client_nor_give_it_another_limit() {
    let app = TestApp::with(Setup { trusted_proxies: vec!["127.0.0.0/8"], ..limited() }).await;
    let password = app.register("alice").await;
    let account = serde_json::json!({"username": "alice", "password": password});
    let from = |sent: &[u8]| {
        let header = reqwest::header::HeaderValue::from_bytes(sent).unwrap();
        TestResponse::send(app.post("/auth").header("x-forwarded-for", header).json(&account))
    };
    for sent in [&b"\xff, 198.51.100.1"[..], b"caf\xe9,198.51.100.1", "☃, 198.51.100.1".as_bytes()] {
        assert_eq!(from(sent).await.status.as_u16(), 200);
    }
    expect_limited(&from(b"198.51.100.1").await);
    let addresses: Vec<String> =
        sqlx::query_scalar("SELECT request_ip FROM auth_logs").fetch_all(&mut app.db().await).await.unwrap();
    assert_eq!(addresses, ["198.51.100.1"; 3]);
}
