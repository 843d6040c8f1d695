//! `jwk generate --upload`: only the public part is sent, with the admin token.

use serde_json::{Value, json};

use crate::WorkDir;
use crate::site::Site;

const TOKEN: (&str, &str) = ("ADMIN_TOKEN", "s3cret");
const TAKEN: &str = r#"{"message":"stored","keys_count":3}"#;

#[test]
fn only_the_public_key_is_sent_with_the_bearer_token() {
    let dir = WorkDir::new();
    let site = Site::start(&[("/upload", "201 Created", TAKEN)]);
    let args = ["jwk", "generate", "--type", "ec", "--save", "--upload", "--kid", "k", "--server", &site.url];
    let said = dir.run_with(&args, &[TOKEN], "");
    assert_eq!(
        said.stderr,
        format!("the private key is in k.pem\n{}/upload: stored; it has 3 keys\n", site.url)
    );
    let public = said.json();
    dir.write("k.jwk", &dir.run(&["jwk", "from-pem", "k.pem", "--kid", "k", "--private"]).out());
    for args in [&["k.pem", "--kid", "k"][..], &["k.jwk"]] {
        let server = format!("{}/", site.url);
        let args = [&["jwk", "upload", "--server", &server], args].concat();
        assert_eq!(dir.run_with(&args, &[TOKEN], "").code, Some(0));
    }
    let requests = site.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.line, "POST /upload HTTP/1.1");
        assert!(request.headers.contains(&"authorization: Bearer s3cret".to_owned()), "{request:?}");
        assert!(request.headers.contains(&"content-type: application/json".to_owned()), "{request:?}");
        assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap(), json!({"keys": [public]}));
    }
}

#[test]
fn the_admin_token_is_read_from_dotenv_or_a_file() {
    let dir = WorkDir::new();
    let site = Site::start(&[("/upload", "201 Created", TAKEN)]);
    dir.key("k", &["ed25519"]);
    let args = ["jwk", "upload", "k.pub", "--server", &site.url];
    dir.write("token", "s3cret\n");
    assert_eq!(dir.run_with(&args, &[("ADMIN_TOKEN_FILE", "token")], "").code, Some(0));
    dir.write(".env", "ADMIN_TOKEN=s3cret\n");
    assert_eq!(dir.run(&args).code, Some(0));
    let sent = "authorization: Bearer s3cret".to_owned();
    assert!(site.requests().iter().all(|request| request.headers.contains(&sent)));
}

#[test]
fn an_impossible_upload_is_refused_before_a_key_is_generated() {
    let dir = WorkDir::new();
    let with = |args: &[&str], env: &[(&str, &str)]| {
        dir.run_with(&[&["jwk", "generate", "--type", "ed25519", "--upload"], args].concat(), env, "")
    };
    with(&[], &[TOKEN])
        .refused(2, "--upload without --save would lose the private key: add --save to keep it as KID.pem");
    with(&["--save"], &[]).refused(2, "ADMIN_TOKEN is not set: set it in the environment or in .env");
    with(&["--save", "--server", "http://example.com"], &[TOKEN]).refused(
        2,
        "ADMIN_TOKEN is not sent to http://example.com/ over plain http, where others could read it: use https",
    );
    with(&["--save", "--server", "example.com"], &[TOKEN])
        .refused(2, "--server: \"example.com\" is not an http or https URL: use one such as https://login.example.com/jwks");
    with(&["--save"], &[("ADMIN_TOKEN", "a\nb")]).refused(
        2,
        "ADMIN_TOKEN has characters that no header can carry: generate one with `openssl rand -hex 32`",
    );
    assert_eq!(dir.files(), [""; 0]);
}

#[test]
fn a_key_that_the_server_refuses_is_saved_and_the_command_to_retry_is_shown() {
    let dir = WorkDir::new();
    let site = Site::start(&[("/upload", "401 Unauthorized", "{\"error\":\"no\\u001b[31m\"}")]);
    let args =
        ["jwk", "generate", "--type", "ed25519", "--save", "--upload", "--kid", "k", "--server", &site.url];
    let said = dir.run_with(&args, &[TOKEN], "");
    let url = &site.url;
    assert_eq!((said.code, dir.files()), (Some(1), vec!["k.pem".to_owned()]));
    assert_eq!(
        said.stderr,
        format!(
            "the private key is in k.pem\njwksd: the key was saved, but not uploaded: try again with \
             `jwksd jwk upload k.pem --kid=k --alg EdDSA --server {url}`: \
             {url}/upload answered 401: no\\u001b[31m\n"
        )
    );
    let elsewhere = Site::start(&[]);
    let moved = format!("307 Temporary Redirect\r\nLocation: {}/upload", elsewhere.url);
    let site = Site::start(&[("/upload", &moved, "")]);
    let said = dir.run_with(&["jwk", "upload", "k.pem", "--server", &site.url], &[TOKEN], "");
    said.refused(1, &format!("{}/upload answered 307", site.url));
    assert!(elsewhere.requests().is_empty(), "the token is not sent to a redirect");
}
