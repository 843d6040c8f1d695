//! Invalid input: the response is always a 4xx error object, and nothing is stored.

use jwksd_http::AuthMode;
use reqwest::StatusCode;

use crate::helpers::{Setup, TestApp, TestResponse};

const BOTH: [&str; 2] = ["/register", "/auth"];

async fn expect_refusal(app: &TestApp, path: &str, content_type: &str, body: Vec<u8>) -> TestResponse {
    let shown = String::from_utf8_lossy(&body).chars().take(60).collect::<String>();
    let answer = TestResponse::send(app.post(path).header("content-type", content_type).body(body)).await;
    assert!(answer.status.is_client_error(), "{path} {content_type} {shown}: {answer:?}");
    let shape = answer.json.as_object().unwrap();
    assert_eq!(shape.keys().collect::<Vec<_>>(), ["code", "error"], "{path} {shown}");
    answer
}

#[tokio::test]
async fn malformed_json_is_refused_with_line_and_column() {
    let app = TestApp::spawn().await;
    let cases: [(&[u8], &str); 6] = [
        (b"{", "The body is not valid JSON (line 1, column 1)"),
        (b"{\"username\": \n \"a\",,}", "The body is not valid JSON (line 2, column 6)"),
        (b"{\"username\":\"a\"]", "The body is not valid JSON (line 1, column 16)"),
        (b"{\"username\":\"\xFF\"}", "The body is not valid JSON (line 1, column 14)"),
        (b"{\"username\":\"a\0\"}", "The body is not valid JSON (line 1, column 15)"),
        (b"{\"username\":\"\\ud800\"}", "The body is not valid JSON (line 1, column 20)"),
    ];
    for path in BOTH {
        for (body, sentence) in cases {
            let answer = expect_refusal(&app, path, "application/json", body.to_vec()).await;
            answer.expect_error(400, "invalid_body", sentence);
        }
    }
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn wrong_types_and_extra_missing_or_repeated_fields_are_refused_without_echoing_values() {
    let app = TestApp::spawn().await;
    let cases = [
        (r#"{"username":1,"password":"s3cret","email":"a@example.com"}"#, 400),
        (r#"{"username":"alice","password":["s3cret"],"email":"a@example.com"}"#, 400),
        (r#"{"username":"alice","password":"s3cret","email":"a@example.com","admin":true}"#, 400),
        (r#"{"username":"alice","username":"bob","password":"s3cret"}"#, 400),
        (r#"{"username":{"$ne":null},"password":{"$ne":null}}"#, 400),
    ];
    for path in BOTH {
        for (body, status) in cases {
            let answer = expect_refusal(&app, path, "application/json", body.into()).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {body}");
            assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        }
        for body in [&b"[]"[..], b"\"a\"", b"null", b"[\"alice\",\"a@example.com\"]"] {
            let answer = expect_refusal(&app, path, "application/json", body.to_vec()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert!(answer.text.contains("The body must be an object"), "{}", answer.text);
        }
    }
    for body in
        [r#"{"email":"a@example.com"}"#, r#"{"username":"alice"}"#, "{}", r#"{"username":null,"email":null}"#]
    {
        expect_refusal(&app, "/register", "application/json", body.into()).await.expect_error(
            400,
            "invalid_body",
            "The body must be an object with the texts `username` and `email`, and nothing else",
        );
    }
    for body in ["username=a&password=b&extra=c", "username=a&username=b&password=c"] {
        expect_refusal(&app, "/auth", "application/x-www-form-urlencoded", body.into()).await.expect_error(
            400,
            "invalid_body",
            "The body must be a form with `username` and `password`, perhaps `aud`, each once, and nothing else",
        );
    }
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn a_body_of_a_megabyte_gets_a_413_response() {
    let app = TestApp::spawn().await;
    for path in BOTH {
        let body = format!(r#"{{"username":"{}"}}"#, "x".repeat(1024 * 1024)).into_bytes();
        let answer = expect_refusal(&app, path, "application/json", body).await;
        answer.expect_error(413, "body_too_large", "The body is longer than 16 KiB");
    }
}

#[tokio::test]
async fn a_body_of_16_kib_is_read_and_one_byte_more_is_refused() {
    let app = TestApp::spawn().await;
    for (length, status, code) in
        [(16 * 1024, 401, "invalid_credentials"), (16 * 1024 + 1, 413, "body_too_large")]
    {
        let body = format!("{:<length$}", r#"{"username":"alice","password":"wrong"}"#);
        let answer = expect_refusal(&app, "/auth", "application/json", body.into()).await;
        assert_eq!((answer.status.as_u16(), &answer.json["code"]), (status, &code.into()), "{length}");
    }
}

#[tokio::test]
async fn a_body_that_is_neither_json_nor_a_form_is_415() {
    let app = TestApp::spawn().await;
    for (path, label, body) in [
        ("/auth", "text/plain", "hello"),
        ("/auth", "application/xml", "<a/>"),
        ("/register", "text/plain", "hello"),
        ("/register", "application/x-www-form-urlencoded", "username=a&email=a@example.com"),
    ] {
        let answer = expect_refusal(&app, path, label, body.into()).await;
        answer.expect_error(
            415,
            "unsupported_media_type",
            "The body must be JSON, or a form where the path takes one",
        );
    }
}

#[tokio::test]
async fn sql_in_every_field_changes_nothing() {
    let app = TestApp::spawn().await;
    app.register("alice").await;
    for attack in ["'; DROP TABLE users; --", "\" OR \"\"=\"", "alice'--", "%", "_____"] {
        let json = serde_json::json!({"username": attack, "email": attack});
        expect_refusal(&app, "/register", "application/json", json.to_string().into()).await;
        let json = serde_json::json!({"username": attack, "password": attack});
        expect_refusal(&app, "/auth", "application/json", json.to_string().into()).await;
        let query = serde_urlencoded::to_string([("expired", attack)]).unwrap();
        expect_refusal(&app, &format!("/auth?{query}"), "application/json", "{}".into()).await;
    }
    assert_eq!((app.count("users").await, app.count("auth_logs").await), (1, 0));
}

#[tokio::test]
async fn a_form_that_is_not_utf_8_is_refused() {
    let app = TestApp::with(Setup { auth_mode: AuthMode::Open, ..Setup::default() }).await;
    for body in ["username=%FF%FE", "username=a&password=%C0%80"] {
        let answer = expect_refusal(&app, "/auth", "application/x-www-form-urlencoded", body.into()).await;
        answer.expect_error(400, "invalid_body", "The form is not UTF-8");
    }
}
