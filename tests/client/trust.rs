//! Trusted keys come from a file, a URL, or an issuer's discovery document; exit status 2 if they cannot be determined.

use serde_json::Value;

use crate::site::Site;
use crate::support::Server;
use crate::{CommandOutput, WorkDir};

const JSON: &str = "200 OK\r\nContent-Type: application/json";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const META: &str = r#"{"issuer":"URL","jwks_uri":"URL/keys"}"#;

/// A working directory with a key `k`, and its JWKS as text.
fn dir() -> (WorkDir, String) {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let keys = format!("{{\"keys\":[{}]}}", dir.read("k.pub"));
    (dir, keys)
}

fn first(said: &CommandOutput) -> &str {
    said.stdout.lines().next().unwrap_or_default()
}

#[test]
fn an_issuer_url_is_enough() {
    let (dir, keys) = dir();
    let site = Site::start(&[(DISCOVERY, JSON, META), ("/keys", JSON, &keys)]);
    let token = dir.token("k", &[&format!("iss={}", site.url)]);
    let said = dir.run(&["jwt", "verify", "--issuer", &site.url, &token]);
    assert_eq!((said.code, first(&said), said.stderr.as_str()), (Some(0), "valid", ""), "{said:?}");
    let lines: Vec<_> = site.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, [format!("GET {DISCOVERY} HTTP/1.1"), "GET /keys HTTP/1.1".to_owned()]);

    let other = dir.token("k", &["iss=https://them"]);
    let said = dir.run(&["jwt", "verify", "--issuer", &site.url, &other]);
    assert_eq!(
        first(&said),
        format!("invalid: the issuer is \"https://them\", not {:?} (wrong_issuer)", site.url)
    );
}

#[test]
fn a_jwks_url_is_redirected_only_to_the_same_origin_or_https() {
    let (dir, keys) = dir();
    let elsewhere = Site::start(&[("/keys", JSON, &keys)]);
    let away = format!("302 Found\r\nLocation: {}/keys", elsewhere.url);
    let site = Site::start(&[
        ("/keys", JSON, &keys),
        ("/moved", "301 Moved Permanently\r\nLocation: keys", ""),
        ("/away", &away, ""),
        ("/round", "302 Found\r\nLocation: /round", ""),
        ("/nowhere", "302 Found", ""),
    ]);
    let token = dir.token("k", &["sub=me"]);
    let url = &site.url;
    let verify = |path: &str| dir.run(&["jwt", "verify", "--jwks-url", &format!("{url}{path}"), &token]);
    assert_eq!(first(&verify("/keys")), "valid");
    assert_eq!(first(&verify("/moved")), "valid");
    verify("/away").refused(
        2,
        &format!(
            "could not verify the token: {url}/away redirects to {}/keys: redirects are followed only to https or to the same origin",
            elsewhere.url
        ),
    );
    verify("/round")
        .refused(2, &format!("could not verify the token: {url}/round redirects more than 3 times"));
    verify("/nowhere").refused(
        2,
        &format!(
            "could not verify the token: {url}/nowhere answered 302 Found without a valid Location header"
        ),
    );
    verify("/none").refused(2, &format!("could not verify the token: {url}/none answered 404 Not Found"));
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn discovery_of_another_issuer_or_to_another_origin_is_refused() {
    let (dir, keys) = dir();
    let token = dir.token("k", &["sub=me"]);
    let no_object = "[]";
    for (meta, message) in [
        (
            r#"{"issuer":"https://them","jwks_uri":"URL/keys"}"#,
            "WELL names the issuer \"https://them\", not \"URL\"",
        ),
        (no_object, "WELL names the issuer \"\", not \"URL\""),
        (r#"{"issuer":"URL"}"#, "WELL has no \"jwks_uri\""),
        (
            r#"{"issuer":"URL","jwks_uri":"keys"}"#,
            "the \"jwks_uri\" of WELL: \"keys\" is not an http or https URL: use one such as https://login.example.com/jwks",
        ),
        (
            r#"{"issuer":"URL","jwks_uri":"http://example.com/keys"}"#,
            "WELL has the \"jwks_uri\" http://example.com/keys: it must be https or the same origin",
        ),
        (
            "{",
            "cannot use the response of WELL: not valid JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        let site = Site::start(&[(DISCOVERY, JSON, meta), ("/keys", JSON, &keys)]);
        let message = message.replace("WELL", &format!("{}{DISCOVERY}", site.url)).replace("URL", &site.url);
        let message = message.replace(&format!("https {}", site.url), "https URL");
        dir.run(&["jwt", "verify", "--issuer", &site.url, &token])
            .refused(2, &format!("could not verify the token: {message}"));
    }
}

#[test]
fn an_invalid_oversized_or_missing_jwks_is_status_2() {
    let (dir, keys) = dir();
    let token = dir.token("k", &["sub=me"]);
    let long = format!("{}{keys}", " ".repeat(1024 * 1024));
    let site =
        Site::start(&[("/empty", JSON, "{}"), ("/long", JSON, &long), ("/list", JSON, r#"{"keys":1}"#)]);
    let url = &site.url;
    for (path, message) in [
        ("/empty", format!("cannot use {url}/empty: this is not a JWK Set: it has no \"keys\"")),
        ("/list", format!("cannot use {url}/list: \"keys\" is not an array")),
        (
            "/long",
            format!(
                "cannot read the response of {url}/long: the response body is larger than request limit: 1048576"
            ),
        ),
    ] {
        dir.run(&["jwt", "verify", "--jwks-url", &format!("{url}{path}"), &token])
            .refused(2, &format!("could not verify the token: {message}"));
    }
    dir.run(&["jwt", "verify", "--jwks-file", "nowhere", &token]).refused(
        2,
        "could not verify the token: cannot read nowhere: No such file or directory (os error 2)",
    );
    dir.run(&["jwt", "verify", "--jwks-file", "-", "-"])
        .refused(2, "could not verify the token: the token and --jwks-file cannot both be standard input");
    let missing = "no keys to verify with: use --issuer URL, --jwks-url URL or --jwks-file FILE";
    dir.run(&["jwt", "verify", &token]).refused(2, &format!("could not verify the token: {missing}"));

    let said = dir.run(&["jwt", "verify", "--json", &token]);
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (said.code, &json["valid"], &json["reason"]),
        (Some(2), &false.into(), &"could_not_tell".into())
    );
    assert_eq!(json["message"], missing);
}

#[test]
fn the_tokens_of_a_server_verify_by_its_issuer_url_and_expired_ones_do_not() {
    let dir = WorkDir::new();
    let server = Server::start(dir.path(), &[("AUTH_MODE", "open"), ("AUDIENCE", "you")]);
    let get = |path: &str| {
        let answer =
            ureq::post(format!("{}{path}", server.url)).send_empty().unwrap().into_body().read_to_string();
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        answer["token"].as_str().unwrap().to_owned()
    };
    let verify = |token: &str| {
        dir.run_with(&["jwt", "verify", "--issuer", &server.url, "--audience", "you", "-"], &[], token)
    };
    let said = verify(&get("/auth"));
    assert_eq!((said.code, first(&said)), (Some(0), "valid"), "{said:?}");
    // The JWKS no longer has the expired key.
    let said = verify(&get("/auth?expired"));
    assert!(said.code == Some(1) && first(&said).ends_with("(unknown_kid)"), "{said:?}");
}

#[test]
fn an_empty_jwks_verifies_no_token() {
    let (dir, _) = dir();
    dir.write("jwks.json", r#"{"keys":[]}"#);
    let token = dir.token("k", &["sub=me"]);
    let said = dir.run(&["jwt", "verify", "--jwks-file", "jwks.json", &token]);
    assert_eq!(
        (said.code, first(&said)),
        (Some(1), "invalid: the token names the key \"k\"; the set has no keys (unknown_kid)")
    );
}
