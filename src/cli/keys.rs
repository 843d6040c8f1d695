//! `jwksd keys`: shows and manages the signing keys.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;

use super::bootstrap;
use super::confirm::confirm;
use super::files;
use super::output::{self, or_dash};
use crate::config::Config;
use jwksd_core::clock::Clock;
use jwksd_core::issuer::{Keyring, PublishedKey};
use jwksd_core::key::lifecycle::Phase;
use jwksd_core::key::status::KeyStatus;
use jwksd_core::key::{Kid, import};
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::private_key::PrivateKey;

/// Default refresh intervals of common verifiers. docs/keys.md lists the same.
const VERIFIERS: [(&str, Duration); 7] = [
    ("PyJWT", Duration::from_mins(5)),
    ("Spring Security", Duration::from_mins(5)),
    ("jose (Node.js)", Duration::from_mins(10)),
    ("Envoy", Duration::from_mins(10)),
    ("Istio", Duration::from_mins(20)),
    ("keyfunc (Go)", Duration::from_hours(1)),
    (".NET", Duration::from_hours(12)),
];

/// Maximum time until running servers apply a change.
const APPLIED_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List every key with its phase and its times
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Create the next key now
    Rotate {
        /// Sign with it immediately, before verifiers know it
        #[arg(long)]
        now: bool,
    },
    /// Stop publishing a key and signing with it, now and permanently
    Revoke {
        /// The number or the published kid of the key, as in `keys list`
        // A thumbprint may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Expire a key now; it is kept for ?expired
    Expire {
        /// The number or the published kid of the key, as in `keys list`
        // A thumbprint may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Withdraw an external key, which was uploaded
    Withdraw {
        /// The kid, as in `keys list`
        kid: String,
    },
    /// Print a private key as PEM: PKCS#1 for RSA, PKCS#8 for all others
    Export {
        /// The number or the published kid of the key, as in `keys list`
        // A thumbprint may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Import a private key as the next key: RSA of 2048 bits or more, EC P-256 or P-384, or Ed25519
    Import {
        /// The key in PEM or DER; - for standard input
        file: String,
    },
}

pub(super) async fn run(config: Config, command: KeysCommand) -> anyhow::Result<()> {
    // Invalid input is rejected first, so that it does not create a store.
    let imported = match &command {
        KeysCommand::Import { file } => Some(read_key(file)?),
        KeysCommand::Export { kid, yes } => {
            confirm(&format!("The holder of the private key {kid} can create tokens in our name"), *yes)?;
            None
        }
        _ => None,
    };
    let open_store = bootstrap::open(&config).await?;
    let done = async {
        let keyring = open_store.keyring(&config).await?;
        let verifiers =
            Verifiers { clock: open_store.context.clock.as_ref(), max_age: config.keys.jwks_max_age };
        match command {
            KeysCommand::List { json } => list(&keyring, json).await?,
            KeysCommand::Rotate { now } => rotate(&keyring, now, &verifiers).await?,
            KeysCommand::Revoke { kid } => revoke(&keyring, keyring.find(&kid).await?, &verifiers).await?,
            KeysCommand::Withdraw { kid } => {
                keyring.withdraw(&kid).await?;
                output::message(&format!(
                    "withdrew the external key {kid}; running servers apply this in two seconds"
                ));
            }
            KeysCommand::Expire { kid } => expire(&keyring, keyring.find(&kid).await?, &verifiers).await?,
            KeysCommand::Export { kid, .. } => {
                let key = keyring.export(keyring.find(&kid).await?).await?;
                output::secret(key.trim_end())
                    .context("the private key could not be printed: export it again")?;
            }
            KeysCommand::Import { .. } => import_key(&keyring, imported).await?,
        }
        Ok(())
    };
    let done = done.await;
    open_store.close(done).await
}

async fn list(keyring: &Keyring, json: bool) -> anyhow::Result<()> {
    let (keys, thumbprints) = (keyring.full_report().await?, keyring.thumbprint_kids().await?);
    let lines = keys.iter().map(|key| Line::new(key, thumbprints.get(&key.kid)));
    let status = keyring.rotation_status();
    if json {
        let listing = Listing {
            keys: lines.collect(),
            signing_for_seconds: status.signing_for.map(|age| age.as_secs()),
            next_rotation: status.next_rotation.map(|time| time.to_string()),
            uploaded: external_keys(keyring)
                .map(|key| ExternalKey { kid: key.kid, expires: key.exp.map(|time| time.to_string()) })
                .collect(),
            unreadable: keyring
                .unreadable()
                .into_iter()
                .map(|row| UnreadableKey {
                    kid: row.kid.0,
                    remedy: row.remedy.in_words(row.kid),
                    why: row.why,
                })
                .collect(),
        };
        output::lines([serde_json::to_string_pretty(&listing)?])?;
        return Ok(());
    }
    output::lines(table(lines.collect(), !thumbprints.is_empty()))?;
    // On standard error, so that standard output contains only the table.
    for key in external_keys(keyring) {
        let until = key.exp.map_or_else(|| "it is withdrawn".to_owned(), |time| time.to_string());
        output::message(&format!("the external key {} is published too, until {until}", key.kid));
    }
    for row in keyring.unreadable() {
        let remedy = row.remedy.in_words(row.kid);
        output::message(&format!("key {} is neither published nor used: {}; {remedy}", row.kid, row.why));
    }
    Ok(())
}

/// The lines of the table. Its last column is shown only if it says more than the first one.
fn table(keys: Vec<Line>, has_thumbprints: bool) -> Vec<String> {
    let header = ["KID", "PHASE", "CREATED", "SIGNS FROM", "SIGNS UNTIL", "EXPIRES", "ALG", "PUBLISHED AS"];
    let rows = std::iter::once(header.map(str::to_owned)).chain(keys.into_iter().map(Line::cells));
    rows.map(|[kid, phase, created, from, until, exp, alg, published]| {
        let row = format!("{kid:>5}  {phase:<8}  {created:<20}  {from:<20}  {until:<20}  {exp:<20}  ");
        if has_thumbprints { format!("{row}{alg:<5}  {published}") } else { row + &alg }
    })
    .collect()
}

#[derive(Serialize)]
struct Listing {
    keys: Vec<Line>,
    signing_for_seconds: Option<u64>,
    next_rotation: Option<String>,
    uploaded: Vec<ExternalKey>,
    unreadable: Vec<UnreadableKey>,
}

#[derive(Serialize)]
struct ExternalKey {
    kid: String,
    expires: Option<String>,
}

/// External keys have no phase.
fn external_keys(keyring: &Keyring) -> impl Iterator<Item = PublishedKey> {
    keyring.published().into_iter().filter(|key| key.phase.is_none())
}

#[derive(Serialize)]
struct UnreadableKey {
    kid: i64,
    why: String,
    remedy: String,
}

#[derive(Serialize)]
struct Line {
    kid: i64,
    published_kid: String,
    alg: Option<&'static str>,
    phase: &'static str,
    // The older name stays in the JSON, because scripts read it.
    #[serde(rename = "made")]
    created: String,
    signs_from: Option<String>,
    signs_until: Option<String>,
    expires: String,
}

impl Line {
    fn new(key: &KeyStatus, thumbprint: Option<&String>) -> Self {
        Self {
            kid: key.kid.0,
            published_kid: thumbprint.cloned().unwrap_or_else(|| key.kid.to_string()),
            alg: key.profile.map(|profile| profile.algorithm.name()),
            phase: key.phase.name(),
            created: key.created_at.to_string(),
            signs_from: key.signs_from.map(|time| time.to_string()),
            signs_until: key.signs_until.map(|time| time.to_string()),
            expires: key.exp.to_string(),
        }
    }

    fn cells(self) -> [String; 8] {
        [
            self.kid.to_string(),
            self.phase.to_owned(),
            self.created,
            or_dash(self.signs_from),
            or_dash(self.signs_until),
            self.expires,
            or_dash(self.alg.map(str::to_owned)),
            self.published_kid,
        ]
    }
}

async fn rotate(keyring: &Keyring, now: bool, verifiers: &Verifiers<'_>) -> anyhow::Result<()> {
    keyring.rotate(now).await?;
    let keys = keyring.report();
    // The report lists the oldest key first, so the last one in these phases is new.
    let created = keys.iter().rfind(|key| matches!(key.phase, Phase::Next | Phase::Current));
    let Some(created) = created else {
        bail!("the new key has already expired: see `jwksd keys list`");
    };
    if let (Phase::Next, Some(from)) = (created.phase, created.signs_from) {
        output::message(&format!(
            "key {}{} is the next key; it signs from {from}",
            created.kid,
            in_brackets(created)
        ));
    } else {
        output::message(&format!("key {}{} signs now", created.kid, in_brackets(created)));
        verifiers.warn_of_unknown_kid();
    }
    Ok(())
}

/// The algorithm of a key, if it is not the default.
fn in_brackets(key: &KeyStatus) -> String {
    let algorithm =
        key.profile.map(|profile| profile.algorithm).filter(|algorithm| *algorithm != Algorithm::Rs256);
    algorithm.map_or_else(String::new, |algorithm| format!(" ({algorithm})"))
}

async fn revoke(keyring: &Keyring, kid: Kid, verifiers: &Verifiers<'_>) -> anyhow::Result<()> {
    // Read first, because without the current key another one takes over.
    let signed_before = current(keyring);
    keyring.revoke(kid).await?;
    output::message(&format!(
        "key {kid} is revoked: it is neither published nor used; running servers apply this in two seconds"
    ));
    verifiers.warn_of_lost_key(signed_before, current(keyring));
    Ok(())
}

async fn expire(keyring: &Keyring, kid: Kid, verifiers: &Verifiers<'_>) -> anyhow::Result<()> {
    let signed_before = current(keyring);
    keyring.expire(kid).await?;
    output::message(&format!(
        "key {kid} has expired: it is not published, and signs only for ?expired; running servers apply this in two \
         seconds"
    ));
    verifiers.warn_of_lost_key(signed_before, current(keyring));
    Ok(())
}

fn current(keyring: &Keyring) -> Option<Kid> {
    keyring.report().into_iter().find(|key| key.phase == Phase::Current).map(|key| key.kid)
}

/// Prints how a change of the keys affects common verifiers.
struct Verifiers<'a> {
    clock: &'a dyn Clock,
    max_age: Duration,
}

impl Verifiers<'_> {
    fn warn_of_lost_key(&self, signed_before: Option<Kid>, signs_now: Option<Kid>) {
        output::message("A verifier that caches the JWKS may still trust it until, at the latest:");
        self.print_times();
        if let Some(kid) = signs_now.filter(|_| signs_now != signed_before) {
            output::message(&format!("key {kid} signs now, and some verifiers may not know it yet"));
            self.warn_of_unknown_kid();
        }
    }

    fn warn_of_unknown_kid(&self) {
        output::message(
            "A verifier that does not refresh the JWKS on an unknown kid rejects its tokens until, at the latest:",
        );
        self.print_times();
    }

    /// Counts from when running servers have applied the change.
    fn print_times(&self) {
        let applied = self.clock.now().plus(APPLIED_AFTER);
        let line = |name: &str, age| {
            let spelled = humantime::format_duration(age);
            output::message(&format!("  {name:<29} {}  ({spelled})", applied.plus(age)));
        };
        line("any that honours JWKS_MAX_AGE", self.max_age);
        for (verifier, age) in VERIFIERS {
            line(verifier, age);
        }
        output::message("  and JWKS_MAX_AGE later behind a cache that honours it");
    }
}

async fn import_key(keyring: &Keyring, key: Option<PrivateKey>) -> anyhow::Result<()> {
    let Some(key) = key else {
        bail!("there is no key to import");
    };
    keyring.import(&key).await?;
    if let Some(key) = keyring.report().last() {
        let from = or_dash(key.signs_from);
        output::message(&format!(
            "imported it as key {}: published now, signs from {from}, expires {}",
            key.kid, key.exp
        ));
    }
    Ok(())
}

fn read_key(file: &str) -> anyhow::Result<PrivateKey> {
    import::parse(&files::read(file)?).with_context(|| format!("cannot import {}", files::shown(file)))
}
