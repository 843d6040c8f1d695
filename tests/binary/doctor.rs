//! `jwksd doctor` on installations with one problem each.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::support::{Server, run};
use crate::{DB, db, dir, stderr};

/// Its exit status, and its findings: level, subject, text.
fn doctor(dir: &Path, env: &[(&str, &str)]) -> (i32, Vec<(String, String, String)>) {
    let port = [("PORT", "0")];
    let env = if env.iter().any(|(name, _)| *name == "PORT") { env.to_vec() } else { [env, &port].concat() };
    let output = run(dir, &["doctor", "--json"], &env, "");
    assert_eq!(stderr(&output), "");
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let field = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = stdout.lines().map(|line| {
        let finding: Value = serde_json::from_str(line).unwrap();
        (field(&finding, "level"), field(&finding, "about"), field(&finding, "text"))
    });
    (output.status.code().unwrap(), findings.filter(|(level, ..)| level != "ok").collect())
}

/// Expects exactly this finding, and the exit status of its level.
#[track_caller]
fn expect(dir: &Path, env: &[(&str, &str)], level: &str, about: &str, text: &str) {
    let (status, findings) = doctor(dir, env);
    let [(found_level, found_about, found_text)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((found_level.as_str(), found_about.as_str()), (level, about), "{found_text}");
    assert!(found_text.contains(text), "{found_text}");
    assert_eq!(status, if level == "error" { 2 } else { 1 });
}

/// A store on which a server has run.
fn store() -> tempfile::TempDir {
    let dir = dir();
    let output = run(dir.path(), &["users", "add", "alice"], &[], "");
    assert!(output.status.success());
    dir
}

async fn sql(dir: &Path, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut db(dir).await).await.unwrap();
}

#[test]
fn there_are_no_findings_before_and_after_a_first_start() {
    let dir = dir();
    assert_eq!(doctor(dir.path(), &[]), (0, Vec::new()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "doctor creates nothing");
    run(dir.path(), &["users", "add", "alice"], &[], "");
    let before = fs::read(dir.path().join(DB)).unwrap();
    assert_eq!(doctor(dir.path(), &[]), (0, Vec::new()));
    assert!(fs::read(dir.path().join(DB)).unwrap() == before, "doctor changes nothing");
    let output = run(dir.path(), &["doctor"], &[("PORT", "0")], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.starts_with("ok        ")), "{text}");
}

#[test]
fn a_running_server_on_the_port_is_not_a_finding() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    let env = [("PORT", port.as_str()), ("ISSUER", server.url.as_str())];
    // The server chose a free port, which the issuer of its tokens names.
    assert_eq!(doctor(dir.path(), &env), (0, Vec::new()));
}

#[test]
fn an_invalid_setting_is_an_error() {
    expect(
        dir().path(),
        &[("PORT", "70000")],
        "error",
        "settings",
        "PORT is 70000: use a port from 1 to 65535",
    );
}

#[test]
fn valid_but_risky_settings_are_warnings() {
    let public = [
        ("HOST", "0.0.0.0"),
        ("ISSUER", "https://x.example"),
        ("REGISTRATION", "closed"),
        ("TRUSTED_PROXIES", "10.0.0.5"),
        ("AUDIENCE", "api"),
    ];
    assert_eq!(doctor(dir().path(), &public), (0, Vec::new()));
    for (setting, text) in [
        (("REGISTRATION", "open"), "anyone may create accounts"),
        (("ISSUER", "http://x.example"), "travel in the clear"),
        (("ISSUER", ""), "ISSUER is not set"),
        (("AUTH_RATE_LIMIT", "0"), "AUTH_RATE_LIMIT is 0"),
        (("AUTH_FAILURE_LIMIT", "0"), "AUTH_FAILURE_LIMIT is 0"),
        (("TRUSTED_PROXIES", "0.0.0.0/0"), "TRUSTED_PROXIES contains every address"),
        (("TRUSTED_PROXIES", ""), "TRUSTED_PROXIES is not set"),
        (("AUDIENCE", ""), "AUDIENCE is not set"),
        (("ADMIN_TOKEN", "secret"), "ADMIN_TOKEN is so short"),
        (("INTROSPECT_TOKEN", "secret"), "INTROSPECT_TOKEN is so short"),
        (("ARGON2_MEMORY_KIB", "8192"), "below OWASP's minimum"),
    ] {
        let env: Vec<_> =
            public.into_iter().filter(|(name, _)| *name != setting.0).chain([setting]).collect();
        expect(dir().path(), &env, "warning", "settings", text);
    }
}

#[test]
fn a_loopback_host_is_public_if_the_issuer_names_a_proxy() {
    for issuer in [
        "https://login.example.com",
        "https://localhost",
        "http://login.example.com",
        "http://192.0.2.1:8080",
    ] {
        let why = format!(", and ISSUER is {issuer}, so ");
        let (status, found) = doctor(dir().path(), &[("ISSUER", issuer)]);
        let texts: Vec<_> =
            found.into_iter().map(|(level, about, text)| format!("{level} {about} {text}")).collect();
        let expected = [
            format!(
                "warning settings REGISTRATION is open{why}anyone may create accounts: set it to closed, and use `jwksd \
                 users add`"
            ),
            format!(
                "warning settings TRUSTED_PROXIES is not set{why}all clients of the proxy share one rate limit: set it to \
                 the address of the proxy"
            ),
            format!(
                "warning settings AUDIENCE is not set{why}a token for one service is valid at all others: set it to what \
                 your services check"
            ),
        ];
        assert_eq!((status, texts.as_slice()), (1, expected.as_slice()));
    }
    for issuer in ["http://localhost:8080", "http://127.0.0.2", "http://[::1]:8080", "http://app.localhost"] {
        assert_eq!(doctor(dir().path(), &[("ISSUER", issuer)]), (0, Vec::new()), "{issuer}");
    }
}

#[test]
fn other_hash_costs_are_listed_and_are_not_a_finding() {
    let dir = store();
    let dearer = [("ARGON2_ITERATIONS", "3"), ("PORT", "0")];
    assert_eq!(doctor(dir.path(), &dearer), (0, Vec::new()));
    let text = String::from_utf8(run(dir.path(), &["doctor"], &dearer, "").stdout).unwrap();
    let costs = "new hashes cost argon2id v=19 m=19456,t=3,p=1; until their owners sign in or are reset, each refused sign-in also costs \
                 argon2id v=19 m=19456,t=2,p=1 (accounts: 1)";
    assert!(text.contains(costs), "{text}");
}

#[test]
fn open_mode_on_a_public_host_or_with_accounts_is_an_error() {
    let open = ("AUTH_MODE", "open");
    let world = [open, ("HOST", "0.0.0.0"), ("ISSUER", "https://localhost")];
    expect(dir().path(), &world, "error", "settings", "set HOST=127.0.0.1");
    expect(store().path(), &[open], "error", "settings", "has accounts");
}

#[test]
fn a_missing_or_wrong_master_key_is_an_error() {
    let dir = store();
    let wrong = ("NOT_MY_KEY", "this is not the right key");
    expect(
        dir.path(),
        &[wrong],
        "error",
        "sealing",
        "NOT_MY_KEY is not the key that this store was sealed with",
    );
    fs::remove_file(dir.path().join(".env")).unwrap();
    expect(dir.path(), &[], "error", "sealing", "add the line NOT_MY_KEY=");
    let volume = store();
    let database = volume.path().join("elsewhere.db");
    let env = [("DATABASE_URL", database.to_str().unwrap())];
    expect(crate::dir().path(), &env, "error", "sealing", "is not in the working directory");
}

#[test]
fn a_file_that_is_not_a_store_is_an_error() {
    let dir = dir();
    fs::write(dir.path().join(DB), "this is not a database, despite its name").unwrap();
    expect_store_error(dir.path(), "it is not a SQLite database");
}

/// Also expects the warning that others can read the file, which the test itself has created.
#[track_caller]
fn expect_store_error(dir: &Path, text: &str) {
    let (status, findings) = doctor(dir, &[]);
    let found = findings.iter().find(|(level, ..)| level == "error").unwrap();
    assert_eq!((status, found.1.as_str()), (2, "store"));
    assert!(
        found.2.contains(text) && found.2.ends_with("replace it by a backup with `jwksd restore`"),
        "{found:?}"
    );
}

/// A store as an earlier jwksd made it.
async fn store_of_version_7() -> tempfile::TempDir {
    let dir = store();
    fs::copy(dir.path().join(DB), dir.path().join("newer.db")).unwrap();
    // Truncated, so that it keeps its mode.
    fs::write(dir.path().join(DB), "").unwrap();
    sqlx::migrate!("migrations/sqlite").run_to(7, &mut db(dir.path()).await).await.unwrap();
    let columns = "kid, made_at, published_at, signs_since, expired_at, revoked_at";
    let copy = format!(
        "ATTACH '{}' AS newer;
         INSERT INTO master_key (id, salt, check_value, number) SELECT id, salt, check_value, number FROM newer.master_key;
         INSERT INTO keys SELECT * FROM newer.keys;
         INSERT INTO key_lives ({columns}) SELECT {columns} FROM newer.key_lives",
        dir.path().join("newer.db").display()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut db(dir.path()).await).await.unwrap();
    dir
}

#[tokio::test]
async fn a_foreign_newer_or_older_schema_is_reported() {
    let dir = dir();
    fs::write(dir.path().join(DB), "").unwrap();
    sql(dir.path(), "CREATE TABLE users(name TEXT)").await;
    let (status, findings) = doctor(dir.path(), &[]);
    let found = findings.iter().find(|(level, ..)| level == "error").unwrap();
    assert_eq!((status, found.1.as_str()), (2, "store"));
    assert!(found.2.contains("its table users has the columns name instead of id,"), "{found:?}");
    assert!(found.2.ends_with("with `jwksd keys import`"), "{found:?}");
    let dir = store();
    sql(dir.path(), "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 6").await;
    expect_store_error(dir.path(), "a newer jwksd made it");
    let dir = store_of_version_7().await;
    expect(dir.path(), &[], "warning", "schema", "it is at version 7 of ");
}

#[tokio::test]
async fn a_schema_that_differs_from_its_migrations_is_reported() {
    for (sql_text, fault) in [
        ("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2", "step 2 of its schema"),
        ("DELETE FROM _sqlx_migrations WHERE version = 3", "step 3 of its schema"),
        ("UPDATE _sqlx_migrations SET success = 0 WHERE version = 5", "step 5 of its schema"),
        ("DROP TRIGGER users_name_given", "its trigger users_name_given is missing"),
        ("DROP INDEX jwksd_auth_logs_user", "its index jwksd_auth_logs_user is missing"),
    ] {
        let dir = store();
        sql(dir.path(), sql_text).await;
        expect(dir.path(), &[], "error", "schema", fault);
    }
    let dir = store();
    sql(dir.path(), "DELETE FROM master_key").await;
    expect(dir.path(), &[], "error", "sealing", "has lost the record of its master key");
}

#[cfg(unix)]
#[test]
fn a_store_that_is_not_one_file_and_leftover_copies_are_reported() {
    let dir = dir();
    fs::create_dir(dir.path().join(DB)).unwrap();
    expect(
        dir.path(),
        &[],
        "error",
        "store",
        "it is a directory: nothing was changed; name a file in DATABASE_URL",
    );
    let dir = crate::dir();
    std::os::unix::fs::symlink("nowhere", dir.path().join(DB)).unwrap();
    expect_store_error(dir.path(), "it is a link to a file that does not exist");
    let dir = store();
    fs::hard_link(dir.path().join(DB), dir.path().join("other")).unwrap();
    expect(dir.path(), &[], "warning", "files", "has 2 names");
    let dir = store();
    fs::create_dir(dir.path().join(".jwksd-copy-x")).unwrap();
    expect(
        dir.path(),
        &[],
        "warning",
        "files",
        ".jwksd-copy-x was left by a backup or restore that was killed",
    );
}

#[tokio::test]
async fn an_overwritten_page_is_an_error() {
    use std::io::{Seek as _, Write as _};
    let dir = store();
    sql(dir.path(), "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let mut file = fs::OpenOptions::new().write(true).open(dir.path().join(DB)).unwrap();
    let root: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = 'auth_logs'")
        .fetch_one(&mut db(dir.path()).await)
        .await
        .unwrap();
    file.seek(std::io::SeekFrom::Start(u64::try_from(root - 1).unwrap() * 4096)).unwrap();
    file.write_all(&[0xFF; 512]).unwrap();
    expect_store_error(dir.path(), "damaged");
}

#[tokio::test]
async fn a_tampered_key_is_a_warning() {
    let dir = store();
    sql(dir.path(), "UPDATE keys SET exp = exp + 1 WHERE kid = 2").await;
    expect(dir.path(), &[], "warning", "sealing", "key 2 is neither published nor used");
    sql(dir.path(), "UPDATE keys SET exp = 'never' WHERE kid = 2").await;
    let what = "key 2 is neither published nor used (its exp is text and not a number of seconds since 1970): replace the \
                store by a backup";
    expect(dir.path(), &[], "warning", "sealing", what);
}

#[tokio::test]
async fn a_store_without_a_signing_key_is_a_warning() {
    let dir = store();
    sql(dir.path(), "UPDATE key_lives SET revoked_at = made_at").await;
    expect(dir.path(), &[], "warning", "rotation", "no key can sign");
}

#[tokio::test]
async fn a_clock_behind_the_store_is_an_error() {
    let dir = store();
    let future =
        "INSERT INTO auth_logs (request_ip, request_timestamp) VALUES ('x', datetime('now', '+1 day'))";
    sql(dir.path(), future).await;
    expect(dir.path(), &[], "error", "clock", "set the clock");
}

#[cfg(unix)]
#[test]
fn readable_and_unwritable_files_are_reported() {
    use std::os::unix::fs::PermissionsExt as _;
    let set = |file: &Path, mode| fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    for name in [".env", DB] {
        let dir = store();
        set(&dir.path().join(name), 0o644);
        expect(
            dir.path(),
            &[],
            "warning",
            "files",
            &format!("{name} can be read by others (mode 644): chmod 600"),
        );
    }
    let dir = store();
    set(&dir.path().join(DB), 0o400);
    expect(dir.path(), &[], "error", "files", "is not writable");
}

#[test]
fn a_missing_directory_is_an_error() {
    let env = [("DATABASE_URL", "nowhere/store.db"), ("NOT_MY_KEY", "a master key of enough length")];
    let (status, findings) = doctor(dir().path(), &env);
    assert_eq!(status, 2);
    assert!(
        findings
            .iter()
            .any(|(_, about, text)| about == "files" && text.contains("there is no directory nowhere")),
        "{findings:?}"
    );
}

#[test]
fn a_port_in_use_is_an_error() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    expect(dir().path(), &[("PORT", &port)], "error", "port", "another program listens on 127.0.0.1:");
}
