//! Sends a public key to a server's admin surface, `POST /upload`.

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Args};
use serde_json::{Value, json};
use url::Url;

use super::exit::UsageError as Refused;
use super::fetch::{self, Client};
use super::output::message as say;
use crate::config;
use crate::domain::jose::jwk::PublicJwk;
use crate::setting::Secret;

/// How much of a refusal is shown.
const SHOWN: usize = 200;

#[derive(Args, Debug)]
pub(super) struct ServerArgs {
    /// The server to upload to; http to this machine alone
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(super) server: String,
}

/// Everything that an upload needs, looked at before there is a key.
pub(super) struct Upload {
    url: Url,
    token: Secret,
}

impl Upload {
    pub(super) fn prepare(args: &ServerArgs, matches: &ArgMatches) -> anyhow::Result<Self> {
        let server = fetch::parse(&args.server).map_err(|error| Refused(format!("--server: {error}")))?;
        if fetch::is_exposed(&server) {
            return Err(Refused(format!(
                "ADMIN_TOKEN is not sent to {server} over plain http, where it could be read on the way: https \
                 would do"
            ))
            .into());
        }
        let url = fetch::parse(&format!("{}/upload", args.server.trim_end_matches('/')))?;
        let Some(token) = config::admin_token(matches)? else {
            return Err(Refused("ADMIN_TOKEN is not set; see .env.example".to_owned()).into());
        };
        Ok(Self { url, token })
    }

    /// Sends a key, and says what became of it.
    pub(super) fn send(&self, key: &PublicJwk) -> anyhow::Result<()> {
        let body = serde_json::to_string(&json!({ "keys": [key] }))?;
        let (status, answer) = Client::new().post(&self.url, &self.token, &body)?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let said = |member: &str| answer.get(member).and_then(Value::as_str).map(shown);
        if status != 201 {
            let why = said("error").map(|text| format!(": {text}")).unwrap_or_default();
            bail!("{} answers {status}{why}", self.url);
        }
        let count =
            answer.get("keys_count").and_then(Value::as_u64).context("the answer has no keys_count")?;
        let message = said("message").unwrap_or_else(|| "uploaded".to_owned());
        say(&format!("{}: {message}; it has {count} keys", self.url));
        Ok(())
    }
}

/// A stranger's words, not too many of them.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
