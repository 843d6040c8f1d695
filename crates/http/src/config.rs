//! The settings of the HTTP layer.

#![expect(missing_docs, reason = "the help of a setting is its documentation")]

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::bearer_auth::SecretToken;
use super::browser::{ALLOWED_ORIGINS, AllowedOrigins, BrowserConfig};
use super::client_ip::{ClientIpHeader, ClientIpPolicy, UnknownHeader};
use jwksd_core::issuer::config::JWKS_MAX_AGE;
use jwksd_core::setting::values::{duration, list, one_of, text};
use jwksd_core::setting::{ConfigError, OptionalSetting, Secret, SecretSetting, Setting, Source};
use jwksd_core::store::ServingMode;
use jwksd_core::trim::trim_invisible;

pub const AUTH_MODE: Setting<AuthMode> = Setting {
    name: "AUTH_MODE",
    default: "password",
    help: "password, or open: /auth checks no passwords",
    parse: |text| one_of(text, &[("password", AuthMode::Password), ("open", AuthMode::Open)]),
};

pub const OPEN_AUTH_ANYWAY: Setting<bool> = Setting {
    name: "OPEN_AUTH_ANYWAY",
    default: "false",
    help: "Lets open mode start where it otherwise refuses: true or false",
    parse: |text| one_of(text, &[("true", true), ("false", false)]),
};

pub const REGISTRATION: Setting<Registration> = Setting {
    name: "REGISTRATION",
    default: "open",
    help: "open, or closed: only `jwksd users add` creates accounts",
    parse: |text| one_of(text, &[("open", Registration::Open), ("closed", Registration::Closed)]),
};

pub const TRUSTED_PROXIES: OptionalSetting<Vec<IpNet>> = OptionalSetting {
    name: "TRUSTED_PROXIES",
    help: "Comma-separated CIDRs of peers whose CLIENT_IP_HEADER is trusted",
    parse: networks,
};

pub const CLIENT_IP_HEADER: Setting<ClientIpHeader> = Setting {
    name: "CLIENT_IP_HEADER",
    default: "x-forwarded-for",
    help: "The header that names the client behind a trusted proxy: x-forwarded-for, forwarded or x-real-ip",
    parse: |text| text.parse().map_err(|error: UnknownHeader| error.to_string()),
};

pub const ADMIN_TOKEN: SecretSetting<Secret> = SecretSetting {
    name: "ADMIN_TOKEN",
    help: "The bearer token of the admin API, which is closed when unset",
    file: OptionalSetting { name: "ADMIN_TOKEN_FILE", help: "A file that holds ADMIN_TOKEN", parse: text },
    parse: bearer_token,
};

pub const INTROSPECT_TOKEN: SecretSetting<Secret> = SecretSetting {
    name: "INTROSPECT_TOKEN",
    help: "The bearer token of /introspect, which ADMIN_TOKEN opens as well",
    file: OptionalSetting {
        name: "INTROSPECT_TOKEN_FILE",
        help: "A file that holds INTROSPECT_TOKEN",
        parse: text,
    },
    parse: bearer_token,
};

// Two seconds pass while a server is replaced by another.
pub const JWKS_MAX_SILENCE: Setting<Duration> = Setting {
    name: "JWKS_MAX_SILENCE",
    default: "0",
    help: "PostgreSQL: how long the JWKS is served while the store does not answer, which may hide revocations; 0 for no end",
    parse: |text| match duration(text)? {
        silence if silence.is_zero() || silence >= Duration::from_secs(2) => Ok(silence),
        _ => Err("use 0, or 2s or more".to_owned()),
    },
};

/// The settings of the HTTP layer. The limits themselves belong to the rate limiter.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// How long verifiers may cache what is published.
    pub max_age: Duration,
    /// How long the JWKS is served while a store that others change too does not answer. Zero for no end.
    pub max_silence: Duration,
    /// Whether /auth checks passwords.
    pub auth_mode: AuthMode,
    /// Whether /register creates accounts.
    pub registration: Registration,
    /// Which address of a request is the client's.
    pub client_ip: ClientIpPolicy,
    /// What pages in browsers may do.
    pub browsers: BrowserConfig,
    /// The bearer token of the admin API, which is closed without one.
    pub admin_token: Option<SecretToken>,
    /// The bearer token of /introspect, next to that of the admin API.
    pub introspect_token: Option<SecretToken>,
}

impl HttpConfig {
    /// Reads the settings of the HTTP layer.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        let (auth_mode, browsers) = (AUTH_MODE.read(source)?, BrowserConfig::read(source)?);
        if browsers.origins == AllowedOrigins::Any && auth_mode == AuthMode::Password {
            let remedy =
                "list the origins, or set AUTH_MODE=open: the pages of every site could try passwords";
            return Err(ConfigError::setting(ALLOWED_ORIGINS.name, "*", remedy));
        }
        Ok(Self {
            max_age: JWKS_MAX_AGE.read(source)?,
            max_silence: JWKS_MAX_SILENCE.read(source)?,
            auth_mode,
            registration: REGISTRATION.read(source)?,
            client_ip: ClientIpPolicy {
                trusted: TRUSTED_PROXIES.read(source)?.unwrap_or_default(),
                header: CLIENT_IP_HEADER.read(source)?,
            },
            admin_token: ADMIN_TOKEN.read(source)?.map(|token| SecretToken::new(token.reveal())),
            introspect_token: INTROSPECT_TOKEN.read(source)?.map(|token| SecretToken::new(token.reveal())),
            browsers,
        })
    }
}

/// Whether /auth checks passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// No: anyone gets a token for any name.
    Open,
    /// Yes: a token needs the password of an account.
    Password,
}

impl From<AuthMode> for ServingMode {
    fn from(mode: AuthMode) -> Self {
        match mode {
            AuthMode::Open => Self::Open,
            AuthMode::Password => Self::Password,
        }
    }
}

/// Whether /register creates accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// No: it answers 403.
    Closed,
    /// Yes, for anyone.
    Open,
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    list(text, "use CIDRs such as 10.0.0.0/8 or 2001:db8::/32", |part| {
        part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)).ok()
    })
}

/// What a header can carry (RFC 6750 §2.1).
fn bearer_token(text: &str) -> Result<Secret, String> {
    // A byte order mark or a blank of the file it comes from is not part of it.
    let text = trim_invisible(text);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Secret::new(text.to_owned().into()))
    } else {
        Err("has characters that no header can carry: generate one with `openssl rand -hex 32`".to_owned())
    }
}
