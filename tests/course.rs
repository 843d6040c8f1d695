//! Every check of the course's grader, against the compiled program and its real file, and the curl commands of the
//! systems that jwksd replaces.
//!
//! The grader's current edition sends an unrelated `Bearer` with every request; that of 2023 sends Basic with the form.

#![expect(clippy::disallowed_methods, reason = "the real program runs in real time")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Connection as _, Row as _, SqliteConnection, TypeInfo as _};
use support::{Server, run};
use tempfile::TempDir;

const DB: &str = "totally_not_my_privateKeys.db";
const FORM: [(&str, &str); 2] = [("username", "userABC"), ("password", "password123")];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Edition {
    Of2023,
    Current,
}

const EDITIONS: [Edition; 2] = [Edition::Of2023, Edition::Current];

/// Projects 1 and 2 are graded in either of two modes.
fn servers() -> Vec<(TempDir, Server)> {
    let open = tempfile::tempdir().unwrap();
    let open_server =
        Server::try_start(open.path(), &["serve", "--until-stdin-closes"], &[("AUTH_MODE", "open")]).unwrap();
    let account = tempfile::tempdir().unwrap();
    let added = run(account.path(), &["users", "add", "userABC", "--password-stdin"], &[], "password123\n");
    assert!(added.status.success());
    let account_server = Server::start(account.path(), &[]);
    vec![(open, open_server), (account, account_server)]
}

impl Edition {
    fn request(self, server: &Server, method: Method, path: &str) -> RequestBuilder {
        let request = Client::new().request(method, format!("{}{path}", server.url));
        match self {
            Self::Current => request.header("authorization", format!("Bearer {}", "0f".repeat(32))),
            Self::Of2023 => request,
        }
    }

    /// Sends a form, and JSON if the response is not 200.
    async fn authenticate(self, server: &Server, path: &str) -> String {
        let mut form = self.request(server, Method::POST, path).form(&FORM);
        if self == Self::Of2023 {
            form = form.basic_auth("userABC", Some("password123"));
        }
        let mut answer = form.send().await.unwrap();
        if answer.status() != 200 {
            let body = json!({"username": "userABC", "password": "password123"});
            answer = self.request(server, Method::POST, path).json(&body).send().await.unwrap();
        }
        token(answer).await
    }

    async fn jwks(self, server: &Server) -> JwkSet {
        let answer = self.request(server, Method::GET, "/.well-known/jwks.json").send().await.unwrap();
        answer.json().await.unwrap()
    }
}

async fn token(answer: Response) -> String {
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    body["token"].as_str().unwrap().to_owned()
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// Verifies as Go's jwt and keyfunc do: signature by `kid`, algorithm, and times.
fn verify(token: &str, jwks: &JwkSet) -> Result<Value, String> {
    let key = jwks.find(&kid(token)).ok_or("no such kid")?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    validation.validate_aud = false;
    jsonwebtoken::decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation)
        .map(|data| data.claims)
        .map_err(|error| error.to_string())
}

async fn open_db(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}?mode=ro", dir.join(DB).display())).await.unwrap()
}

async fn select(dir: &Path, table: &'static str) -> Vec<SqliteRow> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
    sqlx::query(sql).fetch_all(&mut open_db(dir).await).await.unwrap()
}

fn columns(row: &SqliteRow) -> Vec<&str> {
    row.columns().iter().map(sqlx::Column::name).collect()
}

#[tokio::test]
async fn projects_1_and_2_auth_gives_a_valid_jwt_whose_key_is_in_the_jwks() {
    for (_dir, server) in servers() {
        for edition in EDITIONS {
            let token = edition.authenticate(&server, "/auth").await;
            verify(&token, &edition.jwks(&server).await).unwrap();
        }
    }
}

#[tokio::test]
async fn project_1_an_expired_jwt_is_expired_and_its_key_is_not_in_the_jwks() {
    for (_dir, server) in servers() {
        for edition in EDITIONS {
            let token = edition.authenticate(&server, "/auth?expired=true").await;
            assert_eq!(verify(&token, &edition.jwks(&server).await), Err("no such kid".to_owned()));
            let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&token).unwrap().claims;
            let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
            assert!(claims["exp"].as_i64().unwrap() < now, "{claims}");
        }
    }
}

#[tokio::test]
async fn project_1_other_methods_are_405() {
    for (_dir, server) in servers() {
        for edition in EDITIONS {
            for (path, methods) in [
                ("/auth", &[Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD][..]),
                ("/.well-known/jwks.json", &[Method::POST, Method::PUT, Method::DELETE, Method::PATCH]),
            ] {
                for method in methods {
                    let answer = edition.request(&server, method.clone(), path).send().await.unwrap();
                    assert_eq!(answer.status(), 405, "{method} {path}");
                }
            }
        }
    }
}

#[tokio::test]
async fn project_2_the_database_has_exactly_three_columns_and_a_valid_and_an_expired_key() {
    for (dir, _server) in servers() {
        let rows = select(dir.path(), "keys").await;
        assert_eq!(columns(&rows[0]), ["kid", "key", "exp"]);
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        let exps: Vec<i64> = rows.iter().map(|row| row.get("exp")).collect();
        assert!(exps.iter().any(|exp| *exp > now) && exps.iter().any(|exp| *exp <= now), "{exps:?}");
    }
}

#[test]
fn project_2_the_query_uses_parameters_in_a_file_that_the_grader_reaches() {
    let found = walk(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").as_path())
        .into_iter()
        .filter(|file| fs::read_to_string(file).unwrap().lines().any(is_parameterised_insert))
        .count();
    assert!(found > 0);
}

/// `INSERT INTO keys (key, exp) VALUES (?, ?)` or with `kid`, as the grader's pattern has it.
fn is_parameterised_insert(line: &str) -> bool {
    let line: String = line.split(' ').filter(|part| !part.is_empty()).collect();
    line.contains("INSERTINTOkeys(kid,key,exp)VALUES(?,?,?)")
        || line.contains("INSERTINTOkeys(key,exp)VALUES(?,?)")
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

/// Project 3 on a fresh store in password mode: registers an account as the grader does.
async fn project_3(edition: Edition) -> (TempDir, Server, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::try_start(dir.path(), &["serve", "--until-stdin-closes"], &[]).unwrap();
    let username = format!("user-{}", rand::random::<u32>());
    let body = json!({"username": username, "email": format!("{username}@test.com")});
    let answer = edition.request(&server, Method::POST, "/register").json(&body).send().await.unwrap();
    assert!(matches!(answer.status().as_u16(), 200 | 201));
    let answer: Value = answer.json().await.unwrap();
    let password = answer["password"].as_str().unwrap().to_owned();
    (dir, server, username, password)
}

#[tokio::test]
async fn project_3_register_gives_a_uuid_and_keeps_its_hash() {
    for edition in EDITIONS {
        let (dir, _server, username, password) = project_3(edition).await;
        uuid::Uuid::parse_str(&password).unwrap();
        let rows = select(dir.path(), "users").await;
        assert_eq!(
            columns(&rows[0]),
            ["id", "username", "password_hash", "email", "date_registered", "last_login"]
        );
        let row = rows.iter().find(|row| row.get::<String, _>("username") == username).unwrap();
        let hash: String = row.get("password_hash");
        assert!(!hash.is_empty() && hash != password);
        expect_time(row, "date_registered");
    }
}

#[tokio::test]
async fn project_3_private_keys_are_encrypted() {
    let (dir, _server, ..) = project_3(Edition::Current).await;
    for row in select(dir.path(), "keys").await {
        let key: Vec<u8> = row.get("key");
        assert!(!key.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
    }
}

#[tokio::test]
async fn project_3_a_sign_in_is_logged_with_address_and_time() {
    for edition in EDITIONS {
        let (dir, server, username, password) = project_3(edition).await;
        let body = json!({"username": username, "password": password});
        let answer = edition.request(&server, Method::POST, "/auth").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let rows = select(dir.path(), "auth_logs").await;
        assert_eq!(columns(&rows[0]), ["id", "request_ip", "request_timestamp", "user_id"]);
        assert_eq!((rows.len(), rows[0].get::<i64, _>("user_id")), (1, 1));
        assert_eq!(rows[0].get::<String, _>("request_ip"), "127.0.0.1");
        expect_time(&rows[0], "request_timestamp");
    }
}

/// The grader's driver parses times only in columns of these declared types, and only in this format.
fn expect_time(row: &SqliteRow, column: &str) {
    let declared = row.column(column).type_info().name().to_owned();
    let text: String = row.get_unchecked(column);
    assert_eq!((declared.as_str(), text.len()), ("DATETIME", 19), "{text}");
    assert!(text.starts_with("20") && text.as_bytes()[10] == b' ', "{text}");
}

#[tokio::test]
async fn the_tables_are_declared_as_the_course_declares_them() {
    let (dir, _server, ..) = project_3(Edition::Current).await;
    let rows = sqlx::query("SELECT m.name, p.name, p.type, p.[notnull], p.pk FROM sqlite_schema m, pragma_table_info(m.name) p WHERE m.name IN ('keys', 'users', 'auth_logs') ORDER BY m.name, p.cid")
        .fetch_all(&mut open_db(dir.path()).await)
        .await
        .unwrap();
    let declared: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = |i| row.get::<String, _>(i);
            let number = |i| row.get::<i64, _>(i);
            format!("{}.{} {} {}{}", text(0), text(1), text(2), number(3), number(4))
        })
        .collect();
    assert_eq!(
        declared,
        [
            "auth_logs.id INTEGER 01",
            "auth_logs.request_ip TEXT 10",
            "auth_logs.request_timestamp TIMESTAMP 00",
            "auth_logs.user_id INTEGER 00",
            "keys.kid INTEGER 01",
            "keys.key BLOB 10",
            "keys.exp INTEGER 10",
            "users.id INTEGER 01",
            "users.username TEXT 10",
            "users.password_hash TEXT 10",
            "users.email TEXT 00",
            "users.date_registered TIMESTAMP 00",
            "users.last_login TIMESTAMP 00",
        ]
    );
}

#[tokio::test]
async fn project_3_ten_requests_in_a_second_pass_and_the_eleventh_is_429() {
    let (_dir, server, username, password) = project_3(Edition::Current).await;
    let body = json!({"username": username, "password": password});
    let client = Client::new();
    let post = async || client.post(format!("{}/auth", server.url)).json(&body).send().await.unwrap();
    // On a loaded machine the ten may take more than a second; then the eleventh passes rightly.
    for attempt in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.tick().await;
        let begun = Instant::now();
        for i in 0..10 {
            assert_eq!(post().await.status(), 200, "request {i}");
            if i < 9 {
                tick.tick().await;
            }
        }
        let eleventh = post().await;
        if begun.elapsed() < Duration::from_millis(990) {
            assert_eq!(eleventh.status(), 429);
            assert_eq!(eleventh.headers()["retry-after"], "1");
            return;
        }
        eprintln!("attempt {attempt} took {:?}", begun.elapsed());
    }
    panic!("/auth is too slow for the grader on this machine");
}

#[tokio::test]
async fn nine_requests_per_second_for_ten_seconds_get_no_429() {
    let (_dir, server, username, password) = project_3(Edition::Current).await;
    let body = json!({"username": username, "password": password});
    let client = Client::new();
    let mut tick = tokio::time::interval(Duration::from_nanos(1_000_000_000 / 9));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for i in 0..90 {
        tick.tick().await;
        let answer = client.post(format!("{}/auth", server.url)).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "request {i}");
    }
}

#[test]
fn the_server_stops_when_the_pipe_of_the_grader_closes() {
    let dir = tempfile::tempdir().unwrap();
    let mut server =
        Server::try_start(dir.path(), &["serve", "--until-stdin-closes"], &[("AUTH_MODE", "open")]).unwrap();
    drop(server.child.stdin.take());
    assert_eq!(server.wait(), 0);
    assert!(server.log().contains("stopped"));
}

#[tokio::test]
async fn the_curl_commands_of_the_seeds_work() {
    let (_dir, server) = servers().swap_remove(0);
    let client = Client::new();
    let post = async |path: &str| {
        let answer = client.post(format!("{}{path}", server.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for path in ["/jwks", "/.well-known/jwks.json"] {
        let answer: Value =
            client.get(format!("{}{path}", server.url)).send().await.unwrap().json().await.unwrap();
        let key = &answer["keys"][0];
        let members: Vec<_> = ["kty", "use", "alg", "kid", "n", "e"].map(|name| key[name].is_string()).into();
        assert_eq!(members, [true; 6], "{key}");
    }
    for path in ["/auth", "/auth?expired", "/auth?expired=true", "/auth?expired=false"] {
        let (status, answer) = post(path).await;
        assert!(status == 200 && answer["token"].is_string(), "{path}: {answer}");
    }
    let (status, answer) = post("/auth?expired=invalid").await;
    assert_eq!(
        (status, &answer["error"]),
        (400, &json!("Invalid 'expired' query parameter. Must be 'true' or 'false'."))
    );
}

/// Facts about the grader that surprise a student who reads its output for the first time.
#[test]
fn the_readme_says_where_the_grader_is_from_what_it_counts_asks_and_uploads() {
    let readme = include_str!("../README.md");
    let (_, course) = readme.split_once("## The course").unwrap();
    let (course, _) = course.split_once("### Inspecting").unwrap();
    for fact in [
        "https://github.com/jh125486/CSCE3550",
        "*Quality* (5 points)",
        "65 (shown as 65 of 70)",
        "90 (shown as 90 of 95)",
        "uploads every source file",
        "`--server-url` decides to which one",
        "`Submit results to server? (y/n)`",
        "`--code-dir crates`",
    ] {
        assert!(course.contains(fact), "{fact}");
    }
}
