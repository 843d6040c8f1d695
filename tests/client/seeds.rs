//! Runs every row of the first table in docs/from-the-seeds.md.

use std::fs;

use reqwest::{Client, Method};
use serde_json::Value;

use crate::WorkDir;
use crate::support::Server;

const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A row: the command line, and the expected response.
struct Row {
    line: String,
    status: String,
    fragment: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/from-the-seeds.md")).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| there | here | answers |")).skip(2);
    let code = |cell: &str| cell.split('`').nth(1).unwrap().to_owned();
    table
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            let [_, here, answers] = cells[..] else { panic!("{line}") };
            let (status, _) = answers.trim().split_once(" `").unwrap();
            Row { line: code(here), status: status.to_owned(), fragment: code(answers) }
        })
        .collect()
}

/// The arguments of a command line, split as a shell does.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(character),
        }
    }
    words.push(word);
    words
}

/// The options of curl that the table uses.
async fn curl(dir: &WorkDir, words: &[String]) -> (String, String) {
    let (mut method, mut url, mut header, mut body) = (None, String::new(), None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-X" => method = words.next().cloned(),
            "-H" => header = words.next().cloned(),
            "-d" => body = words.next().cloned(),
            _ => url.clone_from(word),
        }
    }
    let default = if body.is_some() { "POST" } else { "GET" };
    let method = Method::from_bytes(method.as_deref().unwrap_or(default).as_bytes()).unwrap();
    let mut request = Client::new().request(method, url);
    if let Some(header) = header {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    if let Some(body) = body {
        let body = body.strip_prefix('@').map(|file| dir.read(file)).unwrap_or(body);
        request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16().to_string(), answer.text().await.unwrap())
}

#[tokio::test]
async fn every_line_of_the_table_does_what_the_table_says() {
    let dir = WorkDir::new();
    let fernet = ("NOT_MY_KEY", "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=");
    let env = [fernet, ("AUTH_MODE", "open"), ("OPEN_AUTH_ANYWAY", "true"), ("ADMIN_TOKEN", ADMIN_TOKEN)];
    let server = Server::start(dir.path(), &env);
    let mut known = vec![("ADMIN_TOKEN", ADMIN_TOKEN.to_owned())];
    let rows = rows();
    assert!(rows.len() >= 22, "{}", rows.len());
    for row in rows {
        let line = row.line.replace("http://127.0.0.1:8080", &server.url);
        let line = known.iter().fold(line, |line, (name, value)| line.replace(name, value));
        let words = words(&line);
        let (status, text) = if words[0] == "curl" {
            curl(&dir, &words[1..]).await
        } else {
            let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            let said = dir.run_with(&args, &env, "");
            (format!("exit {}", said.code.unwrap()), said.stdout)
        };
        assert_eq!(status, row.status, "{line}: {text}");
        assert!(text.contains(&row.fragment), "{line}: {text}");
        learn(&dir, &mut known, &row.line, &text);
    }
}

/// Remembers values that later lines refer to.
fn learn(dir: &WorkDir, known: &mut Vec<(&str, String)>, line: &str, text: &str) {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    if answer.get("keys").is_some() && line.ends_with("/jwks") {
        dir.write("fetched.json", text);
    }
    if let Some(password) = answer["password"].as_str() {
        known.push(("PASSWORD", password.to_owned()));
    }
    if line.contains("--save") {
        known.push(("KID", answer["kid"].as_str().unwrap().to_owned()));
        let mut set: Value = serde_json::from_str(&dir.read("fetched.json")).unwrap();
        set["keys"].as_array_mut().unwrap().push(answer);
        dir.write("set.json", &set.to_string());
    }
    if line.starts_with("jwksd jwt sign") {
        known.push(("TOKEN", text.trim().to_owned()));
    }
}
