use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jwksd_core::password::Hasher;
use jwksd_http::AuthMode;
use rsa::BigUint;
use rsa::sha2::{Digest as _, Sha256};
use serde_json::json;
use sqlx::{Executor as _, Row as _};

use crate::helpers::{DAY, ISSUER, Setup, TTL, TestApp, TestResponse, decode, verify};

const REFUSAL: &str = "Invalid username or password";

#[tokio::test]
async fn a_token_names_the_account_and_verifies_through_the_jwks() {
    let app = TestApp::with(Setup { audience: Some("api"), ..Setup::default() }).await;
    let password = app.register("Alice").await;
    let token = app.auth("Alice", &password).await.token();

    let (header, mut claims) = decode(&token);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "1"}));
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 36, "{id}");
    let iat = app.now();
    let exp = iat + i64::try_from(TTL.as_secs()).unwrap();
    assert_eq!(
        claims,
        json!({"iss": ISSUER, "sub": "Alice", "uid": 1, "aud": "api", "iat": iat, "exp": exp})
    );
    verify(&token, &app.jwks().await).unwrap();
}

// aws-lc-rs signs, and jsonwebtoken verifies with it too. The `rsa` crate shares no code with either.
#[tokio::test]
async fn the_signature_verifies_as_pkcs1_v1_5_with_sha_256_in_another_rsa_implementation() {
    let app = TestApp::spawn().await;
    let token = app.token().await;
    let jwks = app.get("/jwks").await.json;
    let number = |name: &str| {
        BigUint::from_bytes_be(&URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap())
    };
    let key = rsa::RsaPublicKey::new(number("n"), number("e")).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    key.verify(rsa::Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message), &signature).unwrap();
}

#[tokio::test]
async fn credentials_are_accepted_as_json_as_a_form_and_as_basic() {
    let app = TestApp::spawn().await;
    let password = app.register("bob").await;
    let json_text = json!({"username": "bob", "password": password}).to_string();
    let basic = format!("bAsIc {}", STANDARD.encode(format!("bob:{password}")));
    let form = [("username", "bob"), ("password", password.as_str())];
    let answers = [
        app.post("/auth").body(json_text.clone()).header("content-type", "application/json"),
        app.post("/auth").body(json_text.clone()).header("content-type", "application/x-www-form-urlencoded"),
        app.post("/auth").body(json_text.clone()).header("content-type", "text/plain"),
        app.post("/auth").body(json_text),
        app.post("/auth").form(&form),
        app.post("/auth").form(&form).header("authorization", format!("Bearer {}", "ab".repeat(32))),
        app.post("/auth").form(&form).header("authorization", "Basic d3Jvbmc6d3Jvbmc="),
        app.post("/auth").header("authorization", &basic),
        app.post("/auth").header("authorization", &basic).body("{}"),
    ];
    for request in answers {
        let answer = TestResponse::send(request).await;
        assert_eq!(decode(&answer.token()).1["sub"], "bob");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn wrong_and_missing_credentials_get_the_same_response() {
    let app = TestApp::spawn().await;
    let password = app.register("carol").await;
    let long = "x".repeat(10_000);
    let answers = [
        app.auth("carol", "wrong").await,
        app.auth("unknown", &password).await,
        app.auth("", "").await,
        app.auth(&long, &password).await,
        app.auth("carol\0", &password).await,
        app.auth("' OR 1=1 --", "' OR 1=1 --").await,
        TestResponse::send(app.post("/auth")).await,
        TestResponse::send(app.post("/auth").body("{}")).await,
        TestResponse::send(app.post("/auth").body(r#"{"username":"carol"}"#)).await,
        TestResponse::send(app.post("/auth").form(&[("password", &password)])).await,
        TestResponse::send(app.post("/auth").header("authorization", "Bearer abc")).await,
    ];
    for answer in answers {
        answer.expect_error(401, "invalid_credentials", REFUSAL);
        assert_eq!(answer.header("www-authenticate"), Some("Password realm=\"jwksd\""));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(app.count("auth_logs").await, 0);
}

#[tokio::test]
async fn only_clients_that_sent_basic_are_challenged_with_it() {
    let app = TestApp::spawn().await;
    for value in ["Basic", "Basic !!!", "Basic YQ==", &format!("Basic {}", STANDARD.encode("a:b"))] {
        let answer = TestResponse::send(app.post("/auth").header("authorization", value)).await;
        answer.expect_error(401, "invalid_credentials", REFUSAL);
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"jwksd\", charset=\"UTF-8\""));
    }
}

#[tokio::test]
async fn the_body_takes_precedence_over_basic() {
    let app = TestApp::spawn().await;
    let password = app.register("dave").await;
    let right = format!("Basic {}", STANDARD.encode(format!("dave:{password}")));
    let body = json!({"username": "dave", "password": "wrong"});
    let answer = TestResponse::send(app.post("/auth").header("authorization", right).json(&body)).await;
    answer.expect_error(401, "invalid_credentials", REFUSAL);
}

#[tokio::test]
async fn usernames_are_case_insensitive_and_sub_is_spelled_as_registered() {
    let app = TestApp::spawn().await;
    let password = app.register("Erin").await;
    let token = app.auth("eRIN", &password).await.token();
    assert_eq!(decode(&token).1["sub"], "Erin");
}

#[tokio::test]
async fn a_sign_in_records_one_row_and_last_login_and_a_refusal_records_nothing() {
    let app = TestApp::spawn().await;
    let password = app.register("frank").await;
    app.auth("frank", "wrong").await;
    app.auth("frank", &password).await.token();
    let rows = sqlx::query("SELECT request_ip, request_timestamp, user_id FROM auth_logs")
        .fetch_all(&mut app.db().await)
        .await
        .unwrap();
    let rows: Vec<(String, String, i64)> =
        rows.iter().map(|row| (row.get(0), row.get::<String, _>(1), row.get(2))).collect();
    assert_eq!(rows, [("127.0.0.1".to_owned(), "2027-01-15 08:00:00".to_owned(), 1)]);
    let row = sqlx::query("SELECT date_registered, last_login FROM users")
        .fetch_one(&mut app.db().await)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "2027-01-15 08:00:00");
    assert_eq!(row.get::<String, _>(1), "2027-01-15 08:00:00");
}

#[tokio::test]
async fn an_expired_token_is_signed_by_an_expired_unpublished_key() {
    let app = TestApp::spawn().await;
    let password = app.register("grace").await;
    for query in ["?expired", "?expired=true", "?expired="] {
        let body = json!({"username": "grace", "password": password});
        let token = TestResponse::send(app.post(&format!("/auth{query}")).json(&body)).await.token();
        let (header, claims) = decode(&token);
        assert_eq!(header["kid"], "2");
        assert!(!app.published_kids().await.contains(&"2".to_owned()));
        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        let key_exp: i64 = sqlx::query("SELECT exp FROM keys WHERE kid = 2")
            .fetch_one(&mut app.db().await)
            .await
            .unwrap()
            .get(0);
        assert!(iat < exp && exp <= key_exp && key_exp < app.now(), "{claims} {key_exp}");
    }
}

#[tokio::test]
async fn expired_false_gives_a_valid_token_and_other_values_are_refused() {
    let app = TestApp::spawn().await;
    let password = app.register("heidi").await;
    let body = json!({"username": "heidi", "password": password});
    let answer = TestResponse::send(app.post("/auth?expired=false&other=1").json(&body)).await;
    assert_eq!(decode(&answer.token()).0["kid"], "1");
    for query in
        ["expired=invalid", "expired=True", "expired=1", "expired&expired", "expired=true&expired=false"]
    {
        TestResponse::send(app.post(&format!("/auth?{query}")).json(&body)).await.expect_error(
            400,
            "invalid_expired",
            "Invalid 'expired' query parameter. Must be 'true' or 'false'.",
        );
    }
}

#[tokio::test]
async fn without_an_expired_key_the_response_is_404_and_without_a_signing_key_503() {
    let app = TestApp::spawn().await;
    let password = app.register("ivan").await;
    let mut db = app.db().await;
    db.execute("CREATE TRIGGER full BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .await
        .unwrap();
    db.execute("DELETE FROM keys WHERE kid = 2").await.unwrap();
    app.keyring.tick().await.unwrap_err();
    let body = json!({"username": "ivan", "password": password});
    let expired = TestResponse::send(app.post("/auth?expired").json(&body)).await;
    expired.expect_error(404, "no_suitable_key", "No suitable key found");
    app.clock.advance(DAY);
    let unsigned = app.auth("ivan", &password).await;
    unsigned.expect_error(503, "no_key", "No key can sign a token now");
    assert_eq!(unsigned.header("retry-after"), Some("1"));
    assert_eq!(app.count("auth_logs").await, 0);
}

#[tokio::test]
async fn after_a_suspend_auth_is_503_until_the_rotation_has_made_a_key() {
    for auth_mode in [AuthMode::Password, AuthMode::Open] {
        let app =
            TestApp::with(Setup { auth_mode, admin_token: Some("0123456789abcdef"), ..Setup::default() })
                .await;
        // Open mode issues no tokens on a store with accounts.
        let password = match auth_mode {
            AuthMode::Open => "x".to_owned(),
            AuthMode::Password => app.register("judy").await,
        };
        let body = json!({"username": "judy", "password": password});
        let sign_in = |query: &str| TestResponse::send(app.post(&format!("/auth{query}")).json(&body));
        app.clock.advance(30 * DAY);
        let answer = sign_in("").await;
        answer.expect_error(503, "no_key", "No key can sign a token now");
        assert_eq!(answer.header("retry-after"), Some("1"));
        if auth_mode == AuthMode::Open {
            sign_in("?fault=alg-none").await.expect_error(503, "no_key", "No key can sign a token now");
        }
        let metrics =
            TestResponse::send(app.request(reqwest::Method::GET, "/metrics").bearer_auth("0123456789abcdef"))
                .await;
        let line = r#"jwksd_http_requests_total{route="/auth",status="503"}"#;
        assert!(metrics.text.lines().any(|found| found.starts_with(line)), "{}", metrics.text);
        app.keyring.tick().await.unwrap();
        sign_in("").await.token();
    }
}

#[tokio::test]
async fn open_mode_checks_no_credentials_and_records_nothing() {
    let app = TestApp::with(Setup { auth_mode: AuthMode::Open, ..Setup::default() }).await;
    let subject = async |request| decode(&TestResponse::send(request).await.token()).1;
    let claims = subject(app.post("/auth")).await;
    assert_eq!((&claims["sub"], claims.get("uid")), (&json!("anonymous"), None));
    assert_eq!(
        subject(app.post("/auth").form(&[("username", "userABC"), ("password", "x")])).await["sub"],
        "userABC"
    );
    assert_eq!(subject(app.post("/auth").body(r#"{"username":"José"}"#)).await["sub"], "José");
    let basic = format!("Basic {}", STANDARD.encode("zoe:"));
    assert_eq!(subject(app.post("/auth").header("authorization", basic)).await["sub"], "zoe");
    assert_eq!(decode(&TestResponse::send(app.post("/auth?expired=true")).await.token()).0["kid"], "2");
    assert_eq!((app.count("users").await, app.count("auth_logs").await), (0, 0));
}

#[tokio::test]
async fn a_password_that_changes_during_the_check_is_refused() {
    // Slow enough that the change falls into the check.
    let setup = Setup { hasher: Hasher::new(64 * 1024, 8, 1).unwrap(), ..Setup::default() };
    let app = std::sync::Arc::new(TestApp::with(setup).await);
    let password = app.register("judy").await;
    let checking = tokio::spawn({
        let (app, password) = (std::sync::Arc::clone(&app), password.clone());
        async move { app.auth("judy", &password).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    sqlx::query("UPDATE users SET password_hash = password_hash || 'A'")
        .execute(&mut app.db().await)
        .await
        .unwrap();
    checking.await.unwrap().expect_error(401, "invalid_credentials", REFUSAL);
    assert_eq!(app.count("auth_logs").await, 0);
}

#[tokio::test]
async fn hashes_of_every_cost_sign_in_and_an_invalid_hash_does_not() {
    let app = TestApp::spawn().await;
    for name in ["old", "blob", "none"] {
        app.register(name).await;
    }
    let mut db = app.db().await;
    let other = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    let mut set = async |name: &str, sql: &'static str| {
        sqlx::query(sql).bind(other).bind(name).execute(&mut db).await.unwrap();
    };
    set("old", "UPDATE users SET password_hash = ? WHERE username = ?").await;
    set("blob", "UPDATE users SET password_hash = CAST(? AS BLOB) WHERE username = ?").await;
    set("none", "UPDATE users SET password_hash = '$2b$12$' || substr(?, 1, 0) WHERE username = ?").await;
    let costs: Vec<(String, i64)> = sqlx::query_as("SELECT * FROM hash_costs WHERE accounts > 0")
        .fetch_all(&mut app.db().await)
        .await
        .unwrap();
    assert_eq!(costs, [("$argon2id$v=19$m=65536,t=2,p=1$".to_owned(), 2)]);
    for name in ["old", "blob"] {
        assert_eq!(decode(&app.auth(name, "password").await.token()).1["sub"], name);
    }
    for (name, password) in [("none", "password"), ("old", "wrong"), ("unknown", "password")] {
        app.auth(name, password).await.expect_error(401, "invalid_credentials", REFUSAL);
    }
}

#[tokio::test]
async fn the_right_password_signs_in_after_any_number_of_wrong_ones() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    for _ in 0..50 {
        app.auth("alice", "wrong").await.expect_error(401, "invalid_credentials", REFUSAL);
    }
    app.auth("alice", &password).await.token();
}
