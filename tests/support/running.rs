//! Helpers that the rotation tests and the crash tests share: servers that are killed and started again on one store.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{Server, jwksd, run};

/// Duration of each soak test: `SOAK_SECONDS`, 20 by default so that a whole test run stays short.
pub(crate) fn soak_time() -> Duration {
    Duration::from_secs(number("SOAK_SECONDS").unwrap_or(20))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// The repetitions of a test that kills something at random moments.
pub(crate) struct Repetition {
    begun: Instant,
    rounds: Option<u64>,
}

impl Repetition {
    /// As many rounds as this variable says, or rounds for [`soak_time`] without it.
    pub(crate) fn new(variable: &str) -> Self {
        Self { begun: Instant::now(), rounds: number(variable) }
    }

    /// Whether another round follows this many. Ten are the minimum, because fewer random moments prove little.
    pub(crate) fn continues_after(&self, rounds: u64) -> bool {
        match self.rounds {
            Some(wanted) => rounds < wanted,
            None => rounds < 10 || self.begun.elapsed() < soak_time(),
        }
    }
}

pub(crate) async fn db(dir: &Path) -> SqliteConnection {
    let file = dir.join("totally_not_my_privateKeys.db");
    SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap()
}

pub(crate) async fn jwks(client: &Client, server: &Server) -> JwkSet {
    let answer = client.get(format!("{}/jwks", server.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let set: JwkSet = answer.json().await.unwrap();
    assert!(!set.keys.is_empty());
    set
}

pub(crate) fn kid(token: &str) -> i64 {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap().parse().unwrap()
}

/// The claims, if the set has the key and the signature is valid. Expiry is not checked.
pub(crate) fn signed_claims(token: &str, set: &JwkSet) -> Option<Value> {
    let key = DecodingKey::from_jwk(set.find(&kid(token).to_string())?).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    Some(jsonwebtoken::decode(token, &key, &validation).unwrap().claims)
}

/// Runs a command and kills it after a random time of at most `most`.
pub(crate) async fn kill_midway(dir: &Path, args: &[&str], env: &[(&str, &str)], most: Duration) {
    let mut child = jwksd(dir, args, env)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(rand::random_range(Duration::ZERO..most)).await;
    let _ = child.kill();
    child.wait().unwrap();
}

/// Two master keys of 32 bytes, so that no time is spent on a KDF.
pub(crate) fn two_master_keys() -> [String; 2] {
    use base64::Engine as _;
    ["the first of two", "the second of two"]
        .map(|text| base64::engine::general_purpose::STANDARD.encode(format!("{text:<32}")))
}

/// Whether the store is sealed under this master key. Fails if only some of its keys open.
pub(crate) fn opens(dir: &Path, key: &str) -> bool {
    let output = run(dir, &["keys", "list", "--json"], &[("NOT_MY_KEY", key)], "");
    let Ok(listing) = serde_json::from_slice::<Value>(&output.stdout) else {
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        return false;
    };
    assert_eq!(listing["unreadable"], json!([]));
    assert!(listing["keys"].as_array().unwrap().len() >= 2, "{listing}");
    true
}
