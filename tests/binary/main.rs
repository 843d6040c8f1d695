//! The compiled program: start, refusals, restart, stop, and what it prints.

#![expect(clippy::disallowed_methods, reason = "the real program runs in real time")]

mod commands;
mod copies;
mod doctor;
#[cfg(target_os = "linux")]
mod environment;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(unix)]
mod file_access;
#[cfg(target_os = "linux")]
mod floods;
mod guesses;
#[cfg(unix)]
mod integrity;
mod master_key;
mod open_mode;
mod operating;
mod refusals;
mod secrets;
mod services;
mod settings;
mod start;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod take_over;

use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use support::{Server, run};
use tempfile::TempDir;

pub(crate) const DB: &str = "totally_not_my_privateKeys.db";
pub(crate) const KEY: (&str, &str) = ("NOT_MY_KEY", "correct horse battery staple");

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Says that a part of a test is left out. The harness hides what a passing test prints by `eprintln`.
pub(crate) fn skipped(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // A closed standard error does not fail the test.
    let _ = std::io::stderr().write_all(format!("SKIPPED in {test}: {why}\n").as_bytes());
}

pub(crate) fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) async fn db(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", dir.join(DB).display())).await.unwrap()
}

pub(crate) async fn get(server: &Server, path: &str) -> Value {
    Client::new().get(format!("{}{path}", server.url)).send().await.unwrap().json().await.unwrap()
}

pub(crate) async fn post(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let answer = Client::new().post(format!("{}{path}", server.url)).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

pub(crate) async fn counts(dir: &Path) -> (i64, i64, i64) {
    sqlx::query_as("SELECT count(*), sum(exp > unixepoch()), (SELECT count(*) FROM master_key) FROM keys")
        .fetch_one(&mut db(dir).await)
        .await
        .unwrap()
}

/// Exit status, standard output and standard error, without the log.
pub(crate) fn command(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = run(dir, args, &[("RUST_LOG", "off")], "");
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    (output.status.code().unwrap(), stdout, stderr(&output))
}

#[track_caller]
pub(crate) fn done(dir: &Path, args: &[&str]) -> (String, String) {
    let (status, stdout, said) = command(dir, args);
    assert_eq!(status, 0, "{args:?}: {said}");
    (stdout, said)
}

pub(crate) fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) async fn sign_in(server: &Server, name: &str, password: &str) -> u16 {
    post(server, "/auth", json!({"username": name, "password": password})).await.0
}
