//! `jwksd jwt verify`: whether a token is valid, and if not, why precisely.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use url::Url;

use super::super::exit::Status;
use super::super::exit::UsageError as Refused;
use super::super::fetch::{self, Client};
use super::super::files;
use super::super::output::{lines as list, message as say};
use super::super::text::{printable, printable_lines};
use super::{TokenArgs, show};
use crate::domain::clock::{Clock as _, SystemClock, Timestamp};
use crate::domain::jose::jwk_set::TrustedKeys;
use crate::domain::jose::jws::Jws;
use crate::domain::jose::validation::{self, Validation};
use crate::domain::jose::verify_error::VerifyError;
use crate::domain::jose::{inspect, json};

/// Exit status of a token that is not valid.
const INVALID: u8 = 1;

/// Exit status when it could not be told whether a token is valid.
const UNKNOWN: u8 = 2;

/// What `reason` is when it could not be told.
const COULD_NOT_TELL: &str = "could_not_tell";

#[derive(Args, Debug)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    token: TokenArgs,
    /// Where the issuer publishes its keys
    #[arg(long, value_name = "URL", conflicts_with = "jwks_file")]
    jwks_url: Option<String>,
    /// The issuer's keys: a JWK Set, or the one JWK that is trusted
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<String>,
    /// Who must have issued it; its keys are found through discovery, unless they are given
    #[arg(long)]
    issuer: Option<String>,
    /// For whom it must be
    #[arg(long)]
    audience: Option<String>,
    /// Take a token that has expired, or that never does
    #[arg(long)]
    ignore_exp: bool,
    /// By how much the clocks may differ
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = super::duration)]
    leeway: Duration,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let told = read(args).and_then(|(token, keys)| Verdict::of(&token, &keys, args).tell(args.json));
    let why = match told {
        Ok(true) => return Ok(()),
        Ok(false) => return Err(Status(INVALID).into()),
        Err(error) => format!("{error:#}"),
    };
    if args.json {
        let said = json!({
            "valid": false, "reason": COULD_NOT_TELL, "message": why,
            "header": null, "claims": null, "notes": [],
        });
        // Whoever cannot be told so learns it from the exit status.
        let _ = list([printable_lines(&said.to_string())]);
    }
    say(&format!("jwksd: could not tell: {}", printable(&why)));
    Err(Status(UNKNOWN).into())
}

fn read(args: &VerifyArgs) -> anyhow::Result<(String, TrustedKeys)> {
    if args.jwks_file.as_deref() == Some("-") && args.token.is_stdin() {
        bail!("the token and --jwks-file cannot both be standard input");
    }
    let token = args.token.read()?;
    Ok((token, trusted_keys(args)?))
}

/// Whose keys are trusted is for the caller to say, and never for the token (RFC 8725, 3.8 and 3.10).
fn trusted_keys(args: &VerifyArgs) -> anyhow::Result<TrustedKeys> {
    let (from, json) = match (&args.jwks_file, &args.jwks_url, &args.issuer) {
        (Some(file), _, _) => {
            let json = json::value(&files::read(file)?);
            (
                files::shown(file).to_owned(),
                json.with_context(|| format!("cannot use {}", files::shown(file)))?,
            )
        }
        (None, Some(url), _) => (url.clone(), fetch_keys(url)?),
        (None, None, Some(issuer)) => {
            let url = discover(issuer)?;
            let json = fetch_keys(&url)?;
            (url, json)
        }
        (None, None, None) => {
            return Err(Refused(
                "nobody's keys are trusted yet: --issuer URL, --jwks-url URL or --jwks-file FILE says whose"
                    .to_owned(),
            )
            .into());
        }
    };
    TrustedKeys::parse(&json).with_context(|| format!("cannot use {from}"))
}

fn fetch_keys(url: &str) -> anyhow::Result<Value> {
    get(&fetch::parse(url)?)
}

/// What leads to keys must be as safe as the keys themselves.
fn get(url: &Url) -> anyhow::Result<Value> {
    if fetch::is_exposed(url) {
        say(&format!("warning: {url} is plain http: whoever is on the way can put in keys of their own"));
    }
    Client::new().get(url)
}

/// Finds an issuer's keys (OpenID Connect Discovery 1.0, 4), and makes sure that it is that issuer (4.3).
fn discover(issuer: &str) -> anyhow::Result<String> {
    let url = fetch::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
    let found = get(&url)?;
    let text = |name: &str| found.get(name).and_then(Value::as_str);
    if text("issuer") != Some(issuer) {
        bail!("{url} is about the issuer {:?}, and not {issuer:?}", text("issuer").unwrap_or_default());
    }
    let Some(keys) = text("jwks_uri") else {
        bail!("{url} has no \"jwks_uri\"");
    };
    let keys_url = fetch::parse(keys).with_context(|| format!("the \"jwks_uri\" of {url}"))?;
    if keys_url.scheme() != "https" && keys_url.origin() != url.origin() {
        bail!("{url} says that its keys are at {keys_url}: https or the same origin would do");
    }
    Ok(keys_url.into())
}

/// What became of a token. Its claims are there only if the signature was right.
struct Verdict {
    now: Timestamp,
    outcome: Result<Vec<String>, VerifyError>,
    jws: Option<Jws>,
    claims: Option<Map<String, Value>>,
}

impl Verdict {
    fn of(token: &str, keys: &TrustedKeys, args: &VerifyArgs) -> Self {
        let now = SystemClock::start().now();
        let refused = |jws, invalid| Self { now, outcome: Err(invalid), jws, claims: None };
        let jws = match Jws::parse(token) {
            Ok(jws) => jws,
            Err(invalid) => return refused(None, invalid),
        };
        let claims = match jws.verify(keys) {
            Ok(claims) => claims,
            Err(invalid) => return refused(Some(jws), invalid),
        };
        let expected = Validation {
            issuer: args.issuer.clone(),
            audience: args.audience.clone(),
            ignore_exp: args.ignore_exp,
            leeway: args.leeway,
        };
        let outcome = validation::validate(&claims, &expected, now).map(|mut notes| {
            notes.extend(inspect::of_typ(jws.header()));
            notes.extend(
                jws.header()
                    .get("kid")
                    .is_none()
                    .then(|| "it names no key (no \"kid\"): the one key that was given is taken".to_owned()),
            );
            notes
        });
        Self { now, outcome, jws: Some(jws), claims: Some(claims) }
    }

    /// Returns whether the token is valid.
    fn tell(&self, json: bool) -> anyhow::Result<bool> {
        if json {
            list([printable_lines(&serde_json::to_string_pretty(&self.json())?)])?;
        } else {
            list(self.lines())?;
        }
        Ok(self.outcome.is_ok())
    }

    fn json(&self) -> Value {
        let (reason, message) = match &self.outcome {
            Ok(_) => (None, "valid"),
            Err(invalid) => (Some(invalid.reason.code()), invalid.message.as_str()),
        };
        json!({
            "valid": self.outcome.is_ok(),
            "reason": reason,
            "message": message,
            "header": self.jws.as_ref().map(Jws::header),
            "claims": self.claims,
            "notes": self.outcome.as_deref().unwrap_or_default(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = match &self.outcome {
            Ok(notes) => {
                let notes = notes.iter().map(|note| format!("  {}", printable(note)));
                std::iter::once("valid".to_owned()).chain(notes).collect()
            }
            Err(invalid) => {
                vec![format!("invalid: {} ({})", printable(&invalid.message), invalid.reason.code())]
            }
        };
        let Some(jws) = &self.jws else {
            return lines;
        };
        lines.extend(show::members("header", jws.header(), self.now));
        if let Some(claims) = &self.claims {
            lines.extend(show::members("claims", claims, self.now));
        } else if let Ok(claims) = jws.unverified_claims() {
            lines.extend(show::members("claims, which nobody vouches for", &claims, self.now));
        }
        lines
    }
}
