//! `jwksd keys`: see and manage the signing keys.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;
use zeroize::Zeroizing;

use super::opening;
use super::{confirm, list, or_dash, print, say};
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::domain::key::lifecycle::Phase;
use crate::domain::key::status::KeyStatus;
use crate::domain::key::{Kid, PrivateKey};
use crate::issuer::{Keyring, PublishedKey};

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

/// After how long running servers have followed a change.
const FOLLOWED: Duration = Duration::from_secs(2);

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
    /// Take back a key of others that was uploaded
    Withdraw {
        /// As `keys list` shows it
        kid: String,
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
        KeysCommand::Export { kid, yes } => {
            confirm(&format!("Whoever has the private key {kid} can make tokens in our name"), *yes)?;
            None
        }
        _ => None,
    };
    let opened = opening::open(&config, opening::look(&config).await?).await?;
    let done = async {
        let keyring = opened.keyring(&config).await?;
        let verifiers = Verifiers { clock: opened.context.clock.as_ref(), max_age: config.keys.jwks_max_age };
        match command {
            KeysCommand::List { json } => show_all(&keyring, json)?,
            KeysCommand::Rotate { now } => rotate(&keyring, now, &verifiers).await?,
            KeysCommand::Revoke { kid } => revoke(&keyring, Kid(kid), &verifiers).await?,
            KeysCommand::Withdraw { kid } => {
                keyring.withdraw(&kid).await?;
                say(&format!("the uploaded key {kid} is withdrawn; running servers follow in two seconds"));
            }
            KeysCommand::Expire { kid } => expire(&keyring, Kid(kid), &verifiers).await?,
            KeysCommand::Export { kid, .. } => print(keyring.export(Kid(kid)).await?.trim_end())?,
            KeysCommand::Import { .. } => import(&keyring, imported).await?,
        }
        Ok(())
    };
    let done = done.await;
    opened.close(done).await
}

fn show_all(keyring: &Keyring, json: bool) -> anyhow::Result<()> {
    let figures = keyring.rotation_status();
    if json {
        let listing = Listing {
            keys: keyring.report().iter().map(Line::of).collect(),
            signing_for_seconds: figures.signing_for.map(|age| age.as_secs()),
            next_rotation: figures.next_rotation.map(|time| time.to_string()),
            uploaded: uploaded(keyring)
                .map(|key| Uploaded { kid: key.kid, expires: key.exp.map(|time| time.to_string()) })
                .collect(),
            unreadable: keyring
                .unreadable()
                .into_iter()
                .map(|row| Left { kid: row.kid.0, why: row.why })
                .collect(),
        };
        list([serde_json::to_string_pretty(&listing)?])?;
        return Ok(());
    }
    let header = ["KID", "PHASE", "MADE", "SIGNS FROM", "SIGNS UNTIL", "EXPIRES"].map(str::to_owned);
    let rows = keyring.report().into_iter().map(|key| Line::of(&key).cells());
    let line = |[kid, phase, made, from, until, exp]: [String; 6]| {
        format!("{kid:>5}  {phase:<8}  {made:<20}  {from:<20}  {until:<20}  {exp}")
    };
    list(std::iter::once(header).chain(rows).map(line))?;
    for key in uploaded(keyring) {
        let until = key.exp.map_or_else(|| "it is withdrawn".to_owned(), |time| time.to_string());
        say(&format!("the uploaded key {} is published too, until {until}", key.kid));
    }
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
    uploaded: Vec<Uploaded>,
    unreadable: Vec<Left>,
}

#[derive(Serialize)]
struct Uploaded {
    kid: String,
    expires: Option<String>,
}

/// Keys of others, which have neither a phase nor a time of their own.
fn uploaded(keyring: &Keyring) -> impl Iterator<Item = PublishedKey> {
    keyring.published().into_iter().filter(|key| key.phase.is_none())
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
    fn of(key: &KeyStatus) -> Self {
        Self {
            kid: key.kid.0,
            phase: key.phase.name(),
            made: key.created_at.to_string(),
            signs_from: key.signs_from.map(|time| time.to_string()),
            signs_until: key.signs_until.map(|time| time.to_string()),
            expires: key.exp.to_string(),
        }
    }

    fn cells(self) -> [String; 6] {
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

async fn rotate(keyring: &Keyring, at_once: bool, verifiers: &Verifiers<'_>) -> anyhow::Result<()> {
    keyring.rotate(at_once).await?;
    let keys = keyring.report();
    let made = keys.iter().rfind(|key| matches!(key.phase, Phase::Next | Phase::Current));
    let Some(made) = made else {
        bail!("the new key has ended already: look at `jwksd keys list`");
    };
    if let (Phase::Next, Some(from)) = (made.phase, made.signs_from) {
        say(&format!("key {} is the next key; it signs from {from}", made.kid));
    } else {
        say(&format!("key {} signs now", made.kid));
        verifiers.tell_of_unknown_kid();
    }
    Ok(())
}

async fn revoke(keyring: &Keyring, kid: Kid, verifiers: &Verifiers<'_>) -> anyhow::Result<()> {
    let signed_before = current(keyring);
    keyring.revoke(kid).await?;
    say(&format!(
        "key {kid} is revoked: it is out of the JWKS and signs no more; running servers follow in two seconds"
    ));
    verifiers.tell_of_lost_key(signed_before, current(keyring));
    Ok(())
}

async fn expire(keyring: &Keyring, kid: Kid, verifiers: &Verifiers<'_>) -> anyhow::Result<()> {
    let signed_before = current(keyring);
    keyring.expire(kid).await?;
    say(&format!(
        "key {kid} has expired: it is out of the JWKS, and signs for ?expired alone; running servers follow in two \
         seconds"
    ));
    verifiers.tell_of_lost_key(signed_before, current(keyring));
    Ok(())
}

fn current(keyring: &Keyring) -> Option<Kid> {
    keyring.report().into_iter().find(|key| key.phase == Phase::Current).map(|key| key.kid)
}

/// What to say of verifiers, to whoever changes the keys under them.
struct Verifiers<'a> {
    clock: &'a dyn Clock,
    max_age: Duration,
}

impl Verifiers<'_> {
    fn tell_of_lost_key(&self, signed_before: Option<Kid>, signs_now: Option<Kid>) {
        say("A verifier that keeps the JWKS may still trust it until, at worst:");
        self.tell_times();
        if let Some(kid) = signs_now.filter(|_| signs_now != signed_before) {
            say(&format!("key {kid} signs now, perhaps before every verifier has learnt it"));
            self.tell_of_unknown_kid();
        }
    }

    fn tell_of_unknown_kid(&self) {
        say(
            "A verifier that meets an unknown kid and does not read the JWKS anew for it refuses its tokens until, \
             at worst:",
        );
        self.tell_times();
    }

    /// From when running servers have followed; a cache on the way adds its own age.
    fn tell_times(&self) {
        let served = self.clock.now().plus(FOLLOWED);
        let line = |name: &str, age| {
            let spelled = humantime::format_duration(age);
            say(&format!("  {name:<29} {}  ({spelled})", served.plus(age)));
        };
        line("any that honours JWKS_MAX_AGE", self.max_age);
        for (verifier, age) in VERIFIERS {
            line(verifier, age);
        }
        say("  and JWKS_MAX_AGE longer behind a cache that honours it");
    }
}

async fn import(keyring: &Keyring, key: Option<PrivateKey>) -> anyhow::Result<()> {
    let Some(key) = key else {
        bail!("there is no key to import");
    };
    keyring.import(&key).await?;
    if let Some(key) = keyring.report().last() {
        let from = or_dash(key.signs_from);
        say(&format!(
            "imported it as key {}: published now, signs from {from}, expires {}",
            key.kid, key.exp
        ));
    }
    Ok(())
}

fn read_key(file: &PathBuf) -> anyhow::Result<PrivateKey> {
    let pem = std::fs::read_to_string(file).map(Zeroizing::new);
    let pem = pem.with_context(|| format!("cannot read {}", file.display()))?;
    PrivateKey::from_pem(&pem).with_context(|| format!("cannot import {}", file.display()))
}
