//! Fault tokens (`?fault=`), verified by `jwksd jwt verify`.

use std::collections::BTreeMap;

use reqwest::Client;
use serde_json::{Value, json};

use crate::WorkDir;
use crate::support::Server;

const AUDIENCE: &str = "https://api.example";

#[tokio::test]
async fn each_fault_is_refused_for_its_own_reason() {
    let dir = WorkDir::new();
    // An EC key, because two of the faults are faults of such tokens only.
    let env = [("AUTH_MODE", "open"), ("AUDIENCE", AUDIENCE), ("AUTH_RATE_LIMIT", "0"), ("KEY_ALG", "ES256")];
    let server = Server::start(dir.path(), &env);
    for args in [&["keys", "rotate", "--now", "--key-alg", "ES256"][..], &["keys", "revoke", "1"]] {
        assert_eq!(dir.run(args).code, Some(0));
    }
    let client = Client::new();
    let kids = async || {
        let keys: Value =
            client.get(format!("{}/keys", server.url)).send().await.unwrap().json().await.unwrap();
        keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    while kids().await != ["3"] {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let judged = async |query: &str| {
        let answer = client.post(format!("{}/auth{query}", server.url)).send().await.unwrap();
        let token = answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
        let args = ["jwt", "verify", &token, "--issuer", &server.url, "--audience", AUDIENCE, "--json"];
        let said = dir.run(&args);
        let verdict: Value = serde_json::from_str(&said.stdout).unwrap();
        (said.code, verdict["reason"].clone())
    };
    assert_eq!(judged("").await, (Some(0), Value::Null));
    let listing: Value =
        client.get(format!("{}/faults", server.url)).send().await.unwrap().json().await.unwrap();
    let mut reasons = BTreeMap::new();
    for fault in listing["faults"].as_array().unwrap() {
        let name = fault["name"].as_str().unwrap();
        let (code, reason) = judged(&format!("?fault={name}")).await;
        assert_eq!(code, Some(1), "{name}");
        reasons.insert(name.to_owned(), reason);
    }
    let expected = json!({
        "alg-hs256-with-public-der": "alg_hmac",
        "alg-hs256-with-public-jwk": "alg_hmac",
        "alg-hs256-with-public-key": "alg_hmac",
        "alg-hs256-with-public-raw": "alg_hmac",
        "alg-none": "alg_none",
        "bad-signature": "bad_signature",
        "crit-unknown": "crit",
        "der-signature": "bad_signature",
        "embedded-jwk": "embedded_key",
        "expired": "expired",
        "no-exp": "no_exp",
        "no-kid": "no_kid",
        "not-yet-valid": "not_yet_valid",
        "revoked-key": "unknown_kid",
        "unknown-kid": "unknown_kid",
        "wrong-audience": "wrong_audience",
        "wrong-curve": "alg_mismatch",
        "wrong-issuer": "wrong_issuer",
    });
    assert_eq!(serde_json::to_value(reasons).unwrap(), expected);
}
