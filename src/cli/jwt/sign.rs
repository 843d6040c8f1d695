//! `jwksd jwt sign`: signs claims with a private key.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::{Map, Value};

use super::super::exit::UsageError;
use super::super::files;
use super::super::jwk::{algorithm_from_name, cannot_use, parse_pem};
use super::super::output;
use jwksd_core::clock::{Clock as _, SystemClock};
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::invalid_pem::InvalidPem;
use jwksd_jose::json::{self, InvalidJson, SecretJson};
use jwksd_jose::members::check_kid;
use jwksd_jose::pem::Key;
use jwksd_jose::private_key::PrivateJwk;
use jwksd_jose::{claims, jws};

#[derive(Args, Debug)]
pub(in crate::cli) struct SignArgs {
    /// Private key: PEM or JWK; - for standard input
    #[arg(long, value_name = "FILE")]
    key_file: String,
    /// Key ID in the header [default: the JWK's kid, otherwise the thumbprint]
    #[arg(long)]
    kid: Option<String>,
    /// Algorithm [default: the JWK's alg, otherwise the default algorithm of its type]
    #[arg(long)]
    alg: Option<String>,
    /// Claims as a JSON object; - for standard input
    #[arg(long, value_name = "FILE")]
    payload: Option<String>,
    /// Additional claim; a value that is not valid JSON is a string
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// Lifetime: from now to exp [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = jwksd_core::setting::values::duration)]
    ttl: Option<Duration>,
    /// Write the token to a file: mode 0600, never replacing a file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: SignArgs) -> anyhow::Result<()> {
    if args.key_file == "-" && args.payload.as_deref() == Some("-") {
        return Err(usage_error("--key-file and --payload cannot both be standard input"));
    }
    if args.ttl == Some(Duration::ZERO) {
        return Err(usage_error("--ttl is 0: use at least 1s"));
    }
    let given: Result<Vec<_>, _> = args.claims.iter().map(|text| claims::parse(text)).collect();
    let given = given.map_err(|error| usage_error(error.to_string()))?;
    let payload = args.payload.as_deref().map(read_payload).transpose()?.unwrap_or_default();

    let key = read_key(&args.key_file)?;
    let algorithm = choose_algorithm(args.alg.as_deref(), &key)?;
    let kid = args.kid.unwrap_or_else(|| key.kid());
    check_kid(&kid).map_err(|error| usage_error(format!("--kid: {error}")))?;
    let now = SystemClock::start().now();
    let claims = claims::assemble(payload, given, args.ttl, now, &new_id()?)
        .map_err(|error| usage_error(error.to_string()))?;
    let token = jws::sign(key.key(), algorithm, &kid, &claims).context("the key could not sign")?;
    match &args.output {
        Some(path) => files::write_new(path, format!("{token}\n").as_bytes()),
        None => output::lines([token]).map(drop).map_err(Into::into),
    }
}

fn usage_error(why: impl Into<String>) -> anyhow::Error {
    UsageError(why.into()).into()
}

fn read_payload(file: &str) -> anyhow::Result<Map<String, Value>> {
    match json::document(&files::read(file)?).with_context(|| cannot_use(file))? {
        Value::Object(claims) => Ok(claims),
        _ => Err(InvalidJson::NotObject).with_context(|| cannot_use(file)),
    }
}

fn read_key(file: &str) -> anyhow::Result<PrivateJwk> {
    let text = files::read(file)?;
    if files::is_open_to_others(file) {
        output::message(&format!("warning: other users can read {file}: run `chmod 600 {file}`"));
    }
    // The content decides, because standard input has no file extension.
    if json::begins_like_object(&text) {
        let json = SecretJson::parse(&text).with_context(|| cannot_use(file))?;
        return PrivateJwk::parse(&json).with_context(|| cannot_use(file));
    }
    match parse_pem(file, &text)? {
        Key::Private(key) => Ok(PrivateJwk::from_key(key)),
        Key::Public(_) => Err(InvalidPem::Public).with_context(|| cannot_use(file)),
    }
}

/// Chooses the algorithm. A key signs only with its own (RFC 8725 §3.1).
fn choose_algorithm(wanted: Option<&str>, key: &PrivateJwk) -> anyhow::Result<Algorithm> {
    let key_type = key.key().public().key_type();
    let own = key.algorithm();
    let Some(wanted) = wanted.map(algorithm_from_name).transpose()? else {
        return Ok(own.unwrap_or(key_type.default_algorithm()));
    };
    // Reported before the key's own "alg", because no key of this type could do it.
    if wanted.key_type() != key_type {
        let names = key_type.algorithm_names();
        return Err(usage_error(format!("--alg {wanted} does not fit an {key_type} key: use {names}")));
    }
    match own.filter(|own| !own.is_same_as(wanted)) {
        Some(own) => Err(usage_error(format!("--alg {wanted}: the key is only for {own}"))),
        None => Ok(wanted),
    }
}

/// A unique `jti` (RFC 7519 §4.1.7): a random UUID.
fn new_id() -> anyhow::Result<String> {
    let mut id = [0; 16];
    SysRng
        .try_fill_bytes(&mut id)
        .map_err(|error| anyhow!("the random generator of the system failed: {error}"))?;
    Ok(uuid::Builder::from_random_bytes(id).into_uuid().to_string())
}
