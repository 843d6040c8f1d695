//! The compiled program: start, refusals, restart, stop, and what it prints to people.

#![expect(clippy::disallowed_methods, reason = "the real program is watched in real time")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use support::{Server, jwksd, run};
use tempfile::TempDir;

const DB: &str = "totally_not_my_privateKeys.db";
const KEY: (&str, &str) = ("NOT_MY_KEY", "correct horse battery staple");

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn db(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", dir.join(DB).display())).await.unwrap()
}

async fn get(server: &Server, path: &str) -> Value {
    Client::new().get(format!("{}{path}", server.url)).send().await.unwrap().json().await.unwrap()
}

async fn post(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let answer = Client::new().post(format!("{}{path}", server.url)).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn counts(dir: &Path) -> (i64, i64, i64) {
    sqlx::query_as("SELECT count(*), sum(exp > unixepoch()), (SELECT count(*) FROM master_key) FROM keys")
        .fetch_one(&mut db(dir).await)
        .await
        .unwrap()
}

#[cfg(unix)]
fn send(server: &Server, signal: &str) {
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[tokio::test]
async fn a_first_start_needs_nothing_and_leaves_a_private_key_file_and_two_keys() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
    assert_eq!(counts(dir.path()).await, (2, 1, 1));
    let dotenv = fs::read_to_string(dir.path().join(".env")).unwrap();
    assert!(dotenv.lines().any(|line| line.starts_with("NOT_MY_KEY=") && line.len() == 55), "{dotenv}");
    #[cfg(unix)]
    for file in [".env", DB] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let leftovers: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        leftovers.iter().all(|name| name == ".env" || name.to_str().unwrap().starts_with(DB)),
        "{leftovers:?}"
    );
}

#[tokio::test]
async fn keys_accounts_and_tokens_survive_a_kill() {
    let dir = dir();
    let mut server = Server::start(dir.path(), &[]);
    let (status, answer) =
        post(&server, "/register", json!({"username": "alice", "email": "a@example.com"})).await;
    assert_eq!(status, 201);
    let jwks = get(&server, "/jwks").await;
    server.child.kill().unwrap();
    server.wait();

    let server = Server::start(dir.path(), &[]);
    assert_eq!(get(&server, "/jwks").await, jwks);
    let credentials = json!({"username": "alice", "password": answer["password"]});
    assert_eq!(post(&server, "/auth", credentials).await.0, 200);
}

#[tokio::test]
async fn two_first_starts_at_the_same_moment_make_one_key_and_one_pair() {
    for round in 0..20 {
        let dir = dir();
        let start = || {
            let path = dir.path().to_owned();
            std::thread::spawn(move || Server::start(&path, &[]))
        };
        let (one, two) = (start(), start());
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        assert_eq!(counts(dir.path()).await, (2, 1, 1), "round {round}");
        assert_eq!(get(&one, "/jwks").await, get(&two, "/jwks").await, "round {round}");
    }
}

#[tokio::test]
async fn two_processes_work_on_one_file() {
    let dir = dir();
    let (one, two) = (Server::start(dir.path(), &[]), Server::start(dir.path(), &[]));
    for i in 0..5 {
        for (server, name) in [(&one, format!("one{i}")), (&two, format!("two{i}"))] {
            let body = json!({"username": name, "email": format!("{name}@example.com")});
            let (status, answer) = post(server, "/register", body).await;
            assert_eq!(status, 201, "{answer}");
            let credentials = json!({"username": name, "password": answer["password"]});
            let other = if i % 2 == 0 { &one } else { &two };
            assert_eq!(post(other, "/auth", credentials).await.0, 200);
        }
    }
    let check: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut db(dir.path()).await).await.unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn without_a_master_key_it_starts_only_where_it_can_keep_one() {
    let expect = |dir: &TempDir, env: &[(&str, &str)], parts: &[&str]| {
        let output = run(dir.path(), &["serve"], &[&[("PORT", "0")], env].concat(), "");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.lines().count() == 1 && parts.iter().all(|part| message.contains(part)), "{message}");
        message
    };
    let with_dotenv = dir();
    fs::write(with_dotenv.path().join(".env"), "AUDIENCE=api\n").unwrap();
    let message = expect(
        &with_dotenv,
        &[],
        &["jwksd: NOT_MY_KEY is not set, and there is a .env without it", "NOT_MY_KEY="],
    );
    assert_eq!(message.rsplit_once("NOT_MY_KEY=").unwrap().1.trim().len(), 44, "a line to add: {message}");
    assert_eq!(fs::read_to_string(with_dotenv.path().join(".env")).unwrap(), "AUDIENCE=api\n");
    assert!(!with_dotenv.path().join(DB).exists());

    let (here, elsewhere) = (dir(), dir());
    let url = format!("sqlite://{}", elsewhere.path().join("x.db").display());
    expect(&here, &[("DATABASE_URL", &url)], &["is not in the working directory", "NOT_MY_KEY="]);
    assert_eq!(
        fs::read_dir(here.path()).unwrap().count() + fs::read_dir(elsewhere.path()).unwrap().count(),
        0
    );

    let lost = dir();
    drop(Server::start(lost.path(), &[]));
    fs::remove_file(lost.path().join(".env")).unwrap();
    expect(
        &lost,
        &[],
        &["NOT_MY_KEY is not set, and the keys in totally_not_my_privateKeys.db were sealed with one"],
    );
    assert!(!lost.path().join(".env").exists());
}

#[test]
fn a_wrong_master_key_is_told_from_a_damaged_row_and_changes_nothing() {
    let dir = dir();
    let mut server = Server::start(dir.path(), &[KEY]);
    server.child.kill().unwrap();
    server.wait();
    drop(Server::start(dir.path(), &[KEY]));
    let files = || {
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let mut server = Server::try_start(dir.path(), &["--until-stdin-closes"], &[KEY]).unwrap();
    drop(server.child.stdin.take());
    assert_eq!(server.wait(), 0);
    let before = (files(), fs::read(dir.path().join(DB)).unwrap());
    let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY", "another passphrase"), ("PORT", "0")], "");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "jwksd: totally_not_my_privateKeys.db: NOT_MY_KEY is not the key this store was sealed with; \
         nothing was changed\n"
    );
    assert_eq!((files(), fs::read(dir.path().join(DB)).unwrap()), before);
    drop(Server::start(dir.path(), &[KEY]));
}

#[test]
fn a_setting_that_cannot_work_is_refused_in_one_line_with_the_way_out() {
    let dir = dir();
    let cases = [
        ("PORT", "70000", r#"PORT is "70000": a number from 0 to 65535 would do"#),
        (
            "TOKEN_TTL",
            "15 parsecs",
            r#"TOKEN_TTL is "15 parsecs": a time in whole seconds such as 90s, 15m, 24h or 7d would do"#,
        ),
        ("TOKEN_TTL", "0s", r#"TOKEN_TTL is "0s": 1s or more would do"#),
        ("KEY_LIFETIME", "4h", r#"KEY_LIFETIME is "4h": 2 × KEY_LEAD + TOKEN_TTL, 4h 15m or more, would do"#),
        ("KEY_LEAD", "9m", r#"KEY_LEAD is "9m": 2 × JWKS_MAX_AGE = 10m or more, or 0, would do"#),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8, x",
            r#"TRUSTED_PROXIES is "10.0.0.0/8, x": "x" is no CIDR; 10.0.0.0/8 or 2001:db8::/32 would do"#,
        ),
        (
            "CLIENT_IP_HEADER",
            "cf-ip",
            r#"CLIENT_IP_HEADER is "cf-ip": x-forwarded-for, forwarded or x-real-ip would do"#,
        ),
        ("AUTH_MODE", "closed", r#"AUTH_MODE is "closed": password or open would do"#),
        ("REGISTRATION", "no", r#"REGISTRATION is "no": open or closed would do"#),
        ("AUTH_RATE_LIMIT", "-1", r#"AUTH_RATE_LIMIT is "-1": a number from 0 to 4294967295 would do"#),
        (
            "DATABASE_URL",
            "postgres://x",
            r#"DATABASE_URL is "postgres://x": sqlite://FILE or the path of a file would do"#,
        ),
        (
            "ISSUER",
            "example.com",
            r#"ISSUER is "example.com": a URL such as https://login.example.com, without query or fragment, would do"#,
        ),
        ("LOG_FORMAT", "xml", r#"LOG_FORMAT is "xml": text or json would do"#),
        ("ARGON2_ITERATIONS", "101", r#"ARGON2_ITERATIONS is "101": a number from 1 to 100 would do"#),
        (
            "ARGON2_MEMORY_KIB",
            "7",
            r#"ARGON2_MEMORY_KIB is "7 with ARGON2_ITERATIONS 2 and ARGON2_PARALLELISM 1": 1 pass or more, 1 lane or more, and 8 KiB or more a lane would do"#,
        ),
        (
            "NOT_MY_KEY",
            "s3cret",
            "NOT_MY_KEY: it cannot be a master key: 32 bytes as base64 or hex, or a text of at least 16 characters, would do",
        ),
    ];
    for (name, value, message) in cases {
        let output = run(dir.path(), &["serve"], &[(name, value)], "");
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(2), format!("jwksd: {message}\n")),
            "{name}={value}"
        );
    }
    let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY_FILE", "nowhere")], "");
    assert!(stderr(&output).starts_with("jwksd: NOT_MY_KEY: the file \"nowhere\" cannot be read: "));
    let both = [KEY, ("NOT_MY_KEY_FILE", "nowhere")];
    let message =
        "jwksd: NOT_MY_KEY: it is set, and NOT_MY_KEY_FILE names \"nowhere\" as well; keep one of them\n";
    assert_eq!(stderr(&run(dir.path(), &["serve"], &both, "")), message);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_dotenv_of_another_editor_is_read_and_a_key_that_would_be_another_one_refused() {
    let dir = dir();
    let write = |text: &str| fs::write(dir.path().join(".env"), text).unwrap();
    write("NOT_MY_KEY=correct$horse-battery-staple\n");
    let message = "jwksd: NOT_MY_KEY: in .env, a value with a $ must stand in 'single quotes'\n";
    let output = run(dir.path(), &["serve"], &[("PORT", "0")], "");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), message));
    write("\u{feff}NOT_MY_KEY='correct$horse-battery-staple'\r\n");
    drop(Server::start(dir.path(), &[]));
    fs::remove_file(dir.path().join(".env")).unwrap();
    drop(Server::start(dir.path(), &[("NOT_MY_KEY", "correct$horse-battery-staple")]));
}

#[cfg(unix)]
#[test]
fn a_setting_that_is_not_utf_8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = dir();
    let output = jwksd(dir.path(), &["serve"], &[])
        .env("HOST", std::ffi::OsStr::from_bytes(b"\xFF"))
        .output()
        .unwrap();
    let message = "jwksd: HOST is \"\u{fffd}\": a value in UTF-8 would do\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), message));
}

#[cfg(target_os = "linux")]
#[test]
fn a_password_that_cannot_be_shown_is_no_success() {
    let dir = dir();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = jwksd(dir.path(), &["users", "add", "alice"], &[]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("its password could not be shown"), "{}", stderr(&output));
}

/// A database whose writer was killed half way must be rolled back by whoever opens it next.
#[tokio::test]
async fn a_journal_that_a_killed_program_left_behind_is_rolled_back() {
    let dir = dir();
    drop(Server::start(dir.path(), &[KEY]));
    drop(Server::start(dir.path(), &[KEY]));
    {
        let mut db = db(dir.path()).await;
        for sql in [
            "PRAGMA journal_mode = DELETE",
            "PRAGMA cache_size = 2",
            "CREATE TABLE big(x)",
            "BEGIN IMMEDIATE",
        ] {
            sqlx::query(sql).execute(&mut db).await.unwrap();
        }
        let many = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO big SELECT zeroblob(4000) FROM n";
        sqlx::query(many).execute(&mut db).await.unwrap();
        // What lies on the disk now is what a kill leaves: a half-written file and its journal.
        for name in [DB.to_owned(), format!("{DB}-journal")] {
            fs::copy(dir.path().join(&name), dir.path().join(format!("copy-{name}"))).unwrap();
        }
    }
    for name in [DB.to_owned(), format!("{DB}-journal")] {
        fs::rename(dir.path().join(format!("copy-{name}")), dir.path().join(&name)).unwrap();
    }
    drop(Server::start(dir.path(), &[KEY]));
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM big").fetch_one(&mut db(dir.path()).await).await.unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_secret_in_a_broken_dotenv_is_not_shown() {
    let dir = dir();
    fs::write(dir.path().join(".env"), "NOT_MY_KEY=two words\n").unwrap();
    let output = run(dir.path(), &["serve"], &[], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("jwksd: .env: a line cannot be read") && !stderr(&output).contains("two")
    );
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_that_over_dotenv() {
    let dir = dir();
    fs::write(
        dir.path().join(".env"),
        "NOT_MY_KEY='correct horse battery staple'\nISSUER=https://dotenv\nAUDIENCE=dotenv\n",
    )
    .unwrap();
    let issuer = async |args: &[&str], env: &[(&str, &str)]| {
        let server = Server::try_start(dir.path(), args, env).unwrap();
        get(&server, "/.well-known/openid-configuration").await["issuer"].as_str().unwrap().to_owned()
    };
    assert_eq!(issuer(&["serve"], &[]).await, "https://dotenv");
    assert_eq!(issuer(&[], &[("ISSUER", "https://environment")]).await, "https://environment");
    assert_eq!(
        issuer(&["serve", "--issuer", "https://flag"], &[("ISSUER", "https://e")]).await,
        "https://flag"
    );
    assert_eq!(
        issuer(&["--issuer", "https://flag", "serve"], &[("ISSUER", "https://e")]).await,
        "https://flag"
    );
}

#[test]
fn a_dotenv_of_a_parent_directory_is_not_read() {
    let dir = dir();
    fs::write(dir.path().join(".env"), "PORT=70000\n").unwrap();
    fs::create_dir(dir.path().join("inner")).unwrap();
    drop(Server::start(&dir.path().join("inner"), &[("LOG_FORMAT", "text")]));
}

#[test]
fn help_lists_every_setting_with_its_default_and_shows_no_value() {
    let output =
        run(dir().path(), &["--help"], &[("NOT_MY_KEY", "s3cret s3cret s3cret"), ("AUDIENCE", "s3cret")], "");
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for setting in jwksd::config::SETTINGS {
        assert!(help.contains(&format!("[env: {}]", setting.name)), "{}", setting.name);
        if let Some(default) = setting.default {
            assert!(help.contains(&format!("[default: {default}]")), "{}", setting.name);
        }
    }
    assert!(jwksd::config::SECRETS.iter().all(|(name, _)| help.contains(name)));
    assert!(!help.contains("s3cret"));
}

#[test]
fn the_example_settings_are_the_settings_with_their_defaults() {
    let example = include_str!("../.env.example");
    let lines: Vec<_> = example
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| {
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        })
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut expected: Vec<_> = jwksd::config::SETTINGS
        .iter()
        .map(|setting| (setting.name.to_owned(), setting.default.unwrap_or_default().to_owned()))
        .chain(jwksd::config::SECRETS.iter().map(|(name, _)| ((*name).to_owned(), String::new())))
        .collect();
    let mut lines = lines;
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_and_the_store_is_closed_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let dir = dir();
        let mut server = Server::start(dir.path(), &[]);
        send(&server, signal);
        assert_eq!(server.wait(), 0, "{signal}");
        assert!(server.log().contains("stopped"), "{}", server.log());
        assert!(!dir.path().join(format!("{DB}-wal")).exists(), "the WAL was written back");
    }
}

#[test]
fn it_stops_when_standard_input_ends_if_told_so() {
    let dir = dir();
    let mut server = Server::try_start(dir.path(), &["serve", "--until-stdin-closes"], &[]).unwrap();
    drop(server.child.stdin.take());
    assert_eq!(server.wait(), 0);
    let mut server = Server::start(dir.path(), &[]);
    drop(server.child.stdin.take());
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.child.try_wait().unwrap().is_none(), "and goes on otherwise");
}

#[cfg(unix)]
#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = dir();
    let mut server = Server::start(dir.path(), &[]);
    let mut slow = tokio::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    slow.write_all(b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    send(&server, "-TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    slow.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(server.wait(), 0);
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let dir = dir();
    let mut child = jwksd(dir.path(), &["serve"], &[("PORT", "18473"), ("RUST_LOG", "debug")])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stderr.take(), child.stdout.take()));
    let begun = Instant::now();
    let answer = loop {
        match Client::new().get("http://127.0.0.1:18473/jwks").send().await {
            Ok(answer) => break answer,
            Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(answer.status().as_u16(), 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_taken_port_is_named() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    let port = server.url.rsplit(':').next().unwrap();
    let output = run(dir.path(), &["serve"], &[("PORT", port)], "");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        format!(
            "jwksd: PORT is \"{port}\": another program listens on 127.0.0.1:{port}; a free port would do\n"
        )
    );
}

#[test]
fn open_mode_refuses_the_world_and_a_store_with_accounts() {
    let dir = dir();
    let open = [("AUTH_MODE", "open"), ("PORT", "0")];
    let output = run(dir.path(), &["serve"], &[&open[..], &[("HOST", "0.0.0.0")]].concat(), "");
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("HOST is \"0.0.0.0\""),
        "{}",
        stderr(&output)
    );
    let anyway = [&open[..], &[("HOST", "0.0.0.0"), ("OPEN_AUTH_ANYWAY", "true")]].concat();
    drop(Server::start(dir.path(), &anyway));

    assert!(run(dir.path(), &["users", "add", "alice"], &[], "").status.success());
    let before = fs::read(dir.path().join(DB)).unwrap();
    let output = run(dir.path(), &["serve"], &open, "");
    assert_eq!(fs::read(dir.path().join(DB)).unwrap(), before, "it refuses before it changes anything");
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("has accounts"),
        "{}",
        stderr(&output)
    );
    let server = Server::start(dir.path(), &[("AUTH_MODE", "open"), ("OPEN_AUTH_ANYWAY", "true")]);
    drop(server);
}

#[tokio::test]
async fn users_add_as_the_first_command_makes_the_store_and_a_password_that_signs_in() {
    let dir = dir();
    let output = run(dir.path(), &["users", "add", "userABC", "--password-stdin"], &[], "password123\r\n");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).ends_with("made the account userABC\n") && output.stdout.is_empty(),
        "{}",
        stderr(&output)
    );
    assert_eq!(counts(dir.path()).await, (2, 1, 1));

    let output = run(dir.path(), &["users", "add", "bob", "--email", "bob@example.com"], &[], "");
    let password = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(password.len(), 36, "{password}");

    let server = Server::start(dir.path(), &[]);
    for (username, password) in [("userABC", "password123"), ("bob", &password)] {
        assert_eq!(post(&server, "/auth", json!({"username": username, "password": password})).await.0, 200);
    }
    for (args, message) in [
        (&["users", "add", "USERabc"][..], "jwksd: cannot add \"USERabc\": the username is taken\n"),
        (
            &["users", "add", "eve", "--email", "BOB@example.com"],
            "jwksd: cannot add \"eve\": the email is taken\n",
        ),
        (
            &["users", "add", "a b"],
            "jwksd: cannot add \"a b\": A username may have only ASCII letters, digits and . _ - @ +\n",
        ),
        (
            &["users", "add", "eve", "--password-stdin"],
            "jwksd: cannot take the password: a password must have 1 to 1024 bytes\n",
        ),
    ] {
        let output = run(dir.path(), args, &[], "");
        assert_eq!((output.status.code(), stderr(&output)), (Some(1), message.to_owned()), "{args:?}");
    }
}

#[tokio::test]
async fn every_way_to_write_the_master_key_opens_the_store() {
    for key in [
        "8BVzbxM5aOoW8PLQ4khZ5PcT2CBcieE5phAogKS4g6c=",
        "8BVzbxM5aOoW8PLQ4khZ5PcT2CBcieE5phAogKS4g6c",
        "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
        "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=",
        "a passphrase of some length",
    ] {
        let dir = dir();
        fs::write(dir.path().join("key.txt"), format!("{key}\n")).unwrap();
        let server = Server::start(dir.path(), &[("NOT_MY_KEY_FILE", "key.txt")]);
        let jwks = get(&server, "/jwks").await;
        drop(server);
        let server = Server::start(dir.path(), &[("NOT_MY_KEY", key)]);
        assert_eq!(get(&server, "/jwks").await, jwks, "{key}");
        assert!(!dir.path().join(".env").exists());
    }
}
