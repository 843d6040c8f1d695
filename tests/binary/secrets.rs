//! Secrets do not appear in logs at any level, in error responses, or in files that are not meant for them.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Server, run};
use crate::{command, db, dir, done, stderr};

const KEY: &str = "8BVzbxM5aOoW8PLQ4khZ5PcT2CBcieE5phAogKS4g6c=";
const NEW_KEY: &str = "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=";
const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";

const INTROSPECT_TOKEN: &str = "fedcba9876543210fedcba9876543210";

/// Secrets: only their owners may see them.
const CHOSEN: &str = "chosen-by-an-operator-for-bob";
const WRONG: [&str; 5] = [
    "wrong-in-json",
    "wrong-in-a-form",
    "wrong-in-basic",
    "wrong-in-broken-json",
    "wrong-next-to-an-unknown-field",
];
/// Chosen at /password, and tried there.
const CHANGED: &str = "changed-to-this-one";
const WRONG_OLD: &str = "wrong-as-the-old-one";
const WRONG_ADMIN_TOKEN: &str = "wrong-token-of-an-administrator";
const PRIVATE_NUMBER: &str = "cHJpdmF0ZS1udW1iZXI";
/// Not secret, but personal or untrusted: logs do not have it either.
const ADDRESS: &str = "the.address.of.alice@example.com";
const IN_THE_QUERY: &str = "wrong-in-the-query";

/// A running service, the secrets that it was given, and its output.
struct Scene<'a> {
    dir: &'a Path,
    env: Vec<(&'a str, &'a str)>,
    server: Server,
    client: Client,
    secrets: Vec<String>,
    /// Logs and bodies of error responses.
    said: String,
}

impl<'a> Scene<'a> {
    fn new(dir: &'a Path, format: &'a str) -> Self {
        let env = vec![
            ("NOT_MY_KEY", KEY),
            ("NEW_NOT_MY_KEY", NEW_KEY),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
            ("INTROSPECT_TOKEN", INTROSPECT_TOKEN),
            ("RUST_LOG", "trace"),
            ("LOG_FORMAT", format),
            ("AUTH_RATE_LIMIT", "0"),
        ];
        let mut secrets: Vec<_> = WRONG.into_iter().map(str::to_owned).collect();
        secrets.extend(
            [KEY, NEW_KEY, ADMIN_TOKEN, CHOSEN, CHANGED, WRONG_OLD, WRONG_ADMIN_TOKEN, PRIVATE_NUMBER]
                .map(str::to_owned),
        );
        secrets.push(INTROSPECT_TOKEN.to_owned());
        let server = Server::start(dir, &env);
        Self { dir, env, server, client: Client::new(), secrets, said: String::new() }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.server.url))
    }

    /// Sends a request, and keeps the body of an error response.
    async fn ask(&mut self, request: RequestBuilder, status: u16) -> String {
        let answer = request.send().await.unwrap();
        let got = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert_eq!(got, status, "{text}");
        if status >= 400 {
            self.said.push_str(&text);
        }
        text
    }

    async fn token(&mut self, request: RequestBuilder) {
        let answer: Value = serde_json::from_str(&self.ask(request, 200).await).unwrap();
        let token = answer["token"].as_str().unwrap();
        self.secrets.extend([token.to_owned(), token.rsplit('.').next().unwrap().to_owned()]);
        let verify = self.client.get(format!("{}/verify", self.server.url)).bearer_auth(token);
        self.said.push_str(&verify.send().await.unwrap().text().await.unwrap());
        for (secret, status) in [(INTROSPECT_TOKEN, 200), (WRONG_ADMIN_TOKEN, 401)] {
            let introspect = self.post("/introspect").bearer_auth(secret).form(&[("token", token)]);
            self.ask(introspect, status).await;
        }
    }

    /// Runs a command while the server runs, and returns its standard output.
    fn command(&mut self, args: &[&str], stdin: &str) -> String {
        let output = run(self.dir, args, &self.env, stdin);
        let said = stderr(&output);
        assert!(output.status.success(), "{args:?}: {said}");
        self.said.push_str(&said);
        String::from_utf8(output.stdout).unwrap()
    }

    async fn register_and_sign_in(&mut self) {
        let account = json!({"username": "alice", "email": ADDRESS});
        let answer = self.ask(self.post("/register").json(&account), 201).await;
        let password =
            serde_json::from_str::<Value>(&answer).unwrap()["password"].as_str().unwrap().to_owned();
        self.ask(self.post("/register").json(&account), 409).await;
        let right = json!({"username": "alice", "password": password});
        self.token(self.post("/auth").json(&right)).await;
        self.token(self.post("/auth?expired").json(&right)).await;
        self.token(self.post("/auth").form(&right)).await;
        self.token(self.post("/auth").basic_auth("alice", Some(&password))).await;
        self.secrets.push(STANDARD.encode(format!("alice:{password}")));
        self.secrets.push(password);
    }

    async fn send_invalid_requests(&mut self) {
        let [json, form, basic, broken, unknown] = WRONG;
        self.ask(self.post("/auth").json(&json!({"username": "alice", "password": json})), 401).await;
        self.ask(self.post("/auth").form(&[("username", "alice"), ("password", form)]), 401).await;
        self.ask(self.post("/auth").basic_auth("alice", Some(basic)), 401).await;
        self.secrets.push(STANDARD.encode(format!("alice:{basic}")));
        let body = format!(r#"{{"username":"alice","password":"{broken}","#);
        self.ask(self.post("/auth").body(body), 400).await;
        let body = json!({"username": "alice", "password": unknown, "further": 1});
        self.ask(self.post("/auth").json(&body), 400).await;
        self.ask(self.post(&format!("/auth?expired={IN_THE_QUERY}")), 400).await;
        let long = json!({"username": "alice", "password": unknown, "further": "x".repeat(20_000)});
        self.ask(self.post("/auth").json(&long), 413).await;
        let metrics = self.client.get(format!("{}/metrics", self.server.url));
        self.ask(metrics.bearer_auth(WRONG_ADMIN_TOKEN), 401).await;
        let private = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "AA", "d": PRIVATE_NUMBER});
        self.ask(self.post("/upload").bearer_auth(ADMIN_TOKEN).json(&private), 400).await;
    }

    async fn change_passwords(&mut self) {
        let [old, new] = [self.command(&["users", "add", "carol"], ""), CHANGED.to_owned()];
        let old = old.trim().to_owned();
        let change = |password: &str, new: &str| {
            self.post("/password")
                .json(&json!({"username": "carol", "password": password, "new_password": new}))
        };
        let requests =
            [(change(WRONG_OLD, &new), 401), (change(&old, "tooShort#1"), 400), (change(&old, &new), 204)];
        for (request, status) in requests {
            self.ask(request, status).await;
        }
        let generated = self.ask(self.post("/password").basic_auth("carol", Some(&new)), 200).await;
        let generated: Value = serde_json::from_str(&generated).unwrap();
        self.secrets.extend([
            old,
            generated["password"].as_str().unwrap().to_owned(),
            "tooShort#1".to_owned(),
        ]);
    }

    async fn operate(&mut self) {
        self.command(&["users", "add", "bob", "--password-stdin"], &format!("{CHOSEN}\n"));
        let bob = json!({"username": "bob", "password": CHOSEN});
        self.token(self.post("/auth").json(&bob)).await;
        let new = self.command(&["users", "reset", "alice"], "");
        self.secrets.push(new.trim().to_owned());
        let pem = self.command(&["keys", "export", "1", "--yes"], "");
        self.secrets.extend(pem.lines().filter(|line| line.len() == 64).map(str::to_owned));
        self.command(&["keys", "rotate", "--now"], "");
        self.command(&["backup", "copy.db"], "");
        self.command(&["rekey"], "");
        self.token(self.post("/auth").json(&bob)).await;
    }

    /// Kills the server, so that its WAL stays next to the file, and keeps its log.
    fn end(&mut self) {
        self.server.child.kill().unwrap();
        self.server.wait();
        let log = self.server.log();
        for path in ["/auth was answered 200", "/auth was answered 401", "/register was answered 201"] {
            assert!(log.contains(path), "requests are logged: {log}");
        }
        self.said.push_str(&log);
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn secrets_appear_neither_in_logs_nor_in_errors_nor_in_other_files() {
    for format in ["text", "json"] {
        let dir = dir();
        let mut scene = Scene::new(dir.path(), format);
        scene.register_and_sign_in().await;
        scene.send_invalid_requests().await;
        scene.change_passwords().await;
        scene.operate().await;
        scene.end();
        assert!(scene.secrets.len() > 40, "the secrets include tokens and the lines of a private key");
        for secret in &scene.secrets {
            assert!(!scene.said.contains(secret.as_str()), "{secret} in {}", scene.said);
        }

        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert!(names.contains(&"copy.db") && names.iter().any(|name| name.ends_with("-wal")), "{names:?}");
        for file in &files {
            let bytes = fs::read(file).unwrap();
            for secret in &scene.secrets {
                assert!(!holds(&bytes, secret.as_bytes()), "{secret} in {}", file.display());
                // A private key may be stored without base64.
                if let Some(raw) = STANDARD.decode(secret).ok().filter(|raw| raw.len() == 48) {
                    assert!(!holds(&bytes, &raw), "{secret}, decoded, in {}", file.display());
                }
            }
        }

        let hashes: Vec<String> = sqlx::query_scalar("SELECT password_hash FROM users")
            .fetch_all(&mut db(dir.path()).await)
            .await
            .unwrap();
        for hash in hashes {
            assert!(!scene.said.contains(&hash), "{hash}");
        }
        for text in [ADDRESS, IN_THE_QUERY] {
            assert!(!scene.said.contains(text), "{text} in {}", scene.said);
        }
    }
}

#[test]
fn secrets_have_no_flag_and_an_attempt_does_not_echo_them() {
    for secret in jwksd::config::SECRETS {
        let flag = format!("--{}", secret.name.to_lowercase().replace('_', "-"));
        for args in
            [vec!["serve".to_owned(), format!("{flag}=hunter2")], vec![flag.clone(), "hunter2".to_owned()]]
        {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let output = run(dir().path(), &args, &[], "");
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{flag}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

/// Arguments that contain a secret by mistake: settings, URLs with user-info, a passphrase, whole files.
const SECRET_ARGUMENTS: [&str; 8] = [
    "NOT_MY_KEY=hunter2",
    "ADMIN_TOKEN: hunter2",
    "postgres://u:hunter2@h/x",
    "https://u:hunter2@h:99999",
    "u:hunter2@h/x/y",
    "correct hunter2 battery staple",
    r#"{"kty":"oct","k":"hunter2"}"#,
    "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
];

/// Commands that quote an argument in their errors; `S` stands for it.
const QUOTING: [&[&str]; 48] = [
    &["S"],
    &["serve", "S"],
    &["doctor", "S"],
    &["--no-such-flag=S"],
    &["--port", "S"],
    &["serve", "--database-url=S/"],
    &["argon2-tune", "--target", "S"],
    &["completions", "S"],
    &["restore", "S"],
    &["logs", "--user", "S"],
    &["logs", "--ip", "S"],
    &["logs", "--since=S"],
    &["logs", "--last", "S"],
    &["keys", "S"],
    &["keys", "revoke", "S"],
    &["keys", "withdraw", "S"],
    &["keys", "import", "S"],
    &["users", "add", "S"],
    &["users", "add", "x", "--email", "S"],
    &["users", "show", "S"],
    &["users", "delete", "--yes", "S"],
    &["users", "enable", "S"],
    &["users", "disable", "S"],
    &["users", "reset", "S"],
    &["users", "set-email", "S", "a@b.example"],
    &["users", "set-email", "x", "S"],
    &["jwk", "thumbprint", "S"],
    &["jwk", "public", "S"],
    &["jwk", "to-pem", "S"],
    &["jwk", "from-pem", "S"],
    &["jwk", "upload", "S"],
    &["jwk", "upload", "x", "--server", "S"],
    &["jwk", "generate", "--type", "S"],
    &["jwk", "generate", "--curve=S"],
    &["jwk", "generate", "--alg", "S"],
    &["jwk", "generate", "--save", "--kid", "S"],
    &["jwk", "generate", "--save", "--upload", "--server", "S"],
    &["jwt", "inspect", "S"],
    &["jwt", "sign", "--key-file", "S"],
    &["jwt", "sign", "--key-file", "x", "--payload", "S"],
    &["jwt", "sign", "--key-file", "x", "--ttl=S"],
    &["jwt", "sign", "--key-file", "x", "--claim", "S"],
    &["jwt", "verify", "--jwks-url", "S", "x"],
    &["jwt", "verify", "--jwks-file", "S", "x"],
    &["jwt", "verify", "--json", "--jwks-file", "S", "x"],
    &["jwt", "verify", "--issuer", "S", "x"],
    &["jwt", "verify", "--leeway=S", "x"],
    &["jwt", "verify", "--jwks-file", "x", "S"],
];

#[test]
fn no_command_repeats_an_argument_that_contains_a_secret() {
    let dir = dir();
    done(dir.path(), &["users", "add", "x"]);
    let mut hidden = 0;
    for quoting in QUOTING {
        for secret in SECRET_ARGUMENTS {
            let args: Vec<_> = quoting.iter().map(|arg| arg.replace('S', secret)).collect();
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let (status, stdout, said) = command(dir.path(), &args);
            assert_ne!(status, 0, "{args:?}: {stdout}{said}");
            assert!(!stdout.contains("hunter2") && !said.contains("hunter2"), "{args:?}: {stdout}{said}");
            hidden += usize::from(said.contains("not shown"));
        }
    }
    assert!(hidden > 300, "{hidden} errors quoted the argument");
    for args in [&["backup", "postgres://u:hunter2@h/x"][..], &["restore", "https://u:hunter2@h/a/b/c.db"]] {
        let (status, _, said) = command(dir.path(), args);
        assert!(status != 0 && !said.contains("hunter2"), "{args:?}: {said}");
    }
}

#[test]
fn an_argument_without_a_secret_is_repeated_in_the_error() {
    let dir = dir();
    done(dir.path(), &["keys", "list"]);
    for (args, quoted) in [
        (&["users", "show", "alice@example.com"][..], "\"alice@example.com\""),
        (&["users", "add", "a b"], "\"a b\""),
        (&["jwk", "public", "/home/a@corp.example/my key.jwk"], "/home/a@corp.example/my key.jwk"),
        (&["jwk", "from-pem", "NzbLsXh8uDCcd-6MNwXFMyjmDwJrB1L2oKqH7Q9C2Lk.pem"], "2Lk.pem"),
        (&["jwt", "verify", "--jwks-url", "ftp://h.example/jwks", "x"], "\"ftp://h.example/jwks\""),
        (&["restore", "copy.db"], "copy.db"),
    ] {
        let (status, _, said) = command(dir.path(), args);
        assert!(status != 0 && said.contains(quoted), "{args:?}: {said}");
    }
    let (_, _, said) = command(dir.path(), &["logs", "--since=u:hunter2@h"]);
    let wanted =
        "'(not shown, because it may contain a secret)' for '--since <TIME>': use a time such as 90s";
    assert!(said.contains(wanted), "{said}");
    // The query of a URL may be a key of its server.
    let (_, _, said) =
        command(dir.path(), &["jwt", "verify", "--jwks-url", "http://127.0.0.1:1/jwks?code=hunter2", "x"]);
    assert!(said.contains("cannot fetch http://127.0.0.1:1/jwks?…") && !said.contains("hunter2"), "{said}");
}

/// Lines that put a secret into the argument list of a program, which `ps` shows and sudo logs. An assignment before a
/// command is not an argument.
fn lines_with_a_secret_argument(text: &str) -> Vec<&str> {
    let runners =
        ["sudo", "env", "su", "doas", "docker", "podman", "kubectl", "systemd-run", "ssh", "-e", "--env"];
    let is_assigned = |line: &str| {
        jwksd::config::SECRETS.iter().any(|secret| line.contains(&format!("{}=", secret.name)))
            && (line.contains("Environment=")
                || line.split([' ', '`', '|', '(']).any(|word| runners.contains(&word)))
    };
    let is_sent = |line: &str| line.contains("curl") && (line.contains("Bearer $") || line.contains(" -u $"));
    text.lines().filter(|line| is_assigned(line) || is_sent(line)).collect()
}

#[test]
fn no_document_puts_a_secret_on_a_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = |folder: &str| fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files = listed("").chain(listed("docs")).chain(listed("packaging")).filter(|path| path.is_file());
    let mut lines_seen = 0;
    for path in files {
        // The picture in docs/ is text as well; other files are not documents.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        lines_seen += text.lines().count();
        let found = lines_with_a_secret_argument(&text);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
    assert!(lines_seen > 1000, "{lines_seen}");
    let help = String::from_utf8(run(dir().path(), &["--help"], &[], "").stdout).unwrap();
    assert!(lines_with_a_secret_argument(&help).is_empty());
}

#[test]
fn the_search_for_secrets_on_command_lines_finds_them() {
    for line in [
        "    sudo -u jwksd env DATABASE_URL=/x NOT_MY_KEY=\"$(sudo cat /etc/jwksd/not_my_key)\" jwksd users list",
        "docker run -e ADMIN_TOKEN=hunter2 jwksd",
        "Environment=NEW_NOT_MY_KEY=x",
        "curl -H \"Authorization: Bearer $ADMIN_TOKEN\" localhost:8080/metrics",
    ] {
        assert_eq!(lines_with_a_secret_argument(line), [line]);
    }
    for line in
        ["sudo env NOT_MY_KEY_FILE=/x jwksd", "NOT_MY_KEY=x jwksd", "set ADMIN_TOKEN= in the environment"]
    {
        assert_eq!(lines_with_a_secret_argument(line), [""; 0], "{line}");
    }
}
