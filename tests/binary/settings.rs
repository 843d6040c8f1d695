//! Settings: their sources, precedence and errors.

use std::fs;

use crate::support::{Server, jwksd, run};
use crate::{KEY, dir, get, stderr};

#[test]
fn an_invalid_setting_is_refused_in_one_line_that_says_what_to_set() {
    let dir = dir();
    let cases = [
        ("PORT", "70000", "PORT is 70000: use a port from 1 to 65535, or 0 for any free one"),
        (
            "TOKEN_TTL",
            "15 parsecs",
            r#"TOKEN_TTL is "15 parsecs": use whole seconds, such as 90s, 15m, 24h or 7d"#,
        ),
        ("TOKEN_TTL", "0s", "TOKEN_TTL is 0s: use 1s or more"),
        (
            "KEY_LIFETIME",
            "4h",
            "KEY_LIFETIME is 4h: use 4h 15m or more, which is 2 × KEY_LEAD + TOKEN_TTL, or 2 × TOKEN_TTL when KEY_LEAD is 0",
        ),
        ("KEY_LEAD", "9m", "KEY_LEAD is 9m: use 2 × JWKS_MAX_AGE = 10m or more, or 0"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8, x",
            r#"TRUSTED_PROXIES is "10.0.0.0/8, x": use CIDRs such as 10.0.0.0/8 or 2001:db8::/32 instead of "x""#,
        ),
        (
            "CLIENT_IP_HEADER",
            "cf-ip",
            "CLIENT_IP_HEADER is cf-ip: use x-forwarded-for, forwarded or x-real-ip",
        ),
        ("AUTH_MODE", "closed", "AUTH_MODE is closed: use password or open"),
        ("REGISTRATION", "no", "REGISTRATION is no: use open or closed"),
        ("AUTH_RATE_LIMIT", "-1", "AUTH_RATE_LIMIT is -1: use a number from 0 to 4294967295"),
        (
            "DATABASE_URL",
            "postgres://x",
            "DATABASE_URL is postgres://x: use sqlite://FILE or the path of a file",
        ),
        (
            "ISSUER",
            "example.com",
            "ISSUER is example.com: use a URL such as https://login.example.com, without query or fragment",
        ),
        ("LOG_FORMAT", "xml", "LOG_FORMAT is xml: use text or json"),
        ("ARGON2_ITERATIONS", "101", "ARGON2_ITERATIONS is 101: use a number from 1 to 100"),
        ("ARGON2_MEMORY_KIB", "7", "ARGON2_MEMORY_KIB is 7: use a number from 8 to 4194304"),
        (
            "NOT_MY_KEY",
            "s3cret",
            "NOT_MY_KEY is not a master key: use 32 bytes as base64 or hex, or a passphrase of 16 characters or more",
        ),
    ];
    let lanes = [("ARGON2_MEMORY_KIB", "15"), ("ARGON2_PARALLELISM", "2")];
    let message =
        "jwksd: ARGON2_MEMORY_KIB is 15: use 16 or more, which is 8 for each lane of ARGON2_PARALLELISM\n";
    assert_eq!(stderr(&run(dir.path(), &["serve"], &lanes, "")), message);
    for (name, value, message) in cases {
        let output = run(dir.path(), &["serve"], &[(name, value)], "");
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(2), format!("jwksd: {message}\n")),
            "{name}={value}"
        );
    }
    let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY_FILE", "nowhere")], "");
    assert!(stderr(&output).starts_with("jwksd: NOT_MY_KEY_FILE is nowhere: the file cannot be read ("));
    let both = [KEY, ("NOT_MY_KEY_FILE", "nowhere")];
    let message =
        "jwksd: NOT_MY_KEY is set, and NOT_MY_KEY_FILE names \"nowhere\" as well: keep one of them\n";
    assert_eq!(stderr(&run(dir.path(), &["serve"], &both, "")), message);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created");
}

#[test]
fn a_dotenv_with_a_bom_and_crlf_is_read_and_an_unquoted_dollar_is_refused() {
    let dir = dir();
    let write = |text: &str| fs::write(dir.path().join(".env"), text).unwrap();
    write("NOT_MY_KEY=correct$horse-battery-staple\n");
    let message = "jwksd: NOT_MY_KEY has a $ in .env: put the value in 'single quotes'\n";
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
    let message = "jwksd: HOST is \"\u{fffd}\": use a value in UTF-8\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), message));
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
async fn a_flag_overrides_the_environment_which_overrides_dotenv() {
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
    assert!(jwksd::config::SECRETS.iter().all(|secret| help.contains(secret.name)));
    assert!(!help.contains("s3cret"));
}

#[test]
fn the_example_settings_are_the_settings_with_their_defaults() {
    let example = include_str!("../../.env.example");
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
        .chain(jwksd::config::SECRETS.iter().map(|secret| (secret.name.to_owned(), String::new())))
        .collect();
    let mut lines = lines;
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}
