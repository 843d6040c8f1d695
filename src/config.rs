//! The settings: the only reader of flags, environment and `.env`, and the only place that knows their defaults.
//!
//! A flag wins over the environment, the environment over the `.env` of the working directory, that over the default.
//! Secrets have no flag. What cannot work is refused in one line that names the setting, its value and the way out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use ipnet::IpNet;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::domain::key::lifecycle::{RotationPolicy, UnfitPolicy};
use crate::domain::key::seal::MasterSecret;
use crate::domain::password::Hasher;
use crate::http::{AuthMode, ClientIpHeader, ClientIpPolicy, Registration};
use crate::store::Location;
use crate::telemetry::LogFormat;

/// The file of settings in the working directory.
pub const DOTENV: &str = ".env";

/// The name of the master key's setting.
pub const MASTER_KEY: &str = "NOT_MY_KEY";

/// The name of the setting that `rekey` takes the new master key from.
pub const NEW_MASTER_KEY: &str = "NEW_NOT_MY_KEY";

/// No duration of ours may be longer: a hundred years.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// The most that one password hash may cost: 4 GiB, and seconds to minutes on one core.
const ARGON2_MOST: [(&str, u32); 3] =
    [("ARGON2_MEMORY_KIB", 4 << 20), ("ARGON2_ITERATIONS", 100), ("ARGON2_PARALLELISM", 64)];

/// A setting that is no secret: its variable, its default, and what `--help` says of it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable; the flag is the same in lower case with dashes.
    pub name: &'static str,
    /// What holds without it.
    pub default: Option<&'static str>,
    help: &'static str,
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { name, default, help }
}

/// Every setting that is no secret.
pub const SETTINGS: &[Setting] = &[
    setting("HOST", Some("127.0.0.1"), "Where to listen: an address or a host name"),
    setting("PORT", Some("8080"), "Where to listen: a port; 0 for any free one"),
    setting(
        "DATABASE_URL",
        Some("sqlite://totally_not_my_privateKeys.db"),
        "The store: sqlite://FILE, or a path",
    ),
    setting("NOT_MY_KEY_FILE", None, "A file that holds NOT_MY_KEY"),
    setting("ISSUER", None, "The `iss` claim and the discovery issuer [default: http://HOST:PORT]"),
    setting("AUDIENCE", None, "The `aud` claim; left out when unset"),
    setting("TOKEN_TTL", Some("15m"), "The life of a token"),
    setting("KEY_LIFETIME", Some("24h"), "The life of a signing key, from made to expired"),
    setting("KEY_RETENTION", Some("7d"), "How long an expired key is kept before it is deleted"),
    setting(
        "KEY_LEAD",
        Some("2h"),
        "How long a new key is published before it first signs: at least 2 × JWKS_MAX_AGE, or 0 to sign at once",
    ),
    setting("JWKS_MAX_AGE", Some("5m"), "How long verifiers may cache the JWKS"),
    setting("AUTH_MODE", Some("password"), "password, or open: /auth verifies nobody"),
    setting(
        "OPEN_AUTH_ANYWAY",
        Some("false"),
        "Lets open mode start where it otherwise refuses: true or false",
    ),
    setting("AUTH_RATE_LIMIT", Some("10"), "/auth requests per second and client; 0 turns the limit off"),
    setting("REGISTRATION", Some("open"), "open, or closed: only `jwksd users add` makes accounts"),
    setting(
        "REGISTER_RATE_LIMIT",
        Some("10"),
        "/register requests per second and client; 0 turns the limit off",
    ),
    setting(
        "TRUSTED_PROXIES",
        None,
        "CIDRs of peers whose CLIENT_IP_HEADER is believed, with commas between",
    ),
    setting(
        "CLIENT_IP_HEADER",
        Some("x-forwarded-for"),
        "The header that names the client behind a trusted proxy: x-forwarded-for, forwarded or x-real-ip",
    ),
    setting("ARGON2_MEMORY_KIB", Some("19456"), "Argon2id memory of new password hashes"),
    setting("ARGON2_ITERATIONS", Some("2"), "Argon2id passes of new password hashes"),
    setting("ARGON2_PARALLELISM", Some("1"), "Argon2id lanes of new password hashes"),
    setting("NEW_NOT_MY_KEY_FILE", None, "A file that holds NEW_NOT_MY_KEY"),
    setting("ADMIN_TOKEN_FILE", None, "A file that holds ADMIN_TOKEN"),
    setting("LOG_FORMAT", Some("text"), "Logs: text or json"),
    setting("RUST_LOG", Some("info"), "Logs: what is let through, as tracing's filters say it"),
];

/// Every secret: its variable, and what `--help` says of it. Each can lie in the file that `…_FILE` names instead.
pub const SECRETS: [(&str, &str); 3] = [
    (
        MASTER_KEY,
        "The master key, under which private keys are sealed: 32 bytes as base64 or hex, or a text of 16 characters or more",
    ),
    (NEW_MASTER_KEY, "The master key that `jwksd rekey` moves the store to"),
    ("ADMIN_TOKEN", "The bearer token of the admin surface; that is closed when unset"),
];

impl Setting {
    /// The flag and variable for clap. Their texts are read later, so that `.env` can come between.
    fn arg(&self) -> Arg {
        let mut arg = Arg::new(self.name)
            .long(self.name.to_ascii_lowercase().replace('_', "-"))
            .env(self.name)
            .hide_env_values(true)
            // What is not UTF-8 is refused with all else, in one line.
            .value_parser(OsStringValueParser::new())
            .global(true)
            .hide_short_help(true)
            .value_name("VALUE")
            .help_heading("Settings (each also in the environment or in .env)")
            .help(self.help);
        if let Some(default) = self.default {
            arg = arg.default_value(default);
        }
        arg
    }
}

/// The arguments of all settings, for clap.
pub fn args() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(Setting::arg)
}

/// What `--help` says of the secrets, which have no flag.
#[must_use]
pub fn secrets_help() -> String {
    let mut help =
        String::from("Secrets (in the environment, in .env, or in the file that NAME_FILE names):\n");
    for (name, text) in SECRETS {
        help.extend(["  ", name, "\n          ", text, "\n"]);
    }
    help
}

/// All settings, typed.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub host: String,
    /// Where to listen; 0 for any free port.
    pub port: u16,
    /// Where the store is.
    pub location: Location,
    /// The master key, if one is set.
    pub master_secret: Option<MasterSecret>,
    /// The master key that `rekey` moves the store to, if one is set.
    pub new_master_secret: Option<MasterSecret>,
    /// `iss`; derived from the address when unset.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// How keys and tokens live.
    pub policy: RotationPolicy,
    /// How long verifiers may cache.
    pub jwks_max_age: Duration,
    /// Whether /auth asks for credentials.
    pub auth_mode: AuthMode,
    /// Whether open mode starts where it otherwise refuses.
    pub open_auth_anyway: bool,
    /// /auth requests per second and client.
    pub auth_rate_limit: u32,
    /// Whether /register makes accounts.
    pub registration: Registration,
    /// /register requests per second and client.
    pub register_rate_limit: u32,
    /// Which address of a request counts.
    pub client_ip: ClientIpPolicy,
    /// What new password hashes cost.
    pub hasher: Hasher,
    /// The bearer token of the admin surface.
    pub admin_token: Option<Secret>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: String,
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that cannot work.
    pub fn load(matches: &ArgMatches) -> Result<Self, ConfigError> {
        Self::resolve(&Sources { matches, dotenv: dotenv()?, environment: environment_secret })
    }

    fn resolve(from: &Sources<'_>) -> Result<Self, ConfigError> {
        let jwks_max_age = from.parse("JWKS_MAX_AGE", duration)?;
        Ok(Self {
            host: from.text("HOST")?,
            port: from.parse("PORT", number)?,
            location: from.parse("DATABASE_URL", |text| Location::parse(text).map_err(in_words))?,
            master_secret: from.master_secret(MASTER_KEY)?,
            new_master_secret: from.master_secret(NEW_MASTER_KEY)?,
            issuer: from.optional("ISSUER", issuer_url)?,
            audience: from.optional("AUDIENCE", |text| Ok(text.to_owned()))?,
            policy: policy(from, jwks_max_age)?,
            jwks_max_age,
            auth_mode: from.parse("AUTH_MODE", |text| {
                one_of(text, &[("password", AuthMode::Password), ("open", AuthMode::Open)])
            })?,
            open_auth_anyway: from
                .parse("OPEN_AUTH_ANYWAY", |text| one_of(text, &[("true", true), ("false", false)]))?,
            auth_rate_limit: from.parse("AUTH_RATE_LIMIT", number)?,
            registration: from.parse("REGISTRATION", |text| {
                one_of(text, &[("open", Registration::Open), ("closed", Registration::Closed)])
            })?,
            register_rate_limit: from.parse("REGISTER_RATE_LIMIT", number)?,
            client_ip: ClientIpPolicy {
                trusted: from.optional("TRUSTED_PROXIES", networks)?.unwrap_or_default(),
                header: from
                    .parse("CLIENT_IP_HEADER", |text| ClientIpHeader::from_str(text).map_err(in_words))?,
            },
            hasher: hasher(from)?,
            admin_token: from.secret("ADMIN_TOKEN")?,
            log_format: from.parse("LOG_FORMAT", |text| LogFormat::from_str(text).map_err(in_words))?,
            log_filter: from.parse("RUST_LOG", |text| match EnvFilter::try_new(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(_) => {
                    Err("a level such as info or debug, or tracing's filter syntax, would do".to_owned())
                }
            })?,
        })
    }
}

/// The master key that `.env` holds by now; another process may have written it since the settings were read.
///
/// # Errors
/// When there is one that cannot work.
pub fn master_secret_of_dotenv() -> Result<Option<MasterSecret>, ConfigError> {
    dotenv()?
        .get(MASTER_KEY)
        .filter(|text| !text.is_empty())
        .map(|text| parse_master_secret(MASTER_KEY, text))
        .transpose()
}

/// A secret setting. It has no `Display`, and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A setting that cannot work.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The `.env` file cannot be read.
    #[error(".env: {0}")]
    Dotenv(String),
    /// A secret cannot work; its value is not shown.
    #[error("{name}: {wanted}")]
    Secret {
        /// Which secret.
        name: &'static str,
        /// The way out.
        wanted: String,
    },
    /// Any other setting cannot work.
    #[error("{name} is {value:?}: {wanted}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// The way out.
        wanted: String,
    },
}

impl ConfigError {
    /// The error of a setting, its value and what would do.
    pub(crate) fn setting(name: &'static str, value: impl fmt::Display, wanted: impl fmt::Display) -> Self {
        Self::Setting { name, value: value.to_string(), wanted: wanted.to_string() }
    }
}

/// Where texts of settings come from.
struct Sources<'a> {
    matches: &'a ArgMatches,
    dotenv: HashMap<String, Zeroizing<String>>,
    environment: fn(&'static str) -> Result<Option<String>, ConfigError>,
}

impl Sources<'_> {
    /// The text of a setting. An empty one is as good as none: the default holds.
    fn given(&self, name: &'static str) -> Option<String> {
        let typed = self.matches.get_one::<OsString>(name).map(|text| text.to_string_lossy());
        let text = match self.matches.value_source(name) {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => typed,
            _ => self.dotenv.get(name).map(|text| text.as_str().into()).or(typed),
        };
        let default = || SETTINGS.iter().find(|setting| setting.name == name)?.default;
        text.filter(|text| !text.is_empty()).or_else(|| default().map(Into::into)).map(Into::into)
    }

    fn text(&self, name: &'static str) -> Result<String, ConfigError> {
        self.parse(name, |text| Ok(text.to_owned()))
    }

    fn parse<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let value = self.given(name).unwrap_or_default();
        if value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(ConfigError::Setting { name, value, wanted: "a value in UTF-8 would do".to_owned() });
        }
        parse(&value).map_err(|wanted| ConfigError::Setting { name, value, wanted })
    }

    fn optional<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        if self.given(name).is_some() { self.parse(name, parse).map(Some) } else { Ok(None) }
    }

    fn master_secret(&self, name: &'static str) -> Result<Option<MasterSecret>, ConfigError> {
        self.secret(name)?.map(|secret| parse_master_secret(name, &secret.0)).transpose()
    }

    /// The value of a secret, from the environment, from `.env`, or from the file that `…_FILE` names.
    fn secret(&self, name: &'static str) -> Result<Option<Secret>, ConfigError> {
        let file_setting = SETTINGS
            .iter()
            .map(|setting| setting.name)
            .find(|setting| setting.strip_suffix("_FILE").is_some_and(|secret| secret == name));
        let direct = match (self.environment)(name)? {
            Some(text) => Some(Zeroizing::new(text)),
            None => self.dotenv.get(name).cloned(),
        };
        let direct = direct.filter(|text| !text.is_empty());
        let file = file_setting.and_then(|setting| self.given(setting));
        let wrong = |wanted| ConfigError::Secret { name, wanted };
        match (direct, file) {
            (Some(_), Some(file)) => {
                Err(wrong(format!("it is set, and {name}_FILE names {file:?} as well; keep one of them")))
            }
            (Some(text), None) => Ok(Some(Secret(text))),
            (None, Some(file)) => match std::fs::read_to_string(&file).map(Zeroizing::new) {
                Ok(text) if text.trim().is_empty() => Err(wrong(format!("the file {file:?} is empty"))),
                Ok(text) => Ok(Some(Secret(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))),
                Err(error) => Err(wrong(format!("the file {file:?} cannot be read: {error}"))),
            },
            (None, None) => Ok(None),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the reader of the environment")]
fn environment_secret(name: &'static str) -> Result<Option<String>, ConfigError> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(ConfigError::Secret { name, wanted: "it is not UTF-8".to_owned() })
        }
    }
}

/// The `.env` of the working directory, not of its parents.
fn dotenv() -> Result<HashMap<String, Zeroizing<String>>, ConfigError> {
    let text = match std::fs::read_to_string(DOTENV).map(Zeroizing::new) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(ConfigError::Dotenv(error.to_string())),
    };
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    refuse_substitution_in_secrets(text)?;
    dotenvy::from_read_iter(text.as_bytes())
        .map(|line| match line {
            Ok((name, value)) => Ok((name, Zeroizing::new(value))),
            // The library's message quotes the line, which may be the master key.
            Err(_) => Err(ConfigError::Dotenv(
                "a line cannot be read: NAME=value would do, with 'quotes' around a value that has spaces"
                    .to_owned(),
            )),
        })
        .collect()
}

/// `$NAME` in a value is replaced, as in a shell: a master key with a `$` would be another one than it looks.
fn refuse_substitution_in_secrets(text: &str) -> Result<(), ConfigError> {
    for line in text.lines().map(|line| line.trim_start().trim_start_matches("export ").trim_start()) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let secret = SECRETS.iter().find(|(secret, _)| *secret == name.trim_end());
        if let Some((name, _)) = secret
            && value.contains('$')
            && !value.trim_start().starts_with('\'')
        {
            let wanted = format!("in {DOTENV}, a value with a $ must stand in 'single quotes'");
            return Err(ConfigError::Secret { name, wanted });
        }
    }
    Ok(())
}

/// Reads a master key that came in under this name.
///
/// # Errors
/// When it cannot be one.
pub fn parse_master_secret(name: &'static str, text: &str) -> Result<MasterSecret, ConfigError> {
    MasterSecret::parse(text)
        .map_err(|error| ConfigError::Secret { name, wanted: format!("it cannot be a master key: {error}") })
}

fn policy(from: &Sources<'_>, max_age: Duration) -> Result<RotationPolicy, ConfigError> {
    let [lifetime, retention, lead, ttl] =
        ["KEY_LIFETIME", "KEY_RETENTION", "KEY_LEAD", "TOKEN_TTL"].map(|name| from.parse(name, duration));
    RotationPolicy::new(lifetime?, retention?, lead?, ttl?, max_age).map_err(|error| {
        let (name, wanted) = match error {
            UnfitPolicy::LeadTooShort { least } => {
                ("KEY_LEAD", format!("2 × JWKS_MAX_AGE = {} or more, or 0, would do", spelled(least)))
            }
            UnfitPolicy::LifetimeTooShort { least } => {
                ("KEY_LIFETIME", format!("2 × KEY_LEAD + TOKEN_TTL, {} or more, would do", spelled(least)))
            }
            UnfitPolicy::NoTokenTtl => ("TOKEN_TTL", "1s or more would do".to_owned()),
        };
        ConfigError::Setting { name, value: from.given(name).unwrap_or_default(), wanted }
    })
}

fn hasher(from: &Sources<'_>) -> Result<Hasher, ConfigError> {
    let [memory, iterations, parallelism] =
        ARGON2_MOST.map(|(name, most)| from.parse(name, |text| number_up_to(text, most)));
    let (memory, iterations, parallelism) = (memory?, iterations?, parallelism?);
    Hasher::new(memory, iterations, parallelism).map_err(|_| {
        let value =
            format!("{memory} with ARGON2_ITERATIONS {iterations} and ARGON2_PARALLELISM {parallelism}");
        let wanted = "1 pass or more, 1 lane or more, and 8 KiB or more a lane would do";
        ConfigError::setting("ARGON2_MEMORY_KIB", value, wanted)
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    match duration {
        Ok(duration) if duration.subsec_nanos() == 0 && duration <= LONGEST => Ok(duration),
        _ => Err("a time in whole seconds such as 90s, 15m, 24h or 7d would do".to_owned()),
    }
}

fn spelled(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn number<T: FromStr + fmt::Display + Bounded>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("a number from 0 to {} would do", T::MAX))
}

fn number_up_to(text: &str, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| format!("a number from 1 to {most} would do"))
}

trait Bounded {
    const MAX: Self;
}

impl Bounded for u16 {
    const MAX: Self = Self::MAX;
}

impl Bounded for u32 {
    const MAX: Self = Self::MAX;
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{} would do", names.join(" or "))
    })
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |part: &str| part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            network(part).map_err(|_| format!("{part:?} is no CIDR; 10.0.0.0/8 or 2001:db8::/32 would do"))
        })
        .collect()
}

/// RFC 8414, 2: a URL without query or fragment. `http` is for development and for behind a proxy.
fn issuer_url(text: &str) -> Result<String, String> {
    let wanted = || "a URL such as https://login.example.com, without query or fragment, would do".to_owned();
    let uri: axum::http::Uri = text.parse().map_err(|_| wanted())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.host().is_none_or(str::is_empty) || text.contains(['?', '#']) {
        return Err(wanted());
    }
    Ok(text.to_owned())
}

fn in_words(error: impl fmt::Display) -> String {
    error.to_string()
}
