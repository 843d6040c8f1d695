use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jwksd_core::issuer::{Accounts, BackendChoice, GuessLimits, PasswordConfig};
use jwksd_core::password::{Hasher, Password, Salt};
use jwksd_http::AuthMode;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::helpers::{MINUTE, Setup, TestApp, TestResponse, context, verify};

const REFUSAL: &str = "Invalid username or password";
const CHOSEN: &str = "correct horse battery staple";

async fn change(app: &TestApp, body: Value) -> TestResponse {
    TestResponse::send(app.post("/password").json(&body)).await
}

async fn expect_changed(request: RequestBuilder) {
    let answer = TestResponse::send(request).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

fn expect_refused(answer: &TestResponse) {
    answer.expect_error(401, "invalid_credentials", REFUSAL);
    assert_eq!(answer.header("www-authenticate"), Some("Password realm=\"jwksd\""));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn without_a_new_password_a_generated_one_is_returned_and_only_it_signs_in() {
    let app = TestApp::spawn().await;
    let old = app.register("Alice").await;
    let answer = change(&app, json!({"username": "alice", "password": old})).await;
    let new = answer.json["password"].as_str().unwrap().to_owned();
    assert_eq!((answer.status.as_u16(), &answer.json), (200, &json!({"password": new})));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!((new.len(), new.as_bytes()[14]), (36, b'4'), "{new}");
    expect_refused(&app.auth("alice", &old).await);
    app.auth("alice", &new).await.token();
    assert_eq!(app.count("auth_logs").await, 1, "only the sign-in is recorded");
}

#[tokio::test]
async fn a_chosen_password_replaces_the_old_one_and_issued_tokens_stay_valid() {
    let app = TestApp::spawn().await;
    let old = app.register("alice").await;
    let token = app.auth("alice", &old).await.token();
    let body = json!({"username": "ALICE", "password": old, "new_password": CHOSEN});
    expect_changed(app.post("/password").json(&body)).await;
    expect_refused(&app.auth("alice", &old).await);
    expect_refused(&change(&app, body).await);
    app.auth("alice", CHOSEN).await.token();
    verify(&token, &app.jwks().await).unwrap();
}

#[tokio::test]
async fn the_old_password_is_accepted_as_json_as_a_form_and_as_basic() {
    let app = TestApp::spawn().await;
    let old = app.register("alice").await;
    let next = |n: u8| format!("{CHOSEN} {n}");
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("alice:{password}")));
    let json = json!({"username": "alice", "password": old, "new_password": next(1)}).to_string();
    expect_changed(app.post("/password").body(json)).await;
    let form = [("username", "alice"), ("password", &*next(1)), ("new_password", &*next(2))];
    expect_changed(app.post("/password").form(&form)).await;
    let new = json!({"new_password": next(3)});
    expect_changed(app.post("/password").header("authorization", basic(&next(2))).json(&new)).await;
    let answer = TestResponse::send(app.post("/password").header("authorization", basic(&next(3)))).await;
    let generated = answer.json["password"].as_str().unwrap().to_owned();
    let wrong = TestResponse::send(app.post("/password").header("authorization", basic("wrong"))).await;
    wrong.expect_error(401, "invalid_credentials", REFUSAL);
    assert_eq!(wrong.header("www-authenticate"), Some("Basic realm=\"jwksd\", charset=\"UTF-8\""));
    app.auth("alice", &generated).await.token();
}

#[tokio::test]
async fn wrong_missing_and_disabled_credentials_get_the_response_of_auth_and_change_nothing() {
    let app = TestApp::spawn().await;
    let password = app.register("carol").await;
    let disabled = app.register("disabled").await;
    app.accounts.disable("disabled").await.unwrap();
    let hashes = async || -> Vec<String> {
        sqlx::query_scalar("SELECT password_hash FROM users").fetch_all(&mut app.db().await).await.unwrap()
    };
    let before = hashes().await;
    for body in [
        json!({"username": "carol", "password": "wrong", "new_password": CHOSEN}),
        json!({"username": "carol", "password": "wrong"}),
        json!({"username": "unknown", "password": password, "new_password": CHOSEN}),
        json!({"username": "disabled", "password": disabled, "new_password": CHOSEN}),
        json!({"username": "disabled", "password": disabled}),
        json!({"username": "carol", "new_password": CHOSEN}),
        json!({"password": password, "new_password": "short"}),
        json!({}),
    ] {
        expect_refused(&change(&app, body).await);
    }
    expect_refused(&TestResponse::send(app.post("/password")).await);
    assert_eq!(hashes().await, before);
}

#[tokio::test]
async fn a_new_password_against_the_rule_is_refused_with_the_rule_before_anything_is_hashed() {
    let setup = Setup { admin_token: Some("0123456789abcdef"), ..Setup::default() };
    let app = TestApp::with(setup).await;
    let password = app.register("alice.in.wonderland").await;
    let rules = [
        ("elevenchars", "has fewer than 12 characters: choose a longer one"),
        ("", "has fewer than 12 characters: choose a longer one"),
        (
            "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
            "has fewer than 12 characters: choose a longer one",
        ),
        (&"x".repeat(257), "has more than 256 characters: choose a shorter one"),
        ("twelve\u{0}chars", "has a control character, such as a tab or a line break: leave it out"),
        ("Alice.In.Wonderland", "is the username: choose another"),
        ("PasswordPassword", "is one of the most common: choose another"),
        (&password, "is the same as the old one: choose another"),
    ];
    for (new, why) in rules {
        for old in [password.as_str(), "wrong"] {
            if new == password && old == "wrong" {
                continue;
            }
            let body = json!({"username": "alice.in.wonderland", "password": old, "new_password": new});
            let sentence = format!("The new password {why}");
            change(&app, body).await.expect_error(400, "invalid_new_password", &sentence);
        }
    }
    let metrics = app.request(reqwest::Method::GET, "/metrics").bearer_auth("0123456789abcdef");
    let metrics = TestResponse::send(metrics).await.text;
    for line in [
        // The registration.
        "jwksd_argon2_duration_seconds_count 1",
        r#"jwksd_password_changes_total{outcome="refused"} 15"#,
        r#"jwksd_password_changes_total{outcome="accepted"} 0"#,
        r#"jwksd_sign_ins_total{outcome="refused"} 0"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in:\n{metrics}");
    }
    app.auth("alice.in.wonderland", &password).await.token();
}

#[tokio::test]
async fn other_bodies_are_refused_with_the_form_of_the_right_one() {
    let app = TestApp::spawn().await;
    let sentence = "The body must be an object with the texts `username`, `password` and, if you choose one, \
                    `new_password`, and nothing else";
    for body in [r#"{"username":"a","passwort":"b"}"#, r#"{"new_password":1}"#, "[]"] {
        let request = app.post("/password").header("content-type", "application/json").body(body);
        TestResponse::send(request).await.expect_error(400, "invalid_body", sentence);
    }
    let form = app.post("/password").form(&[("username", "a"), ("username", "b")]);
    TestResponse::send(form).await.expect_error(
        400,
        "invalid_body",
        "The body must be a form with `username`, `password` and, if you choose one, `new_password`, each once, and \
         nothing else",
    );
}

#[tokio::test]
async fn the_password_can_be_typed_in_any_unicode_form_and_one_that_was_hashed_as_typed_still_signs_in() {
    let app = TestApp::spawn().await;
    let old = app.register("alice").await;
    let (nfc, nfd) = ("crème brûlée", "cre\u{300}me bru\u{302}le\u{301}e");
    let body = json!({"username": "alice", "password": old, "new_password": nfd});
    expect_changed(app.post("/password").json(&body)).await;
    for spelling in [nfc, nfd, "cre\u{300}me\u{2003}br\u{fb}l\u{e9}e"] {
        app.auth("alice", spelling).await.token();
    }
    expect_refused(&app.auth("alice", "creme brulee").await);

    // As other programs stored it.
    let hasher = Hasher::new(8, 1, 1).unwrap();
    let typed = Password::assigned(nfd.to_owned()).unwrap();
    let salt = Salt::generate(&mut StdRng::seed_from_u64(1));
    let hash = hasher.hash(&typed, &salt).unwrap();
    sqlx::query("UPDATE users SET password_hash = ?")
        .bind(hash.as_str())
        .execute(&mut app.db().await)
        .await
        .unwrap();
    expect_refused(&app.auth("alice", nfc).await);
    app.auth("alice", nfd).await.token();
}

#[tokio::test]
async fn it_shares_the_window_of_auth() {
    let app = TestApp::with(Setup { auth_rate_limit: 3, ..Setup::default() }).await;
    for path in ["/auth", "/password", "/auth"] {
        assert_eq!(TestResponse::send(app.post(path)).await.status.as_u16(), 401);
    }
    for path in ["/password", "/auth"] {
        let answer = TestResponse::send(app.post(path)).await;
        answer.expect_error(429, "rate_limited", "Too many requests; wait as long as Retry-After says");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn another_process_notices_the_change_with_the_next_request_although_it_had_cached_the_password() {
    let app = TestApp::spawn().await;
    let old = app.register("alice").await;
    app.auth("alice", &old).await.token();
    let config = PasswordConfig {
        hasher: Hasher::new(8, 1, 1).unwrap(),
        backend: BackendChoice::Reference,
        credential_cache_ttl: MINUTE,
        guesses: GuessLimits { limit: 0, window: MINUTE },
    };
    let other = Accounts::new(context(&app.dir, &app.clock).await, &config);
    let (typed, client) = (Password::assigned(old.clone()).unwrap(), IpAddr::from([192, 0, 2, 1]).into());
    let new = other.change_password("alice", &typed, None, client).await.unwrap().unwrap();
    expect_refused(&app.auth("alice", &old).await);
    app.auth("alice", new.reveal()).await.token();
}

#[tokio::test]
async fn of_concurrent_changes_one_is_made_and_the_others_are_refused() {
    let app = Arc::new(TestApp::spawn().await);
    let old = app.register("alice").await;
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (app, old) = (Arc::clone(&app), old.clone());
        changes.spawn(async move {
            let new = format!("{CHOSEN} {n}");
            let body = json!({"username": "alice", "password": old, "new_password": new});
            (change(&app, body).await.status.as_u16(), new)
        });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        changes.join_all().await.into_iter().partition(|(status, _)| *status == 204);
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(refused.iter().all(|(status, _)| *status == 401), "{refused:?}");
    app.auth("alice", &made[0].1).await.token();
}

#[tokio::test]
async fn an_account_that_is_disabled_during_the_change_keeps_its_password() {
    // Slow enough that the command falls between the check and the change.
    let setup = Setup { hasher: Hasher::new(64 * 1024, 8, 1).unwrap(), ..Setup::default() };
    let app = Arc::new(TestApp::with(setup).await);
    let old = app.register("judy").await;
    let changing = tokio::spawn({
        let (app, old) = (Arc::clone(&app), old.clone());
        async move { change(&app, json!({"username": "judy", "password": old, "new_password": CHOSEN})).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    app.accounts.disable("judy").await.unwrap();
    expect_refused(&changing.await.unwrap());
    app.accounts.enable("judy").await.unwrap();
    app.auth("judy", &old).await.token();
}

#[tokio::test]
async fn in_open_mode_accounts_have_passwords_too() {
    let app = TestApp::with(Setup { auth_mode: AuthMode::Open, ..Setup::default() }).await;
    let old = app.register("alice").await;
    let body = json!({"username": "alice", "password": old, "new_password": CHOSEN});
    expect_changed(app.post("/password").json(&body)).await;
    expect_refused(&change(&app, body).await);
}
