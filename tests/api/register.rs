use jwksd_http::Registration;
use serde_json::json;
use sqlx::Row as _;

use crate::helpers::{Setup, TestApp, TestResponse};

async fn register(app: &TestApp, username: &str, email: &str) -> TestResponse {
    TestResponse::send(app.post("/register").json(&json!({"username": username, "email": email}))).await
}

#[tokio::test]
async fn registration_returns_a_uuid_and_stores_its_argon2id_hash() {
    let app = TestApp::spawn().await;
    let answer = register(&app, "Alice+1", "Alice@Example.com").await;
    assert_eq!(answer.status.as_u16(), 201);
    let password = answer.json["password"].as_str().unwrap().to_owned();
    assert_eq!(answer.json, json!({"password": password}));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(password.len(), 36);
    assert_eq!((password.as_bytes()[14], password.matches('-').count()), (b'4', 4), "{password}");

    let row = sqlx::query("SELECT * FROM users").fetch_one(&mut app.db().await).await.unwrap();
    assert_eq!(row.get::<String, _>("username"), "Alice+1");
    assert_eq!(row.get::<String, _>("email"), "Alice@Example.com");
    assert_eq!(row.get::<Option<String>, _>("last_login"), None);
    let hash: String = row.get("password_hash");
    assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$") && !hash.contains(&password), "{hash}");
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_skipped() {
    let app = TestApp::spawn().await;
    let send = async |path: &str, label: &str, body: String| {
        TestResponse::send(app.post(path).header("content-type", label).body(body)).await
    };
    for (name, label) in [
        ("bomuser", "application/json"),
        ("form", "application/x-www-form-urlencoded"),
        ("text", "text/plain"),
    ] {
        let body = include_str!("../data/register-bom.json").replace("bomuser", name);
        let answer = send("/register", label, body.replace("bom@", &format!("{name}@"))).await;
        assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
        let body = json!({"username": name, "password": answer.json["password"]});
        let answer = send("/auth", label, format!("\u{feff} {body}")).await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    }
    let answer = send("/register", "application/json", "\u{feff}".to_owned()).await;
    assert_eq!((answer.status.as_u16(), &answer.json["code"]), (400, &json!("invalid_body")));
    let answer = send("/register", "application/json", "\u{feff}\u{feff}{}".to_owned()).await;
    answer.expect_error(400, "invalid_body", "The body is not valid JSON (line 1, column 1)");
    assert_eq!(app.count("users").await, 3);
}

#[tokio::test]
async fn usernames_and_email_addresses_are_unique_regardless_of_case() {
    let app = TestApp::spawn().await;
    register(&app, "alice", "alice@example.com").await;
    for (name, email) in
        [("alice", "new@example.com"), ("ALICE", "new@example.com"), ("Alice", "Alice@example.com")]
    {
        let answer = register(&app, name, email).await;
        let (code, sentence) = match answer.json["code"].as_str().unwrap() {
            "email_taken" if name == "Alice" => ("email_taken", "The email is taken"),
            _ => ("username_taken", "The username is taken"),
        };
        answer.expect_error(409, code, sentence);
    }
    for email in ["alice@example.com", "ALICE@Example.COM"] {
        register(&app, "bob", email).await.expect_error(409, "email_taken", "The email is taken");
    }
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn a_username_is_not_assigned_again_after_its_account_is_deleted() {
    let app = TestApp::spawn().await;
    register(&app, "alice", "alice@example.com").await;
    sqlx::query("DELETE FROM users").execute(&mut app.db().await).await.unwrap();
    register(&app, "Alice", "alice@example.com").await.expect_error(
        409,
        "username_taken",
        "The username is taken",
    );
    assert_eq!(register(&app, "bob", "alice@example.com").await.status.as_u16(), 201);
}

#[tokio::test]
async fn an_invalid_username_or_email_is_refused_with_the_rule() {
    let app = TestApp::spawn().await;
    let long = "x".repeat(10_000);
    let character = "A username may have only ASCII letters, digits and . _ - @ +";
    for (name, sentence) in [
        ("", "The username is empty"),
        (&long, "A username may have at most 64 characters"),
        ("a\0b", character),
        ("a\nb", character),
        ("a b", character),
        ("caf\u{e9}", character),
        ("cafe\u{301}", character),
    ] {
        register(&app, name, "a@example.com").await.expect_error(400, "invalid_username", sentence);
    }
    for email in
        ["", "alice", "a@", "a b@example.com", "a@example.com\n", "É@example.com", "\"a b\"@example.com"]
    {
        let sentence = "The email is not an e-mail address";
        register(&app, "alice", email).await.expect_error(400, "invalid_email", sentence);
    }
    assert_eq!((app.count("users").await, app.count("names_given").await), (0, 0));
}

#[tokio::test]
async fn closed_registration_creates_no_account() {
    let app = TestApp::with(Setup { registration: Registration::Closed, ..Setup::default() }).await;
    let answer = register(&app, "alice", "alice@example.com").await;
    answer.expect_error(403, "registration_closed", "Registration is closed");
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn twenty_concurrent_registrations_of_one_username_create_one_account() {
    let app = std::sync::Arc::new(TestApp::spawn().await);
    let requests: Vec<_> = (0..20)
        .map(|i| {
            let app = std::sync::Arc::clone(&app);
            tokio::spawn(
                async move { register(&app, "alice", &format!("{i}@example.com")).await.status.as_u16() },
            )
        })
        .collect();
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201], vec![409; 19]].concat());
}

#[tokio::test]
async fn usernames_and_email_addresses_stay_unique_when_accounts_change() {
    let app = TestApp::spawn().await;
    app.register("alice").await;
    app.register("bob").await;
    let mut db = app.db().await;
    let mut change = async |sql: &'static str| sqlx::query(sql).execute(&mut db).await.is_ok();
    assert!(!change("UPDATE users SET email = 'ALICE@example.com' WHERE username = 'bob'").await);
    assert!(!change("UPDATE users SET username = 'ALICE' WHERE username = 'bob'").await);
    assert!(
        change("UPDATE users SET email = 'BOB@example.com', username = 'Bob' WHERE username = 'bob'").await
    );
    assert!(change("UPDATE users SET username = 'robert' WHERE username = 'Bob'").await);
    register(&app, "bob", "b@example.com").await.expect_error(409, "username_taken", "The username is taken");
    register(&app, "Robert", "b@example.com").await.expect_error(
        409,
        "username_taken",
        "The username is taken",
    );
}
