//! `jwksd jwt sign`: claims in, token out.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::{Map, Value};

use super::super::exit::UsageError as Refused;
use super::super::files;
use super::super::jwk::{about, named, parse_pem};
use super::super::output::{lines as list, message as say};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::jose::algorithm::Algorithm;
use crate::domain::jose::json::{self, SecretJson};
use crate::domain::jose::jwk::{InvalidJwk, check_kid};
use crate::domain::jose::pem::Key;
use crate::domain::jose::private_key::PrivateJwk;
use crate::domain::jose::{claims, jws};

#[derive(Args, Debug)]
pub(in crate::cli) struct SignArgs {
    /// The private key: PEM or JWK; - for standard input
    #[arg(long, value_name = "FILE")]
    key_file: String,
    /// What the token calls the key: the JWK's own kid, else the thumbprint, unless told otherwise
    #[arg(long)]
    kid: Option<String>,
    /// The algorithm: the JWK's own, else the usual one of its type, unless told otherwise
    #[arg(long)]
    alg: Option<String>,
    /// The claims, as a JSON object; - for standard input
    #[arg(long, value_name = "FILE")]
    payload: Option<String>,
    /// One more claim; a value that is JSON is that JSON, any other is a string
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// From now to exp [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    ttl: Option<Duration>,
    /// Write the token to a file: mode 0600, never over another file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: SignArgs) -> anyhow::Result<()> {
    if args.key_file == "-" && args.payload.as_deref() == Some("-") {
        return Err(refused("--key-file and --payload cannot both be standard input"));
    }
    if args.ttl == Some(Duration::ZERO) {
        return Err(refused("--ttl: 1s or more would do"));
    }
    let given: Result<Vec<_>, _> = args.claims.iter().map(|text| claims::parse(text)).collect();
    let given = given.map_err(|error| refused(error.to_string()))?;
    let payload = args.payload.as_deref().map(read_payload).transpose()?.unwrap_or_default();

    let key = read_key(&args.key_file)?;
    let algorithm = choose(args.alg.as_deref(), &key)?;
    let kid = args.kid.unwrap_or_else(|| key.kid());
    check_kid(&kid).map_err(|error| refused(format!("--kid: {error}")))?;
    let now = SystemClock::start().now();
    let claims = claims::assemble(payload, given, args.ttl, now, &new_id()?)
        .map_err(|error| refused(error.to_string()))?;
    let token = jws::sign(key.key(), algorithm, &kid, &claims).context("the key could not sign")?;
    match &args.output {
        Some(path) => files::write_new(path, format!("{token}\n").as_bytes()),
        None => list([token]).map(drop).map_err(Into::into),
    }
}

fn refused(why: impl Into<String>) -> anyhow::Error {
    Refused(why.into()).into()
}

fn read_payload(file: &str) -> anyhow::Result<Map<String, Value>> {
    json::object(&files::read(file)?).with_context(|| about(file))
}

fn read_key(file: &str) -> anyhow::Result<PrivateJwk> {
    let text = files::read(file)?;
    if files::is_open_to_others(file) {
        say(&format!("warning: others can read {file}: `chmod 600 {file}` ends that"));
    }
    if text.trim_ascii_start().starts_with(b"{") {
        let json = SecretJson::parse(&text).with_context(|| about(file))?;
        return PrivateJwk::parse(&json).with_context(|| about(file));
    }
    match parse_pem(file, &text)? {
        Key::Private(key) => Ok(PrivateJwk::bare(key)),
        Key::Public(_) => Err(InvalidJwk::Public).with_context(|| about(file)),
    }
}

/// A key signs with what it is for and with nothing else (RFC 8725, 3.1).
fn choose(wanted: Option<&str>, key: &PrivateJwk) -> anyhow::Result<Algorithm> {
    let kind = key.key().public().key_type();
    let own = key.algorithm();
    let Some(wanted) = wanted.map(named).transpose()? else {
        return Ok(own.unwrap_or(kind.usual_algorithm()));
    };
    if wanted.key_type() != kind {
        let fitting = kind.algorithms();
        return Err(refused(format!("--alg {wanted} is none for an {kind} key: {fitting} would do")));
    }
    match own.filter(|own| *own != wanted) {
        Some(own) => Err(refused(format!("--alg {wanted}: the key says that it is for {own} alone"))),
        None => Ok(wanted),
    }
}

/// A `jti` that no other token has (RFC 7519, 4.1.7): a random UUID.
fn new_id() -> anyhow::Result<String> {
    let mut id = [0; 16];
    SysRng.try_fill_bytes(&mut id).map_err(|error| anyhow!("the system gives no rng: {error}"))?;
    Ok(uuid::Builder::from_random_bytes(id).into_uuid().to_string())
}
