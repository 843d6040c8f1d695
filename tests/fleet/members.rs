//! Servers on one database, each behind a proxy of its own.

use std::net::ToSocketAddrs as _;
use std::process::Output;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tempfile::TempDir;
use url::Url;

use crate::postgres::{TestDatabase, connect};
use crate::proxy::Proxy;
use crate::support::{Server, jwksd, run};

pub(crate) const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The lifetime of keys is seconds, and hashes have the minimum cost.
const SETTINGS: [(&str, &str); 11] = [
    ("ISSUER", "https://login.example.com"),
    ("NOT_MY_KEY", MASTER_KEY),
    ("KEY_LIFETIME", "12s"),
    ("KEY_LEAD", "2s"),
    ("KEY_RETENTION", "1h"),
    ("TOKEN_TTL", "4s"),
    ("JWKS_MAX_AGE", "1s"),
    ("AUTH_RATE_LIMIT", "0"),
    ("REGISTER_RATE_LIMIT", "0"),
    ("ARGON2_MEMORY_KIB", "8"),
    ("ARGON2_ITERATIONS", "1"),
];

/// Keys that no test outlives.
pub(crate) const CALM: [(&str, &str); 3] =
    [("KEY_LIFETIME", "24h"), ("KEY_LEAD", "2h"), ("TOKEN_TTL", "15m")];

pub(crate) fn kids(set: &JwkSet) -> Vec<String> {
    set.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

/// Several servers on one database.
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    /// For commands: all processes on one store have the same settings.
    env: Vec<(String, String)>,
    _database: Option<TestDatabase>,
}

/// A server of a fleet.
pub(crate) struct Member {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) client: Client,
    _dir: TempDir,
}

impl Fleet {
    /// Starts them at the same time, on an empty database. Nothing if there is no PostgreSQL.
    pub(crate) async fn start<const N: usize>(settings: &[(&str, &str)]) -> Option<Self> {
        let database = TestDatabase::create().await?;
        let url = database.url.clone();
        Some(Self { _database: Some(database), ..Self::on(url, N, settings).await })
    }

    /// Starts them on this database.
    pub(crate) async fn on(url: String, number: usize, settings: &[(&str, &str)]) -> Self {
        let mut starts = Vec::new();
        for _ in 0..number {
            starts.push(prepare(&url, settings).await);
        }
        // Each waits for its server, so each needs a thread.
        let starts: Vec<_> =
            starts.into_iter().map(|start| tokio::task::spawn_blocking(move || start.run())).collect();
        let mut members = Vec::new();
        for start in starts {
            members.push(start.await.unwrap());
        }
        Self { members, env: environment(&url, settings), _database: None }
    }

    /// The settings of commands.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.env
    }

    /// The database itself.
    pub(crate) fn url(&self) -> &str {
        &self.env.iter().find(|(name, _)| name == "DATABASE_URL").unwrap().1
    }

    /// A connection to the database itself.
    pub(crate) async fn connect(&self) -> PgConnection {
        connect(self.url()).await
    }

    /// Runs a command of an operator, on the database itself.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        self.command_on(self.url(), args)
    }

    /// Runs a command of an operator on this database, with the settings of the servers.
    pub(crate) fn command_on(&self, url: &str, args: &[&str]) -> String {
        let output = self.output_of(url, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The status of a command on this database, and what it says on standard error.
    pub(crate) fn run_on(&self, url: &str, args: &[&str]) -> (Option<i32>, String) {
        let output = self.output_of(url, args);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn output_of(&self, url: &str, args: &[&str]) -> Output {
        let dir = tempfile::tempdir().unwrap();
        let settings = self.env.iter().filter(|(name, _)| name != "DATABASE_URL");
        let mut env: Vec<_> = settings.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        env.push(("DATABASE_URL", url));
        run(dir.path(), args, &env, "")
    }

    /// Waits until all servers publish the same bytes, and these pass. Returns them.
    pub(crate) async fn agree(&self, passes: impl Fn(&JwkSet) -> bool) -> JwkSet {
        let begun = Instant::now();
        loop {
            let mut bodies = Vec::new();
            for member in &self.members {
                bodies.push(member.jwks().await);
            }
            let set: JwkSet = serde_json::from_slice(&bodies[0]).unwrap();
            if bodies.iter().all(|body| *body == bodies[0]) && passes(&set) {
                return set;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "the servers do not agree: {:?}",
                bodies.iter().map(|body| kids(&serde_json::from_slice(body).unwrap())).collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

struct Start {
    dir: TempDir,
    proxy: Proxy,
    env: Vec<(String, String)>,
}

async fn prepare(url: &str, settings: &[(&str, &str)]) -> Start {
    let mut url = Url::parse(url).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap_or(5432)).to_socket_addrs().unwrap().next();
    let proxy = Proxy::start(address.unwrap()).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.port)).unwrap();
    Start { dir: tempfile::tempdir().unwrap(), env: environment(url.as_str(), settings), proxy }
}

fn environment(url: &str, settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let given = SETTINGS.iter().filter(|(name, _)| !settings.iter().any(|(other, _)| other == name));
    let database = ("DATABASE_URL", url);
    let all = given.chain(settings).chain([&database]);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Start {
    fn run(self) -> Member {
        let env: Vec<_> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let server = Server::spawn(&mut jwksd(self.dir.path(), &["serve"], &env), &env);
        let server = server.unwrap_or_else(|log| panic!("the server did not start:\n{log}"));
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Member { server, proxy: self.proxy, client, _dir: self.dir }
    }
}

impl Member {
    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.server.url)).json(body)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.server.url))
    }

    /// The bytes of the JWKS.
    pub(crate) async fn jwks(&self) -> Vec<u8> {
        let response = self.get("/.well-known/jwks.json").send().await.unwrap();
        assert_eq!(response.status(), 200, "the JWKS is always served");
        let body = response.bytes().await.unwrap().to_vec();
        assert!(!serde_json::from_slice::<JwkSet>(&body).unwrap().keys.is_empty());
        body
    }

    /// How long the JWKS may be cached, in seconds.
    pub(crate) async fn max_age(&self) -> u64 {
        let response = self.get("/jwks").send().await.unwrap();
        assert_eq!(response.status(), 200);
        let header = response.headers()["cache-control"].to_str().unwrap().to_owned();
        header.strip_prefix("public, max-age=").unwrap().parse().unwrap()
    }

    pub(crate) async fn register(&self, name: &str) -> String {
        let body = json!({"username": name, "email": format!("{name}@example.com")});
        let response = self.post("/register", &body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        response.json::<Value>().await.unwrap()["password"].as_str().unwrap().to_owned()
    }

    /// The token, or the status.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Result<String, StatusCode> {
        let request = self.post("/auth", &json!({"username": name, "password": password}));
        let response = request.send().await.unwrap();
        match response.status() {
            StatusCode::OK => {
                Ok(response.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned())
            }
            status => Err(status),
        }
    }

    pub(crate) async fn ready(&self) -> StatusCode {
        self.get("/readyz").send().await.unwrap().status()
    }

    /// Waits until `/readyz` has this status. Returns how long that took.
    pub(crate) async fn wait_ready(&self, status: StatusCode) -> Duration {
        let begun = Instant::now();
        while self.ready().await != status {
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "/readyz is not {status}: {}",
                self.server.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }
}
