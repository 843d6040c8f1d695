use reqwest::Method;

use crate::helpers::{TestApp, TestResponse};

#[tokio::test]
async fn an_unknown_path_is_404() {
    let app = TestApp::spawn().await;
    for path in ["/", "/auth/", "/.well-known/", "/jwks.json", "/auth/../etc"] {
        app.get(path).await.expect_error(404, "not_found", "Not found");
    }
}

#[tokio::test]
async fn an_unsupported_method_is_405_with_the_supported_ones() {
    let app = TestApp::spawn().await;
    let others = |known: &[Method]| {
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
            .into_iter()
            .filter(|method| !known.contains(method))
            .collect::<Vec<_>>()
    };
    let post = ("POST", others(&[Method::POST]));
    let get = ("GET,HEAD", others(&[Method::GET, Method::HEAD]));
    for (path, (allow, methods)) in [
        ("/auth", post.clone()),
        ("/register", post.clone()),
        ("/password", post),
        ("/.well-known/jwks.json", get.clone()),
        ("/jwks", get.clone()),
        ("/.well-known/openid-configuration", get.clone()),
        ("/readyz", get.clone()),
        ("/metrics", get),
    ] {
        for method in methods {
            let answer = TestResponse::send(app.request(method.clone(), path)).await;
            if method == Method::HEAD {
                assert_eq!((answer.status.as_u16(), answer.text.as_str()), (405, ""));
            } else {
                answer.expect_error(405, "method_not_allowed", "Method not allowed");
            }
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_response_has_a_request_id_and_keeps_a_valid_one_of_the_client() {
    let app = TestApp::spawn().await;
    let id_for = async |given: Option<&str>, path: &str| {
        let mut request = app.request(Method::GET, path);
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        TestResponse::send(request).await.header("x-request-id").unwrap().to_owned()
    };
    for path in ["/jwks", "/nowhere", "/auth", "/healthz"] {
        assert_eq!(id_for(Some("abc-1.2_3:4"), path).await, "abc-1.2_3:4");
        let long = "x".repeat(129);
        for invalid in ["", "a b", "a<b>", "a\"b", &long] {
            assert_ne!(id_for(Some(invalid), path).await, invalid);
        }
        assert_ne!(id_for(None, path).await, id_for(None, path).await);
    }
}

#[tokio::test]
async fn a_failing_store_is_503_without_internal_details() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    sqlx::query("ALTER TABLE users RENAME TO gone").execute(&mut app.db().await).await.unwrap();
    let answer = app.auth("alice", &password).await;
    answer.expect_error(503, "unavailable", "The service cannot answer just now");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(app.get("/jwks").await.status.as_u16(), 200);
}

#[tokio::test]
async fn every_response_of_auth_register_and_password_is_no_store() {
    let app = TestApp::spawn().await;
    for path in ["/auth", "/register", "/password"] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
            let answer = TestResponse::send(app.request(method.clone(), path)).await;
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {path}");
        }
    }
}
