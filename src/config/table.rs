//! The table of all settings: names, defaults, help. `--help`, `.env.example` and the README are held to it by tests.

use clap::Arg;
use clap::builder::OsStringValueParser;

use super::{MASTER_KEY, NEW_MASTER_KEY};

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
    setting(
        "ARGON2_ENGINE",
        Some("auto"),
        "auto: the faster implementation if it proves itself at the start; reference: the `argon2` crate alone",
    ),
    setting(
        "CREDENTIAL_CACHE_TTL",
        Some("5m"),
        "How long a generated password that was verified is known again without Argon2; 0 turns that off",
    ),
    setting("NEW_NOT_MY_KEY_FILE", None, "A file that holds NEW_NOT_MY_KEY"),
    setting("ADMIN_TOKEN_FILE", None, "A file that holds ADMIN_TOKEN"),
    setting("LOG_RETENTION", None, "How long auth_logs are kept [default: for ever]"),
    setting("LOG_FORMAT", Some("text"), "Logs: text or json"),
    setting("RUST_LOG", Some("info"), "Logs: levels, of all or of some targets (warn,jwksd=debug)"),
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
            .hide_short_help(true)
            .value_name("VALUE")
            .help_heading("Settings (each also in the environment or in .env)")
            .help(self.help)
            .long_help(self.help);
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
