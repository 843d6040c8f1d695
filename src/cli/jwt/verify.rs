//! `jwksd jwt verify`: verifies a token and says why it is invalid.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use url::Url;

use super::super::exit::Status;
use super::super::exit::UsageError;
use super::super::fetch::{self, Client};
use super::super::files;
use super::super::output;
use super::super::text::{printable, printable_lines, without_secrets};
use super::show;
use super::token_args::TokenArgs;
use jwksd_core::clock::{Clock as _, SystemClock, Timestamp};
use jwksd_jose::jwk_set::{self, TrustedKeys};
use jwksd_jose::jws::Jws;
use jwksd_jose::validation::{self, Validation};
use jwksd_jose::verify_error::VerifyError;
use jwksd_jose::{inspect, json};

/// Exit status for an invalid token.
const INVALID: u8 = 1;

/// Exit status if the validity could not be determined.
const UNKNOWN: u8 = 2;

/// The `reason` if the validity could not be determined.
const COULD_NOT_TELL: &str = "could_not_tell";

#[derive(Args, Debug)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    token: TokenArgs,
    /// URL of the issuer's JWK Set
    #[arg(long, value_name = "URL", conflicts_with = "jwks_file")]
    jwks_url: Option<String>,
    /// File with the issuer's JWK Set, or with the one trusted JWK
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<String>,
    /// Required issuer; its keys are found through discovery, unless they are given
    #[arg(long)]
    issuer: Option<String>,
    /// Required audience
    #[arg(long)]
    audience: Option<String>,
    /// Required type of the token, such as JWT or at+jwt
    #[arg(long)]
    typ: Option<String>,
    /// Accept a token that has expired or never expires
    #[arg(long)]
    ignore_exp: bool,
    /// Allowed difference between the clocks
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = jwksd_core::setting::values::duration)]
    leeway: Duration,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    fn without_secrets(&self, message: String) -> String {
        let given = [&self.jwks_url, &self.jwks_file, &self.issuer, &self.audience, &self.typ];
        without_secrets(
            message,
            given.into_iter().flatten().map(String::as_str).chain([self.token.argument()]),
        )
    }
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let is_valid = read(args).and_then(|(token, keys)| Report::new(&token, &keys, args).print(args.json));
    let why = match is_valid {
        Ok(true) => return Ok(()),
        // Not the status of errors: scripts must not take an unreachable issuer for a forged token.
        Ok(false) => return Err(Status(INVALID).into()),
        Err(error) => args.without_secrets(format!("{error:#}")),
    };
    if args.json {
        let report = json!({
            "valid": false, "reason": COULD_NOT_TELL, "message": why,
            "header": null, "claims": null, "notes": [],
        });
        // If standard output is closed, the exit status still says it.
        let _ = output::lines([printable_lines(&report.to_string())]);
    }
    output::message(&format!("jwksd: could not verify the token: {}", printable(&why)));
    Err(Status(UNKNOWN).into())
}

fn read(args: &VerifyArgs) -> anyhow::Result<(String, TrustedKeys)> {
    if args.jwks_file.as_deref() == Some("-") && args.token.is_stdin() {
        bail!("the token and --jwks-file cannot both be standard input");
    }
    let token = args.token.read()?;
    Ok((token, trusted_keys(args)?))
}

/// The keys to trust. The caller chooses them, never the token (RFC 8725 §3.8 and §3.10).
fn trusted_keys(args: &VerifyArgs) -> anyhow::Result<TrustedKeys> {
    let (from, json) = match (&args.jwks_file, &args.jwks_url, &args.issuer) {
        // Given keys replace discovery; `--issuer` is then only compared with `iss`.
        (Some(file), _, _) => {
            let json = json::document(&files::read(file)?);
            (
                files::shown(file).to_owned(),
                json.with_context(|| format!("cannot use {}", files::shown(file)))?,
            )
        }
        (None, Some(url), _) => fetch_keys(&fetch::parse(url)?)?,
        (None, None, Some(issuer)) => fetch_keys(&discover(issuer)?)?,
        (None, None, None) => {
            return Err(UsageError(
                "no keys to verify with: use --issuer URL, --jwks-url URL or --jwks-file FILE".to_owned(),
            )
            .into());
        }
    };
    TrustedKeys::parse(&json).with_context(|| format!("cannot use {from}"))
}

/// The name of the source in messages, and what it answered.
fn fetch_keys(url: &Url) -> anyhow::Result<(String, Value)> {
    Ok((fetch::shown(url), get(url)?))
}

/// Fetches JSON. Warns about plain http, because the keys are only as trustworthy as the way to them.
fn get(url: &Url) -> anyhow::Result<Value> {
    if fetch::is_exposed(url) {
        output::message(&format!(
            "warning: {} is plain http: attackers on the network can replace the keys",
            fetch::shown(url)
        ));
    }
    Client::new().get(url)
}

/// Finds an issuer's keys (OpenID Connect Discovery 1.0 §4) and checks that the document names that issuer (§4.3).
fn discover(issuer: &str) -> anyhow::Result<Url> {
    let url = fetch::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
    let (found, name) = (get(&url)?, fetch::shown(&url));
    let text = |name: &str| found.get(name).and_then(Value::as_str);
    // Otherwise another issuer's keys could sign for this one.
    if text("issuer") != Some(issuer) {
        let found = fetch::shown_text(text("issuer").unwrap_or_default());
        bail!("{name} names the issuer {found}, not {}", fetch::shown_text(issuer));
    }
    let Some(keys) = text("jwks_uri") else {
        bail!("{name} has no \"jwks_uri\"");
    };
    let keys_url = fetch::parse(keys).with_context(|| format!("the \"jwks_uri\" of {name}"))?;
    // Plain http is allowed only for the origin that the user has already chosen.
    if keys_url.scheme() != "https" && keys_url.origin() != url.origin() {
        bail!("{name} has the \"jwks_uri\" {}: it must be https or the same origin", fetch::shown(&keys_url));
    }
    Ok(keys_url)
}

/// The result of a verification. `claims` is set only if the signature is valid.
struct Report {
    now: Timestamp,
    outcome: Result<Vec<String>, VerifyError>,
    jws: Option<Jws>,
    claims: Option<Map<String, Value>>,
}

impl Report {
    fn new(token: &str, keys: &TrustedKeys, args: &VerifyArgs) -> Self {
        let now = SystemClock::start().now();
        // The reason may name what was required, or repeat a part of the token.
        let hide = |invalid: VerifyError| VerifyError {
            message: args.without_secrets(invalid.message),
            reason: invalid.reason,
        };
        let rejected = |jws, invalid| Self { now, outcome: Err(hide(invalid)), jws, claims: None };
        let jws = match Jws::parse(token) {
            Ok(jws) => jws,
            Err(invalid) => return rejected(None, invalid),
        };
        let claims = match jws.verify(keys) {
            Ok(claims) => claims,
            Err(invalid) => return rejected(Some(jws), invalid),
        };
        let expected = Validation {
            issuer: args.issuer.clone(),
            audience: args.audience.clone(),
            ignore_exp: args.ignore_exp,
            leeway: args.leeway,
        };
        let typ = args.typ.as_deref().map_or(Ok(()), |typ| jws.expect_typ(typ));
        let outcome = typ.and_then(|()| validation::validate(&claims, &expected, now)).map(|mut notes| {
            // A type that is required is not unusual.
            notes.extend(inspect::unusual_typ(jws.header()).filter(|_| args.typ.is_none()));
            notes.extend(
                jws.header()
                    .get("kid")
                    .is_none()
                    .then(|| "the token names no key (no \"kid\"): the given key was used".to_owned()),
            );
            notes.extend(jwk_set::notes(&keys.skipped()));
            notes
        });
        Self { now, outcome: outcome.map_err(hide), jws: Some(jws), claims: Some(claims) }
    }

    /// Prints the report. Returns whether the token is valid.
    fn print(&self, json: bool) -> anyhow::Result<bool> {
        if json {
            output::lines([printable_lines(&serde_json::to_string_pretty(&self.json())?)])?;
        } else {
            output::lines(self.lines())?;
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
        // Shown although they are not verified, because they help to find the error.
        } else if let Ok(claims) = jws.unverified_claims() {
            lines.extend(show::members("claims (not verified)", &claims, self.now));
        }
        lines
    }
}
