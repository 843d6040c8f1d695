//! `jwksd keys`: see and manage the signing keys.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;
use zeroize::Zeroizing;

use super::opening::{self, Refused};
use super::{print, say};
use crate::config::Config;
use crate::domain::clock::Timestamp;
use crate::domain::key::lifecycle::Phase;
use crate::domain::key::report::KeyReport;
use crate::domain::key::{Kid, PrivateKey};
use crate::issuer::Keyring;

/// After how long common verifiers read the JWKS anew, when left to their defaults.
const VERIFIERS: [(&str, Duration); 7] = [
    ("PyJWT", Duration::from_mins(5)),
    ("Spring Security", Duration::from_mins(5)),
    ("jose (Node.js)", Duration::from_mins(10)),
    ("Envoy", Duration::from_mins(10)),
    ("Istio", Duration::from_mins(20)),
    ("keyfunc (Go)", Duration::from_hours(1)),
    (".NET", Duration::from_hours(12)),
];

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Show every key with its phase and its times
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the next key now
    Rotate {
        /// Sign with it at once, before verifiers have learnt it
        #[arg(long)]
        now: bool,
    },
    /// Take a key out of the JWKS and out of signing, at once and for good
    Revoke {
        /// As `keys list` shows it
        kid: i64,
    },
    /// End the life of a key now; it stays for ?expired
    Expire {
        /// As `keys list` shows it
        kid: i64,
    },
    /// Print a private key as PEM
    Export {
        /// As `keys list` shows it
        kid: i64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Take in an RSA private key of 2048 bits or more, in PKCS#1 or PKCS#8 PEM, as a next key
    Import {
        /// The PEM file
        file: PathBuf,
    },
}

pub(super) async fn run(config: Config, command: KeysCommand) -> anyhow::Result<()> {
    // What can be refused without the store is refused before one is made.
    let imported = match &command {
        KeysCommand::Import { file } => Some(read_key(file)?),
        KeysCommand::Export { kid, yes: false } => {
            confirm_export(*kid)?;
            None
        }
        _ => None,
    };
    let opened = opening::open(&config, opening::look(&config).await?).await?;
    let done = async {
        let keyring = opened.keyring(&config).await?;
        let at = opened.premises.clock.now();
        match command {
            KeysCommand::List { json } => list(&keyring, json)?,
            KeysCommand::Rotate { now } => rotate(&keyring, now, at, config.jwks_max_age).await?,
            KeysCommand::Revoke { kid } => revoke(&keyring, Kid(kid), at, config.jwks_max_age).await?,
            KeysCommand::Expire { kid } => {
                keyring.expire(Kid(kid)).await?;
                say(&format!(
                    "key {kid} has expired: tokens that it signed verify no more, once caches are read anew"
                ));
            }
            KeysCommand::Export { kid, .. } => print(keyring.export(Kid(kid)).await?.trim_end())?,
            KeysCommand::Import { .. } => import(&keyring, imported).await?,
        }
        Ok(())
    };
    let done = done.await;
    opened.close(done).await
}

fn list(keyring: &Keyring, json: bool) -> anyhow::Result<()> {
    let figures = keyring.figures();
    if json {
        let listing = Listing {
            keys: keyring.report().iter().map(Line::of).collect(),
            signing_for_seconds: figures.signing_for.map(|age| age.as_secs()),
            next_rotation: figures.next_rotation.map(rfc3339),
            unreadable: keyring
                .unreadable()
                .into_iter()
                .map(|row| Left { kid: row.kid.0, why: row.why })
                .collect(),
        };
        return Ok(super::list([serde_json::to_string_pretty(&listing)?])?);
    }
    let header = ["KID", "PHASE", "MADE", "SIGNS FROM", "SIGNS UNTIL", "EXPIRES"].map(str::to_owned);
    let rows = keyring.report().into_iter().map(|key| Line::of(&key).cells());
    let line = |[kid, phase, made, from, until, exp]: [String; 6]| {
        format!("{kid:>5}  {phase:<8}  {made:<20}  {from:<20}  {until:<20}  {exp}")
    };
    super::list(std::iter::once(header).chain(rows).map(line))?;
    for row in keyring.unreadable() {
        say(&format!("key {} is left out: {}", row.kid, row.why));
    }
    Ok(())
}

#[derive(Serialize)]
struct Listing {
    keys: Vec<Line>,
    signing_for_seconds: Option<u64>,
    next_rotation: Option<String>,
    unreadable: Vec<Left>,
}

#[derive(Serialize)]
struct Left {
    kid: i64,
    why: String,
}

#[derive(Serialize)]
struct Line {
    kid: i64,
    phase: &'static str,
    made: String,
    signs_from: Option<String>,
    signs_until: Option<String>,
    expires: String,
}

impl Line {
    fn of(key: &KeyReport) -> Self {
        Self {
            kid: key.kid.0,
            phase: name(key.phase),
            made: rfc3339(key.made_at),
            signs_from: key.signs_from.map(rfc3339),
            signs_until: key.signs_until.map(rfc3339),
            expires: rfc3339(key.exp),
        }
    }

    fn cells(self) -> [String; 6] {
        let or_dash = |time: Option<String>| time.unwrap_or_else(|| "-".to_owned());
        [
            self.kid.to_string(),
            self.phase.to_owned(),
            self.made,
            or_dash(self.signs_from),
            or_dash(self.signs_until),
            self.expires,
        ]
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Next => "next",
        Phase::Current => "current",
        Phase::Retiring => "retiring",
        Phase::Expired => "expired",
        Phase::Revoked => "revoked",
    }
}

fn rfc3339(time: Timestamp) -> String {
    let since_epoch = Duration::from_secs(u64::try_from(time.as_secs()).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}

async fn rotate(keyring: &Keyring, at_once: bool, at: Timestamp, max_age: Duration) -> anyhow::Result<()> {
    keyring.rotate(at_once).await?;
    let keys = keyring.report();
    let made = keys.iter().rfind(|key| matches!(key.phase, Phase::Next | Phase::Current));
    let Some(made) = made else {
        bail!("the new key has ended already: look at `jwksd keys list`");
    };
    if made.phase == Phase::Next {
        let from =
            made.signs_from.map_or_else(String::new, |from| format!("; it signs from {}", rfc3339(from)));
        say(&format!("key {} is the next key{from}", made.kid));
        return Ok(());
    }
    say(&format!("key {} signs now", made.kid));
    say(
        "A verifier that meets an unknown kid and does not read the JWKS anew for it refuses its tokens until, at worst:",
    );
    tell_verifiers(at, max_age);
    Ok(())
}

async fn revoke(keyring: &Keyring, kid: Kid, at: Timestamp, max_age: Duration) -> anyhow::Result<()> {
    keyring.revoke(kid).await?;
    say(&format!(
        "key {kid} is revoked: it is out of the JWKS and signs no more; running servers follow in two seconds"
    ));
    let current = keyring.report().into_iter().find(|key| key.phase == Phase::Current);
    if let Some(current) = current {
        say(&format!("key {} signs now", current.kid));
    }
    say("A verifier that keeps the JWKS may still trust it until, at worst:");
    tell_verifiers(at, max_age);
    Ok(())
}

fn tell_verifiers(now: Timestamp, max_age: Duration) {
    let until = |age| rfc3339(now.plus(age));
    let spelled = |age: Duration| humantime::format_duration(age).to_string();
    say(&format!("  {:<29} {}  ({})", "any that honours JWKS_MAX_AGE", until(max_age), spelled(max_age)));
    for (verifier, age) in VERIFIERS {
        say(&format!("  {verifier:<29} {}  ({})", until(age), spelled(age)));
    }
}

async fn import(keyring: &Keyring, key: Option<PrivateKey>) -> anyhow::Result<()> {
    let Some(key) = key else {
        bail!("there is no key to import");
    };
    keyring.import(&key).await?;
    if let Some(key) = keyring.report().last() {
        let from = key.signs_from.map_or_else(|| "-".to_owned(), rfc3339);
        say(&format!(
            "imported it as key {}: published now, signs from {from}, expires {}",
            key.kid,
            rfc3339(key.exp)
        ));
    }
    Ok(())
}

fn read_key(file: &PathBuf) -> anyhow::Result<PrivateKey> {
    let pem = std::fs::read_to_string(file).map(Zeroizing::new);
    let pem = pem.with_context(|| format!("cannot read {}", file.display()))?;
    PrivateKey::from_pem(&pem).with_context(|| format!("cannot import {}", file.display()))
}

fn confirm_export(kid: i64) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Refused(format!(
            "whoever has the private key {kid} can make tokens in our name, and there is no terminal to ask on: --yes would do"
        ))
        .into());
    }
    say(&format!("Whoever has the private key {kid} can make tokens in our name. Type yes to print it:"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        bail!("nothing was printed");
    }
    Ok(())
}
