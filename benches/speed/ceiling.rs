//! The ceiling: what jwksd does, with the same framework and libraries, but without a store, limits or logs.
//!
//! `GET /jwks` sends constant bytes, `POST /sign` signs a token with a parsed key, `POST /auth` checks one
//! Argon2id hash in a pool of threads that reuse their memory, and signs.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use argon2_rust::params::{Memory, TagLen};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

const SALT: [u8; 16] = [7; 16];

type Job = Box<dyn FnOnce(&mut argon2_rust::Hasher) + Send>;

#[derive(Clone)]
struct Ceiling {
    jwks: Bytes,
    key: Arc<KeyPair>,
    head: Arc<str>,
    hash: [u8; 32],
    pool: mpsc::Sender<Job>,
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Serialize)]
struct Answer {
    token: String,
}

/// Serves on this port until it is killed. The password of every account is `password`.
pub(crate) fn serve(port: u16, cores: usize, memory_kib: u32, passes: u32) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let argon2 = argon2(memory_kib, passes);
    let mut hash = [0; 32];
    argon2.hash_into(b"password", &SALT, &mut hash).unwrap();
    let ceiling = Ceiling {
        jwks: jwks(&key),
        key: Arc::new(key),
        head: URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"1"}"#).into(),
        hash,
        pool: pool(cores, &argon2),
    };
    let router = Router::new()
        .route("/jwks", get(async |State(ceiling): State<Ceiling>| json(ceiling.jwks)))
        .route("/sign", post(sign_only))
        .route("/auth", post(auth))
        .with_state(ceiling);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_io().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        axum::serve(listener, router).await.unwrap();
    });
}

fn argon2(memory_kib: u32, passes: u32) -> argon2_rust::Argon2 {
    let params = argon2_rust::Params::builder()
        .memory(Memory::kib(memory_kib.into()))
        .passes(passes)
        .lanes(1)
        .tag_len(TagLen::bytes(32))
        .build()
        .unwrap();
    argon2_rust::Argon2::new(argon2_rust::Algorithm::Argon2id, argon2_rust::Version::V0x13, params)
}

fn pool(threads: usize, argon2: &argon2_rust::Argon2) -> mpsc::Sender<Job> {
    let (send, receive) = mpsc::channel::<Job>();
    let receive = Arc::new(Mutex::new(receive));
    for _ in 0..threads {
        let (receive, mut hasher) = (Arc::clone(&receive), argon2.hasher());
        std::thread::spawn(move || {
            loop {
                let job = receive.lock().unwrap().recv();
                let Ok(job) = job else { return };
                job(&mut hasher);
            }
        });
    }
    send
}

/// One key, as a new store publishes it.
fn jwks(key: &KeyPair) -> Bytes {
    // SEQUENCE, INTEGER of 257 bytes of which the first is 0, INTEGER 65537 (RFC 8017 §A.1.1).
    let modulus = URL_SAFE_NO_PAD.encode(&key.public_key().as_ref()[9..9 + 256]);
    let jwk = serde_json::json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "2", "n": modulus, "e": "AQAB"});
    serde_json::json!({ "keys": [jwk] }).to_string().into()
}

fn json(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn token(ceiling: &Ceiling, sub: &str) -> String {
    let iat = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::to_vec(&Claims { sub, iat, exp: iat + 900 }).unwrap();
    let mut jwt = String::with_capacity(640);
    jwt.push_str(&ceiling.head);
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut jwt);
    let mut signature = [0; 256];
    ceiling.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), jwt.as_bytes(), &mut signature).unwrap();
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    jwt
}

fn answer(token: String) -> Response {
    json(serde_json::to_vec(&Answer { token }).unwrap().into())
}

async fn sign_only(State(ceiling): State<Ceiling>, body: Bytes) -> Response {
    let credentials: Credentials = serde_json::from_slice(&body).unwrap();
    answer(token(&ceiling, &credentials.username))
}

async fn auth(State(ceiling): State<Ceiling>, body: Bytes) -> Response {
    let credentials: Credentials = serde_json::from_slice(&body).unwrap();
    let (send, receive) = oneshot::channel();
    let pool = ceiling.pool.clone();
    let job = move |hasher: &mut argon2_rust::Hasher| {
        let mut tag = [0; 32];
        hasher.hash_into(credentials.password.as_bytes(), &SALT, &mut tag).unwrap();
        assert_eq!(tag, ceiling.hash);
        let _ = send.send(token(&ceiling, &credentials.username));
    };
    pool.send(Box::new(job)).unwrap();
    answer(receive.await.unwrap())
}
