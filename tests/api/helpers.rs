//! `TestApp`: the whole service on its own port, with its own store and a clock that only the test moves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use jwksd::app::App;
use jwksd::config::Config;
use jwksd::database::Database;
use jwksd::telemetry::{LogConfig, LogFormat};
use jwksd_core::clock::{Clock as _, ManualClock, Timestamp};
use jwksd_core::issuer::{
    self, Accounts, BackendChoice, BlockingPool, Context, GuessLimits, KeyConfig, Keyring, MasterKey,
    PasswordConfig, SharedRng, TokenConfig,
};
use jwksd_core::key::KeySpec;
use jwksd_core::key::lifecycle::RotationPolicy;
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::password::Hasher;
use jwksd_core::rate_limit::RateLimits;
use jwksd_http::{
    AuthMode, BrowserConfig, ClientIpHeader, ClientIpPolicy, HttpConfig, ListenConfig, Registration,
    SecretToken,
};
use jwksd_jose::pem::to_stored_pem;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use jwksd_jose::token_type::TokenType;
use jwksd_store_sqlite::{DatabaseFile, SqliteStore};
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tempfile::TempDir;

use crate::conformance;

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const TTL: Duration = Duration::from_mins(15);
pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const MASTER_KEY: &str = "8BVzbxM5aOoW8PLQ4khZ5PcT2CBcieE5phAogKS4g6c=";

/// The settings that tests change.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    pub(crate) master_key: &'static str,
    pub(crate) audience: Option<&'static str>,
    pub(crate) token_type: TokenType,
    pub(crate) auth_mode: AuthMode,
    pub(crate) registration: Registration,
    pub(crate) auth_rate_limit: u32,
    pub(crate) auth_failure_limit: u32,
    pub(crate) register_rate_limit: u32,
    pub(crate) trusted_proxies: Vec<&'static str>,
    pub(crate) hasher: Hasher,
    pub(crate) credential_cache_ttl: Duration,
    pub(crate) admin_token: Option<&'static str>,
    pub(crate) introspect_token: Option<&'static str>,
    pub(crate) issuer: &'static str,
    pub(crate) browsers: BrowserConfig,
    pub(crate) policy: RotationPolicy,
    pub(crate) spec: KeySpec,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) connections: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            master_key: MASTER_KEY,
            audience: None,
            token_type: TokenType::Jwt,
            auth_mode: AuthMode::Password,
            registration: Registration::Open,
            auth_rate_limit: 0,
            auth_failure_limit: 0,
            register_rate_limit: 0,
            trusted_proxies: Vec::new(),
            hasher: Hasher::new(8, 1, 1).unwrap(),
            credential_cache_ttl: 5 * MINUTE,
            admin_token: None,
            introspect_token: None,
            issuer: ISSUER,
            browsers: BrowserConfig::default(),
            policy: RotationPolicy::new(DAY, 7 * DAY, 2 * HOUR, TTL, 5 * MINUTE).unwrap(),
            spec: KeySpec::default(),
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000))),
            connections: 1000,
        }
    }
}

impl Setup {
    fn config(&self) -> Config {
        Config {
            listen: ListenConfig { host: "127.0.0.1".into(), port: 0, issuer: Some(self.issuer.into()) },
            database: Database::File(database_file(&self.dir)),
            keys: KeyConfig {
                master_key: Some(MasterSecret::parse(self.master_key).unwrap()),
                new_master_key: None,
                policy: self.policy,
                spec: self.spec,
                jwks_max_age: 5 * MINUTE,
            },
            tokens: TokenConfig {
                audiences: self
                    .audience
                    .into_iter()
                    .flat_map(|names| names.split(','))
                    .map(Into::into)
                    .collect(),
                typ: self.token_type,
            },
            passwords: PasswordConfig {
                hasher: self.hasher.clone(),
                backend: BackendChoice::Reference,
                credential_cache_ttl: self.credential_cache_ttl,
                guesses: GuessLimits { limit: self.auth_failure_limit, window: 15 * MINUTE },
            },
            http: self.http_config(),
            limit_server: None,
            limits: RateLimits { sign_in: self.auth_rate_limit, registration: self.register_rate_limit },
            open_auth_anyway: false,
            log_retention: None,
            log: LogConfig { format: LogFormat::Text, filter: "info".into() },
            secret_files: Vec::new(),
            dotenv_file: None,
        }
    }

    fn http_config(&self) -> HttpConfig {
        HttpConfig {
            max_age: 5 * MINUTE,
            max_silence: Duration::ZERO,
            auth_mode: self.auth_mode,
            registration: self.registration,
            client_ip: ClientIpPolicy {
                trusted: self.trusted_proxies.iter().map(|cidr| cidr.parse().unwrap()).collect(),
                header: ClientIpHeader::XForwardedFor,
            },
            admin_token: self.admin_token.map(SecretToken::new),
            introspect_token: self.introspect_token.map(SecretToken::new),
            browsers: self.browsers.clone(),
        }
    }
}

pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) accounts: Accounts,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: TempDir,
    connections: usize,
    client: Client,
}

impl TestApp {
    pub(crate) async fn spawn() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let (test_app, app, listener) = Self::build(setup).await;
        let connections = test_app.connections;
        // Without the rotation loop: a test lets the keyring tick when it has moved the clock.
        tokio::spawn(jwksd_http::serve(listener, app.fast_path, connections, std::future::pending()));
        test_app
    }

    /// A service that does not serve yet.
    pub(crate) async fn build(setup: Setup) -> (Self, App, tokio::net::TcpListener) {
        let context = context(&setup.dir, &setup.clock).await;
        let master_key = master_key(setup.master_key, &context).await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let config = setup.config();
        let app = App::build(&config, context, master_key, address.port()).await.unwrap();
        let (accounts, keyring) = (app.accounts.clone(), Arc::clone(&app.keyring));
        let url = format!("http://{address}");
        conformance::register_server(&url, setup.auth_mode);
        let Setup { clock, dir, connections, .. } = setup;
        (Self { url, accounts, keyring, clock, dir, connections, client: Client::new() }, app, listener)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        TestResponse::send(self.request(Method::GET, path)).await
    }

    /// Registers an account and returns its password.
    pub(crate) async fn register(&self, username: &str) -> String {
        let body = serde_json::json!({"username": username, "email": format!("{username}@example.com")});
        let answer = TestResponse::send(self.post("/register").json(&body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.json["password"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn auth(&self, username: &str, password: &str) -> TestResponse {
        let body = serde_json::json!({"username": username, "password": password});
        TestResponse::send(self.post("/auth").json(&body)).await
    }

    /// Registers an account, signs it in and returns the token.
    pub(crate) async fn token(&self) -> String {
        let name = format!("user{}", rand::random::<u64>());
        let password = self.register(&name).await;
        self.auth(&name, &password).await.token()
    }

    pub(crate) async fn jwks(&self) -> JwkSet {
        serde_json::from_value(self.get("/.well-known/jwks.json").await.json).unwrap()
    }

    pub(crate) async fn published_kids(&self) -> Vec<String> {
        self.jwks().await.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
    }

    /// Moves the clock, and lets the rotation do what has become due.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.keyring.tick().await.unwrap();
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_secs()
    }

    pub(crate) async fn db(&self) -> SqliteConnection {
        database(&self.dir).await
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) AS n FROM {table}"));
        sqlx::query(sql).fetch_one(&mut self.db().await).await.unwrap().get("n")
    }
}

/// A second handle on the store, as another process has one.
pub(crate) async fn context(dir: &TempDir, clock: &Arc<ManualClock>) -> Context {
    Context {
        store: Arc::new(SqliteStore::open(&database_file(dir)).await.unwrap()),
        clock: Arc::clone(clock) as _,
        rng: SharedRng::new(StdRng::try_from_rng(&mut SysRng).unwrap()),
        pool: BlockingPool::new(2, Arc::clone(clock) as _).unwrap(),
    }
}

/// The master key of the store. A new store gets it here.
pub(crate) async fn master_key(secret: &str, context: &Context) -> MasterKey {
    issuer::initialize(&MasterSecret::parse(secret).unwrap(), context).await.unwrap()
}

pub(crate) fn database_file(dir: &TempDir) -> DatabaseFile {
    DatabaseFile::parse(path(dir).to_str().unwrap()).unwrap()
}

pub(crate) fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("store.db")
}

pub(crate) async fn database(dir: &TempDir) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path(dir).display())).await.unwrap()
}

#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl TestResponse {
    /// Sends a request. Fails if the response is not one that `/openapi.json` documents.
    pub(crate) async fn send(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, url) = (request.method().clone(), request.url().clone());
        let answer = Self::from(client.execute(request).await.unwrap()).await;
        conformance::expect(&method, &url, &answer).await;
        answer
    }

    async fn from(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, json }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json["token"].as_str().unwrap().to_owned()
    }

    /// Compares the status and the whole body of an error.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: &str, sentence: &str) {
        assert_eq!(
            (self.status.as_u16(), &self.json),
            (status, &serde_json::json!({"error": sentence, "code": code})),
            "{self:?}"
        );
    }
}

/// Header and claims, unverified.
pub(crate) fn decode(token: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    (part(parts[0]), part(parts[1]))
}

fn part(text: &str) -> Value {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Verifies a token's signature and issuer through a JWKS, with another library than the one that signed it.
pub(crate) fn verify(token: &str, jwks: &JwkSet) -> Result<Value, String> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
    let key = jwks.find(header.kid.as_deref().unwrap()).ok_or("the kid is not in the JWKS")?;
    let mut validation = Validation::new(algorithm(key));
    validation.set_issuer(&[ISSUER]);
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation)
        .map(|data| data.claims)
        .map_err(|error| error.to_string())
}

/// The algorithm that a JWK is published with.
pub(crate) fn algorithm(jwk: &Jwk) -> Algorithm {
    jwk.common.key_algorithm.unwrap().to_string().parse().unwrap()
}

/// A new RSA private key as PKCS#1 PEM, the form of the `keys` table.
pub(crate) fn rsa_pem() -> zeroize::Zeroizing<String> {
    to_stored_pem(&PrivateKey::generate(NewKey::Rsa2048).unwrap()).unwrap()
}
