//! Checking tokens from outside: nginx's example, `users sign-out`, and the settings that belong to them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::support::{Server, run};
use crate::{DB, dir, done, skipped, stderr};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/services.md");
const AUDIENCE: &str = "https://api.example";

async fn token(server: &Server, name: &str, password: &str) -> String {
    let body = json!({"username": name, "password": password});
    let answer = Client::new().post(format!("{}/auth", server.url)).json(&body).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

async fn verify(server: &Server, token: &str) -> StatusCode {
    let request = Client::new().get(format!("{}/verify", server.url)).bearer_auth(token);
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_running_server_sees_a_sign_out_and_the_next_sign_in_is_accepted() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0.trim().to_owned();
    let server = Server::start(dir.path(), &[]);
    let old = token(&server, "alice", &password).await;
    assert_eq!(verify(&server, &old).await, 204);
    let (printed, said) = done(dir.path(), &["users", "sign-out", "alice"]);
    assert_eq!(
        (printed.as_str(), said.trim()),
        (
            "",
            "signed out alice: /verify and /introspect refuse the tokens issued until now, which are valid for offline \
             verifiers until they expire"
        )
    );
    assert_eq!(verify(&server, &old).await, 401);
    let new = token(&server, "alice", &password).await;
    assert_eq!(verify(&server, &new).await, 204);
    let (shown, _) = done(dir.path(), &["users", "show", "alice"]);
    assert!(shown.lines().any(|line| line.starts_with("signed out  20")), "{shown}");
}

#[tokio::test]
async fn a_restore_never_undoes_a_sign_out() {
    for is_readable in [true, false] {
        let dir = dir();
        let dir = dir.path();
        let password = done(dir, &["users", "add", "alice"]).0.trim().to_owned();
        done(dir, &["users", "add", "bob"]);
        done(dir, &["backup", "copy.db"]);
        let old = {
            let server = Server::start(dir, &[]);
            token(&server, "alice", &password).await
        };
        done(dir, &["users", "sign-out", "alice"]);
        if !is_readable {
            fs::remove_file(dir.join(DB)).unwrap();
        }
        done(dir, &["restore", "copy.db"]);
        let server = Server::start(dir, &[]);
        assert_eq!(verify(&server, &old).await, 401, "{is_readable}");
        let new = token(&server, "alice", &password).await;
        assert_eq!(verify(&server, &new).await, 204, "{is_readable}");
        let (bob, _) = done(dir, &["users", "show", "bob"]);
        let is_signed_out = !bob.lines().any(|line| line == "signed out  -");
        assert_eq!(is_signed_out, !is_readable, "{bob}");
    }
}

#[test]
fn access_tokens_without_an_audience_are_refused_at_the_start() {
    let dir = dir();
    for (name, value, message) in [
        (
            "TOKEN_TYP",
            "at+jwt",
            "TOKEN_TYP is at+jwt: set AUDIENCE as well, because access tokens must have an `aud` (RFC 9068 §2.2), or use JWT",
        ),
        ("TOKEN_TYP", "jwt", "TOKEN_TYP is jwt: use JWT or at+jwt"),
        ("AUDIENCE", " , ", "use names or URLs with commas between them"),
    ] {
        let output = run(dir.path(), &["serve"], &[(name, value), ("PORT", "0")], "");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn the_secret_of_introspection_can_come_from_a_file() {
    let dir = dir();
    fs::write(dir.path().join("secret"), "0123456789abcdef0123\n").unwrap();
    let server = Server::start(dir.path(), &[("INTROSPECT_TOKEN_FILE", "secret")]);
    let ask = async |secret: &str| {
        let request = Client::new().post(format!("{}/introspect", server.url)).bearer_auth(secret);
        request.form(&[("token", "x")]).send().await.unwrap()
    };
    let answer = ask("0123456789abcdef0123").await;
    assert_eq!(
        (answer.status(), answer.text().await.unwrap().as_str()),
        (StatusCode::OK, r#"{"active":false}"#)
    );
    assert_eq!(ask("secret").await.status(), 401);
    assert!(!server.log().contains("0123456789abcdef0123"));
}

/// The nginx example of docs/services.md, with other ports, in front of a service that says what it was told.
fn nginx_config(dir: &Path, port: u16, jwksd: &str, service: SocketAddr) -> String {
    let text = fs::read_to_string(SERVICES).unwrap();
    let (_, rest) = text.split_once("```nginx\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert!(example.contains("http://127.0.0.1:8080/verify") && example.contains("http://127.0.0.1:9000;"));
    let example =
        example.replace("http://127.0.0.1:8080", jwksd).replace("127.0.0.1:9000", &service.to_string());
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", dir.join(name).display()))
        .concat();
    format!(
        "daemon off; pid {}; error_log stderr; events {{}}\n\
         http {{ access_log off; {temp}\nserver {{ listen 127.0.0.1:{port};\n{example}\n}} }}",
        dir.join("nginx.pid").display()
    )
}

/// Answers each request with its headers in the body.
async fn echo() -> SocketAddr {
    let echo = async |headers: axum::http::HeaderMap| {
        let line = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
        };
        headers.iter().map(line).collect::<String>()
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(echo)).await });
    address
}

/// Killed with the test.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with the master's quick shutdown, and not when it is killed.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

async fn start_nginx(config: &Path, dir: &Path, url: &str) -> Option<Nginx> {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(config);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let nginx = Nginx(child);
    for _ in 0..100 {
        if reqwest::get(url).await.is_ok() {
            return Some(nginx);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nginx does not answer");
}

#[tokio::test]
async fn nginx_lets_only_valid_tokens_pass_and_names_their_subject() {
    let dir = dir();
    let password = done(dir.path(), &["users", "add", "alice"]).0.trim().to_owned();
    let server = Server::start(dir.path(), &[("AUDIENCE", &format!("other,{AUDIENCE}"))]);
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let config = dir.path().join("nginx.conf");
    fs::write(&config, nginx_config(dir.path(), port, &server.url, echo().await)).unwrap();
    let url = format!("http://127.0.0.1:{port}/path?query");
    let Some(_nginx) = start_nginx(&config, dir.path(), &url).await else {
        return skipped("nginx is not installed: the example of docs/services.md was not run");
    };
    let client = Client::new();
    let body = json!({"username": "alice", "password": password, "aud": AUDIENCE});
    let answer = client.post(format!("{}/auth", server.url)).json(&body).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    let valid = answer["token"].as_str().unwrap();
    let for_another = token(&server, "alice", &password).await;

    let ask = async |token: &str| {
        let request = client.post(&url).bearer_auth(token).body("a body");
        // Forged by the client.
        request.header("x-auth-subject", "root").header("x-auth-uid", "0").send().await.unwrap()
    };
    let passed = ask(valid).await;
    assert_eq!(passed.status(), 200);
    let seen = passed.text().await.unwrap();
    let names: Vec<_> = seen.lines().filter(|line| line.starts_with("x-auth-")).collect();
    assert_eq!(names, ["x-auth-subject: alice", "x-auth-uid: 1"], "{seen}");

    let refused = client.get(&url).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["www-authenticate"].to_str().unwrap()),
        (401, r#"Bearer realm="jwksd""#)
    );
    let refused = ask(&for_another).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["www-authenticate"].to_str().unwrap()),
        (401, r#"Bearer realm="jwksd", error="invalid_token""#)
    );
    done(dir.path(), &["users", "sign-out", "alice"]);
    assert_eq!(ask(valid).await.status(), 401);
    drop(server);
    assert_eq!(ask(valid).await.status(), 500, "closed while jwksd is away");
}
