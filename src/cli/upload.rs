//! Sends a public key to `POST /upload` of a server.

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Args};
use serde_json::Value;
use url::Url;

use super::exit::UsageError;
use super::fetch::{self, Client};
use super::output;
use crate::config;
use jwksd_core::setting::Secret;
use jwksd_jose::json;
use jwksd_jose::jwk::Jwk;

/// Maximum number of characters shown of a server's message.
const MESSAGE_MAX: usize = 200;

#[derive(Args, Debug)]
pub(super) struct ServerArgs {
    /// Server to upload to; plain http only to this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(super) server: String,
}

/// Target and credentials of an upload, checked before a key is generated.
pub(super) struct Upload {
    url: Url,
    token: Secret,
}

impl Upload {
    pub(super) fn prepare(args: &ServerArgs, matches: &ArgMatches) -> anyhow::Result<Self> {
        let server = fetch::parse(&args.server).map_err(|error| UsageError(format!("--server: {error}")))?;
        if fetch::is_exposed(&server) {
            return Err(UsageError(format!(
                "ADMIN_TOKEN is not sent to {} over plain http, where others could read it: use https",
                fetch::shown(&server)
            ))
            .into());
        }
        // Not `Url::join`, which would drop the last path segment of the server URL.
        let url = fetch::parse(&format!("{}/upload", args.server.trim_end_matches('/')))?;
        let Some(token) = config::admin_token(matches)? else {
            return Err(UsageError(
                "ADMIN_TOKEN is not set: set it in the environment or in .env".to_owned(),
            )
            .into());
        };
        Ok(Self { url, token })
    }

    /// Sends a key and reports the outcome.
    pub(super) fn send(&self, key: &Jwk) -> anyhow::Result<()> {
        let body = serde_json::to_string(&serde_json::json!({ "keys": [key] }))?;
        let (status, answer) = Client::new().post(&self.url, &self.token, &body)?;
        // A proxy may answer with HTML. Then the status says what went wrong.
        let answer = json::document(&answer).unwrap_or_default();
        let text = |member: &str| answer.get(member).and_then(Value::as_str).map(shown);
        // The client follows no redirect, so a 3xx status also means that the key was not uploaded.
        if status != 201 {
            let why = text("error").map(|error| format!(": {error}")).unwrap_or_default();
            bail!("{} answered {status}{why}", fetch::shown(&self.url));
        }
        let count =
            answer.get("keys_count").and_then(Value::as_u64).context("the response has no keys_count")?;
        let message = text("message").unwrap_or_else(|| "uploaded".to_owned());
        output::message(&format!("{}: {message}; it has {count} keys", fetch::shown(&self.url)));
        Ok(())
    }
}

/// Shortens an untrusted message.
fn shown(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).collect()
}
