//! The table of all settings, in the order of `--help`. Tests compare it with `.env.example`.

use clap::Arg;
use clap::builder::OsStringValueParser;

use crate::database::{DATABASE_CONNECTIONS, DATABASE_TIMEOUT, DATABASE_URL, DATABASE_URL_FILE};
use crate::shared_limit::{RATE_LIMIT_URL, RATE_LIMIT_URL_FILE};
use crate::telemetry::{LOG_FORMAT, RUST_LOG};
use jwksd_core::issuer::config::{
    ARGON2_ENGINE, ARGON2_ITERATIONS, ARGON2_MEMORY_KIB, ARGON2_PARALLELISM, AUDIENCE, AUTH_FAILURE_LIMIT,
    AUTH_FAILURE_WINDOW, CREDENTIAL_CACHE_TTL, JWKS_MAX_AGE, KEY_ALG, KEY_LEAD, KEY_LIFETIME, KEY_RETENTION,
    KID_FORMAT, LOG_RETENTION, MASTER_KEY, NEW_MASTER_KEY, RSA_BITS, TOKEN_TTL, TOKEN_TYP,
};
use jwksd_core::rate_limit::{AUTH_RATE_LIMIT, REGISTER_RATE_LIMIT};
use jwksd_core::setting::{Declaration, SecretDeclaration};
use jwksd_http::config::{
    ADMIN_TOKEN, AUTH_MODE, CLIENT_IP_HEADER, INTROSPECT_TOKEN, JWKS_MAX_SILENCE, OPEN_AUTH_ANYWAY,
    REGISTRATION, TRUSTED_PROXIES,
};
use jwksd_http::listener::{HOST, ISSUER, PORT};
use jwksd_http::{ALLOWED_HOSTS, ALLOWED_ORIGINS};

/// Every setting that is not a secret.
pub const SETTINGS: &[Declaration] = &[
    HOST.declaration(),
    PORT.declaration(),
    DATABASE_URL.declaration(),
    DATABASE_URL_FILE.declaration(),
    DATABASE_CONNECTIONS.declaration(),
    DATABASE_TIMEOUT.declaration(),
    MASTER_KEY.file.declaration(),
    ISSUER.declaration(),
    AUDIENCE.declaration(),
    TOKEN_TYP.declaration(),
    TOKEN_TTL.declaration(),
    KEY_ALG.declaration(),
    RSA_BITS.declaration(),
    KID_FORMAT.declaration(),
    KEY_LIFETIME.declaration(),
    KEY_RETENTION.declaration(),
    KEY_LEAD.declaration(),
    JWKS_MAX_AGE.declaration(),
    JWKS_MAX_SILENCE.declaration(),
    AUTH_MODE.declaration(),
    OPEN_AUTH_ANYWAY.declaration(),
    AUTH_RATE_LIMIT.declaration(),
    AUTH_FAILURE_LIMIT.declaration(),
    AUTH_FAILURE_WINDOW.declaration(),
    REGISTRATION.declaration(),
    REGISTER_RATE_LIMIT.declaration(),
    RATE_LIMIT_URL.declaration(),
    RATE_LIMIT_URL_FILE.declaration(),
    TRUSTED_PROXIES.declaration(),
    CLIENT_IP_HEADER.declaration(),
    ALLOWED_HOSTS.declaration(),
    ALLOWED_ORIGINS.declaration(),
    ARGON2_MEMORY_KIB.declaration(),
    ARGON2_ITERATIONS.declaration(),
    ARGON2_PARALLELISM.declaration(),
    ARGON2_ENGINE.declaration(),
    CREDENTIAL_CACHE_TTL.declaration(),
    NEW_MASTER_KEY.file.declaration(),
    ADMIN_TOKEN.file.declaration(),
    INTROSPECT_TOKEN.file.declaration(),
    LOG_RETENTION.declaration(),
    LOG_FORMAT.declaration(),
    RUST_LOG.declaration(),
];

/// Every secret.
pub const SECRETS: &[SecretDeclaration] = &[
    MASTER_KEY.declaration(),
    NEW_MASTER_KEY.declaration(),
    ADMIN_TOKEN.declaration(),
    INTROSPECT_TOKEN.declaration(),
];

/// The arguments of all settings, for clap.
pub(crate) fn args() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(arg)
}

/// The part of `--help` about secrets, which have no flag.
pub(crate) fn secrets_help() -> String {
    let mut help =
        String::from("Secrets (in the environment, in .env, or in the file that NAME_FILE names):\n");
    for secret in SECRETS {
        help.extend(["  ", secret.name, "\n          ", secret.help, "\n"]);
    }
    help
}

/// Clap finds the text of a flag or a variable. It is parsed later, because `.env` ranks below both.
fn arg(setting: &Declaration) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name.to_ascii_lowercase().replace('_', "-"))
        .env(setting.name)
        // People paste `--help` into bug reports, so it must not show the values of their machine.
        .hide_env_values(true)
        // Text that is not UTF-8 gets a one-line error from us, as any other invalid setting.
        .value_parser(OsStringValueParser::new())
        // `-h` stays on one screen; `--help` lists the settings.
        .hide_short_help(true)
        .value_name("VALUE")
        .help_heading("Settings (each also in the environment or in .env)")
        .help(setting.help)
        .long_help(setting.help);
    match setting.default {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}
