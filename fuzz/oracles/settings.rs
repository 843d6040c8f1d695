//! The text of any setting, and a whole `.env`: a value that parses has a text that parses to the same value.

use axum::http::Uri;
use jwksd::config::{Config, parse_dotenv};
use jwksd_core::setting::{ConfigError, Secret, SecretDeclaration, Source};

/// Settings with these texts; all others are unset.
struct Texts<'a>(&'a [(&'static str, &'a str)]);

impl Source for Texts<'_> {
    fn text(&self, name: &'static str) -> Option<String> {
        let text = self.0.iter().find(|(setting, _)| *setting == name).map(|(_, text)| (*text).to_owned());
        text.filter(|text| !text.is_empty())
    }

    fn secret(&self, _: &SecretDeclaration) -> Result<Option<Secret>, ConfigError> {
        Ok(None)
    }
}

fn read(name: &'static str, text: &str) -> Result<Config, ConfigError> {
    Config::read(&Texts(&[(name, text)]))
}

/// Reads one text as every setting that has its own format, and as a whole `.env`.
pub fn settings(input: &[u8]) {
    let _ = parse_dotenv(input);
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    round_trip("LOG_RETENTION", text, |config| {
        config.log_retention.map(|time| humantime::format_duration(time).to_string())
    });
    round_trip("TRUSTED_PROXIES", text, |config| {
        let networks: Vec<_> = config.http.client_ip.trusted.iter().map(ToString::to_string).collect();
        Some(networks.join(","))
    });
    round_trip("PORT", text, |config| Some(config.listen.port.to_string()));
    round_trip("RUST_LOG", text, |config| Some(config.log.filter));
    if let Ok(Config { listen, .. }) = read("ISSUER", text) {
        let issuer = listen.issuer_url(1);
        let jwks: Uri = format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')).parse().unwrap();
        assert!(jwks.path().ends_with("/.well-known/jwks.json") && jwks.query().is_none());
    }
    for name in ["DATABASE_URL", "CLIENT_IP_HEADER", "LOG_FORMAT"] {
        let _ = read(name, text);
    }
    rotation(text);
}

/// A value that is written as text and read again is the same. An empty text means that the setting is unset.
fn round_trip(name: &'static str, text: &str, write: impl Fn(Config) -> Option<String>) {
    let written = read(name, text).ok().and_then(&write).filter(|written| !written.is_empty());
    if let Some(written) = written {
        assert_eq!(read(name, &written).ok().and_then(&write).as_ref(), Some(&written), "{name}");
    }
}

/// Five durations make a valid policy or an error; no sum of them overflows.
fn rotation(text: &str) {
    const NAMES: [&str; 5] = ["KEY_LIFETIME", "KEY_RETENTION", "KEY_LEAD", "TOKEN_TTL", "JWKS_MAX_AGE"];
    let duration = |text: &str| read("LOG_RETENTION", text).ok().and_then(|config| config.log_retention);
    let times = text.split_whitespace().filter(|word| *word == "0" || duration(word).is_some());
    let times: Vec<_> = NAMES.into_iter().zip(times).collect();
    let lifetime = times.first().and_then(|(_, text)| duration(text));
    if let (Some(lifetime), Ok(config)) = (lifetime, Config::read(&Texts(&times))) {
        assert!(config.keys.policy.token_ttl() < lifetime);
    }
}
