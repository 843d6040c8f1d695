//! Settings: their sources, precedence and errors.

use std::fs;

use crate::support::{Server, jwksd, run};
use crate::{KEY, dir, get, stderr};

/// Settings, invalid values of them, and what is said of each.
const INVALID: &[(&str, &str, &str)] = &[
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
    (
        "KEY_ALG",
        "ES512",
        "KEY_ALG is ES512: use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA",
    ),
    ("RSA_BITS", "1024", "RSA_BITS is 1024: use 2048, 3072 or 4096"),
    ("KID_FORMAT", "uuid", "KID_FORMAT is uuid: use number or thumbprint"),
    ("KEY_LEAD", "9m", "KEY_LEAD is 9m: use 2 × JWKS_MAX_AGE = 10m or more, or 0"),
    (
        "TRUSTED_PROXIES",
        "10.0.0.0/8, x",
        r#"TRUSTED_PROXIES is "10.0.0.0/8, x": use CIDRs such as 10.0.0.0/8 or 2001:db8::/32, also for number 2 of them"#,
    ),
    ("CLIENT_IP_HEADER", "cf-ip", "CLIENT_IP_HEADER is cf-ip: use x-forwarded-for, forwarded or x-real-ip"),
    (
        "ALLOWED_HOSTS",
        "id.example, https://b.example",
        r#"ALLOWED_HOSTS is "id.example, https://b.example": use names such as id.example, without a scheme and a port, also for number 2 of them"#,
    ),
    (
        "ALLOWED_ORIGINS",
        "app.example",
        "ALLOWED_ORIGINS is app.example: use origins such as https://app.example, without a path, also for number 1 of them",
    ),
    (
        "ALLOWED_ORIGINS",
        "*",
        "ALLOWED_ORIGINS is *: list the origins, or set AUTH_MODE=open: the pages of every site could try passwords",
    ),
    ("AUTH_MODE", "closed", "AUTH_MODE is closed: use password or open"),
    ("REGISTRATION", "no", "REGISTRATION is no: use open or closed"),
    ("AUTH_RATE_LIMIT", "-1", "AUTH_RATE_LIMIT is -1: use a number from 0 to 4294967295"),
    ("AUTH_FAILURE_LIMIT", "101", "AUTH_FAILURE_LIMIT is 101: use a number from 0 to 100"),
    ("AUTH_FAILURE_WINDOW", "0", "AUTH_FAILURE_WINDOW is 0: use 1s or more, such as 12h, 30d or 1y"),
    (
        "DATABASE_URL",
        "mysql://x",
        "DATABASE_URL is mysql://x: use sqlite://FILE, the path of a file, or postgres://USER:PASSWORD@HOST/DATABASE",
    ),
    (
        "DATABASE_URL",
        "postgres://a,b/x",
        "DATABASE_URL is postgres://a,b/x: use one host: a name or address that always leads to the server that can be written, \
         such as that of a proxy",
    ),
    (
        "DATABASE_URL",
        "postgres://a/x?target_session_attrs=read-write",
        r#"DATABASE_URL is "postgres://a/x?…": remove its parameter target_session_attrs, which is not supported"#,
    ),
    ("DATABASE_CONNECTIONS", "0", "DATABASE_CONNECTIONS is 0: use a number from 1 to 1000"),
    ("DATABASE_TIMEOUT", "0", "DATABASE_TIMEOUT is 0: use 1s or more, such as 12h, 30d or 1y"),
    (
        "ISSUER",
        "example.com",
        "ISSUER is example.com: use a URL such as https://login.example.com, without query or fragment",
    ),
    (
        "ISSUER",
        "https://id.example:0",
        "ISSUER is https://id.example:0: use a port from 1 to 65535 in it, or no port",
    ),
    (
        "ISSUER",
        "https://[::1]:99999/x",
        "ISSUER is https://[::1]:99999/x: use a port from 1 to 65535 in it, or no port",
    ),
    (
        "ISSUER",
        "https://id.example/café",
        r#"ISSUER is "https://id.example/café": use a path as clients send it: without . and .. between slashes, and with every character that is not ASCII percent-encoded, such as %C3%A9 for é"#,
    ),
    (
        "ISSUER",
        "https://id.example/a/../b",
        "ISSUER is https://id.example/a/../b: use a path as clients send it: without . and .. between slashes, and with every character that is not ASCII percent-encoded, such as %C3%A9 for é",
    ),
    ("LOG_FORMAT", "xml", "LOG_FORMAT is xml: use text or json"),
    ("ARGON2_ITERATIONS", "101", "ARGON2_ITERATIONS is 101: use a number from 1 to 100"),
    ("ARGON2_MEMORY_KIB", "7", "ARGON2_MEMORY_KIB is 7: use a number from 8 to 2097152"),
    (
        "NOT_MY_KEY",
        "s3cret",
        "NOT_MY_KEY is not a master key: use 32 bytes as base64 or hex, or a passphrase of 16 characters or more",
    ),
];

#[test]
fn an_invalid_setting_is_refused_in_one_line_that_says_what_to_set() {
    let dir = dir();
    let lanes = [("ARGON2_MEMORY_KIB", "15"), ("ARGON2_PARALLELISM", "2")];
    let message =
        "jwksd: ARGON2_MEMORY_KIB is 15: use 16 or more, which is 8 for each lane of ARGON2_PARALLELISM\n";
    assert_eq!(stderr(&run(dir.path(), &["serve"], &lanes, "")), message);
    let passes = [("ARGON2_MEMORY_KIB", "1048576"), ("ARGON2_ITERATIONS", "5")];
    let message = "jwksd: ARGON2_ITERATIONS is 5: use 4 or less with ARGON2_MEMORY_KIB=1048576, or less memory, because \
                   each sign-in would take too long\n";
    assert_eq!(stderr(&run(dir.path(), &["serve"], &passes, "")), message);
    for (name, value, message) in INVALID {
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
    let message = "jwksd: NOT_MY_KEY is set, and NOT_MY_KEY_FILE as well: keep one of them\n";
    assert_eq!(stderr(&run(dir.path(), &["serve"], &both, "")), message);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created");
}

#[test]
fn a_dotenv_with_a_bom_and_crlf_is_read_and_an_unquoted_dollar_is_refused() {
    let dir = dir();
    let write = |text: &str| fs::write(dir.path().join(".env"), text).unwrap();
    write("NOT_MY_KEY=correct$horse-battery-staple\n");
    let message = "jwksd: NOT_MY_KEY has a $ in .env (line 1): put the value in 'single quotes'\n";
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

/// A master key and an admin token that must not be printed.
const HIDDEN: [&str; 3] =
    ["g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw", "hunter2-hunter2-hunter2", "hunter2"];

/// Runs the server and the doctor on a `.env`, and expects a refusal with exactly this message and no file made.
#[track_caller]
fn expect_refusal(dotenv: &[u8], env: &[(&str, &str)], message: &str) {
    let dir = dir();
    fs::write(dir.path().join(".env"), dotenv).unwrap();
    let output = run(dir.path(), &["serve"], env, "");
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), format!("jwksd: {message}\n")));
    for args in [&["doctor"][..], &["doctor", "--json"]] {
        let output = run(dir.path(), args, env, "");
        let said = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(HIDDEN.iter().all(|hidden| !said.contains(hidden)), "{said}");
        let text = if args.len() > 1 { message.replace('"', "\\\"") } else { message.to_owned() };
        assert!(said.contains(&text), "{said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is created");
}

#[test]
fn a_refusal_shows_no_secret_that_got_into_another_setting() {
    let key = HIDDEN[0];
    for (setting, separator) in
        [("PORT=8081", ";"), ("AUDIENCE=x", ","), ("DATABASE_URL=x.db", ";"), ("ISSUER=https://x", "&")]
    {
        let name = setting.split('=').next().unwrap();
        let problem = "contains NOT_MY_KEY=: write each setting on a line of its own";
        let line = format!("{setting}{separator}NOT_MY_KEY={key}=");
        expect_refusal(
            format!("\n{line}\n").as_bytes(),
            // A flag or a variable that overrides the line changes nothing.
            &[(name, "1")],
            &format!(".env: line 2, which sets {name}, {problem}"),
        );
        let value = line.split_once('=').unwrap().1;
        expect_refusal(b"", &[(name, value)], &format!("{name} {problem}"));
    }
    let hidden = "invalid, and not shown because it may contain a secret";
    let database = format!(
        "DATABASE_URL is {hidden}: use sqlite://FILE, the path of a file, or postgres://USER:PASSWORD@HOST/DATABASE"
    );
    for url in [
        "mysql://db.example/x?password=hunter2",
        "jdbc:postgresql://db.example/x?user=u&password=hunter2",
        "host=db password=hunter2",
        "Server=db;User=u;Pwd=hunter2",
        "mysql:host=db;dbname=x;pass=hunter2",
        "redis://:hunter2@db.example",
        "sqlite://u:hunter2@db.example/x",
        "u:hunter2@db.example/x",
    ] {
        expect_refusal(format!("DATABASE_URL='{url}'\n").as_bytes(), &[], &database);
        expect_refusal(b"", &[("DATABASE_URL", url)], &database);
    }
    let port = format!("PORT is {hidden}: use a port from 1 to 65535, or 0 for any free one");
    expect_refusal(b"", &[("PORT", &format!("8081\nNOT_MY_KEY {key}"))], &port);
    expect_refusal(b"", &[("PORT", key)], &port);
    expect_refusal(b"PORT=\"8081\\nx=hunter2\"\n", &[], &port);
    expect_refusal(
        b"ISSUER=https://u:hunter2@x.example\n",
        &[],
        &format!("ISSUER is {hidden}: use a URL without a user name or a password"),
    );
    expect_refusal(
        format!("TRUSTED_PROXIES=10.0.0.0/8,{key}\n").as_bytes(),
        &[],
        &format!(
            "TRUSTED_PROXIES is {hidden}: use CIDRs such as 10.0.0.0/8 or 2001:db8::/32, also for number 2 of them"
        ),
    );
    let dir = dir();
    for path in [key, "hunter2 hunter2 hunter2"] {
        let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY_FILE", path)], "");
        let said = stderr(&output);
        assert!(
            said.starts_with(&format!("jwksd: NOT_MY_KEY_FILE is {hidden}: the file cannot be read (")),
            "{said}"
        );
    }
}

#[test]
fn no_setting_is_refused_with_the_user_info_of_a_url_or_the_secret_of_a_lost_line() {
    let example = include_str!("../../.env.example");
    let names: Vec<_> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"ALLOWED_ORIGINS") && names.len() > 20, "{names:?}");
    let dir = dir();
    for name in names {
        for value in [
            "x://u:hunter2@h",
            "u:hunter2@h",
            "a.example,ADMIN_TOKEN:hunter2 hunter2",
            "x\nADMIN_TOKEN hunter2",
        ] {
            let output = run(dir.path(), &["keys", "list"], &[(name, value)], "");
            assert!(!stderr(&output).contains("hunter2"), "{name}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_setting_that_contains_the_value_of_a_secret_is_refused_before_it_is_published() {
    let token = HIDDEN[1];
    for (setting, value) in
        [("AUDIENCE", token.to_owned()), ("ISSUER", format!("https://x/{token}")), ("HOST", token.to_owned())]
    {
        let message = format!("{setting} contains the value of ADMIN_TOKEN: set it to another value");
        expect_refusal(format!("ADMIN_TOKEN={token}\n").as_bytes(), &[(setting, &value)], &message);
        expect_refusal(
            format!("ADMIN_TOKEN={token}\n{setting}={}\n", value.replace(token, "$ADMINTOKEN"))
                .replace("ADMINTOKEN", "{ADMIN_TOKEN}")
                .as_bytes(),
            &[],
            &message,
        );
    }
    let env = [("ADMIN_TOKEN", "hunter2"), ("PORT", "8o-hunter2")];
    let message = "PORT is invalid, and not shown because it may contain a secret: use a port from 1 to 65535, or 0 for any free one";
    expect_refusal(b"", &env, message);
}

#[test]
fn a_secret_on_the_command_line_is_not_repeated() {
    for args in [
        &["NOT_MY_KEY=hunter2"][..],
        &["serve", "NOT_MY_KEY=hunter2"],
        &["serve", "ADMIN_TOKEN=hunter2"],
        &["serve", "postgres://u:hunter2@db.example/x"],
        &["doctor", HIDDEN[0]],
    ] {
        let output = run(dir().path(), args, &[], "");
        let message = "jwksd: there is an argument that is unknown here, and not shown because it may contain a secret: put \
                       secrets into .env, the environment or a file, and see `jwksd --help`\n";
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), message), "{args:?}");
    }
    let said = stderr(&run(dir().path(), &["keys", "lst"], &[], ""));
    assert!(said.contains("'lst'"), "{said}");
}

#[test]
fn a_line_of_another_program_in_dotenv_is_skipped() {
    let key = HIDDEN[0];
    for line in [
        "APP_NAME=My App",
        "MOTD=it's fine",
        "MY-APP=1",
        "HOST-NAME=x\nPORT-A=1\nPORT/x\nexport NOT_MY_KEY-OLD=x y\nHOST is …\nHOST NAME=x",
        "lonely",
        "GREETING=\"Hello",
        "K=\"a\nPORT=70000\n\"",
        "x: y",
    ] {
        let dir = dir();
        for text in [format!("NOT_MY_KEY={key}=\n{line}\n"), format!("{line}\nNOT_MY_KEY={key}=\n")] {
            fs::write(dir.path().join(".env"), text).unwrap();
            drop(Server::start(dir.path(), &[]));
        }
        fs::write(dir.path().join(".env"), [b"NAME=Caf\xE9\nNOT_MY_KEY=", key.as_bytes(), b"=\n"].concat())
            .unwrap();
        drop(Server::start(dir.path(), &[]));
    }
}

#[test]
fn a_line_of_ours_in_dotenv_that_cannot_be_read_is_refused_with_its_number_and_not_its_value() {
    let how = "write NAME=value, with 'quotes' around a value that has spaces or quotes, and close them on that line";
    for line in
        ["NOT_MY_KEY=two hunter2", "NOT_MY_KEY='hunter2", "NOT_MY_KEY: hunter2", "ADMIN_TOKEN=it's hunter2"]
    {
        let name = line.split(['=', ':']).next().unwrap();
        let message = format!(".env: line 3, which sets {name}, cannot be read: {how}");
        expect_refusal(format!("MOTD=it's\n\n{line}\nPORT='81'\n").as_bytes(), &[], &message);
    }
    let message = ".env: line 2, which sets NOT_MY_KEY, is not in UTF-8: save the file as UTF-8";
    expect_refusal(b"PORT=0\nNOT_MY_KEY=hunter2 caf\xE9 hunter2\n", &[], message);
    let utf16: Vec<u8> = "NOT_MY_KEY=hunter2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    expect_refusal(&[b"\xFF\xFE", &*utf16].concat(), &[], ".env: it is in UTF-16: save it as UTF-8");
    for (before, line) in [(&b"PORT=0\n\xFF\xFE"[..], 2), (b"PORT=0\r\nMOTD=x\n", 3), (b"PORT=0", 1)] {
        let message =
            format!(".env: line {line} has a NUL byte, as text in UTF-16 has: save the whole file as UTF-8");
        expect_refusal(&[before, &utf16].concat(), &[], &message);
    }
}

#[tokio::test]
async fn an_ipv6_host_works_with_and_without_brackets() {
    for host in ["[::1]", "::1"] {
        let dir = dir();
        let server = Server::start(dir.path(), &[("HOST", host)]);
        assert!(server.url.starts_with("http://[::1]:"), "{}", server.url);
        assert_eq!(get(&server, "/.well-known/openid-configuration").await["issuer"], server.url);
    }
    let address = "use an address such as 127.0.0.1 or ::1, or a host name";
    for (host, remedy) in [
        ("[::1]:8080", "use it without the port, which PORT sets"),
        ("localhost:8080", "use it without the port, which PORT sets"),
        ("[127.0.0.1]", address),
        ("[::1", address),
        ("http://localhost", address),
        ("*", address),
    ] {
        let output = run(dir().path(), &["serve"], &[("HOST", host)], "");
        assert_eq!(stderr(&output), format!("jwksd: HOST is {host}: {remedy}\n"));
        assert_eq!(output.status.code(), Some(2));
    }
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
