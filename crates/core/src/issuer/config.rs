//! The settings of the issuer: the master key, keys, tokens, passwords and the sign-in log.

#![expect(missing_docs, reason = "the help of a setting is its documentation")]

use std::time::Duration;

use crate::key::lifecycle::{InvalidPolicy, RotationPolicy};
use crate::key::seal::MasterSecret;
use crate::key::{KEY_ALGORITHMS, KeyProfile, KeySpec, KidFormat, RsaBits};
use crate::password::{Hasher, InvalidCost, MAX_COST};
use crate::setting::values::{MAX_DURATION, duration, list, number, one_of, positive_duration, text};
use crate::setting::{ConfigError, OptionalSetting, SecretSetting, Setting, Source};
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::token_type::TokenType;

pub const MASTER_KEY: SecretSetting<MasterSecret> = SecretSetting {
    name: "NOT_MY_KEY",
    help: "The master key, which encrypts the private keys: 32 bytes as base64 or hex, or a passphrase of 16 characters \
           or more",
    file: OptionalSetting { name: "NOT_MY_KEY_FILE", help: "A file that holds NOT_MY_KEY", parse: text },
    parse: master_secret,
};

pub const NEW_MASTER_KEY: SecretSetting<MasterSecret> = SecretSetting {
    name: "NEW_NOT_MY_KEY",
    help: "The master key that `jwksd rekey` moves the store to",
    file: OptionalSetting {
        name: "NEW_NOT_MY_KEY_FILE",
        help: "A file that holds NEW_NOT_MY_KEY",
        parse: text,
    },
    parse: master_secret,
};

pub const AUDIENCE: OptionalSetting<Vec<String>> = OptionalSetting {
    name: "AUDIENCE",
    help: "The `aud` claim; left out when unset. Several with commas between them: /auth takes one of them as `aud`, and \
           without it uses the first",
    parse: audiences,
};

pub const TOKEN_TYP: Setting<TokenType> = Setting {
    name: "TOKEN_TYP",
    default: "JWT",
    help: "The `typ` of tokens: JWT, or at+jwt for access tokens (RFC 9068), which need AUDIENCE",
    parse: |text| one_of(text, &[("JWT", TokenType::Jwt), ("at+jwt", TokenType::AccessToken)]),
};

pub const TOKEN_TTL: Setting<Duration> =
    Setting { name: "TOKEN_TTL", default: "15m", help: "The lifetime of a token", parse: duration };

pub const KEY_LIFETIME: Setting<Duration> = Setting {
    name: "KEY_LIFETIME",
    default: "24h",
    help: "The lifetime of a signing key, from creation to expiry",
    parse: duration,
};

pub const KEY_RETENTION: Setting<Duration> = Setting {
    name: "KEY_RETENTION",
    default: "7d",
    help: "How long an expired key is kept before it is deleted",
    parse: duration,
};

pub const KEY_LEAD: Setting<Duration> = Setting {
    name: "KEY_LEAD",
    default: "2h",
    help: "How long a new key is published before it first signs: at least 2 × JWKS_MAX_AGE, or 0 to sign immediately",
    parse: duration,
};

pub const KEY_ALG: Setting<Algorithm> = Setting {
    name: "KEY_ALG",
    default: "RS256",
    help: "The algorithm of new signing keys: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA. The keys that \
           exist keep theirs",
    parse: |text| one_of(text, &KEY_ALGORITHMS.map(|algorithm| (algorithm.name(), algorithm))),
};

pub const RSA_BITS: Setting<RsaBits> = Setting {
    name: "RSA_BITS",
    default: "2048",
    help: "The size of new signing keys if KEY_ALG is RS… or PS…: 2048, 3072 or 4096",
    parse: |text| {
        one_of(text, &[("2048", RsaBits::Bits2048), ("3072", RsaBits::Bits3072), ("4096", RsaBits::Bits4096)])
    },
};

pub const KID_FORMAT: Setting<KidFormat> = Setting {
    name: "KID_FORMAT",
    default: "number",
    help: "The kid of new signing keys: number counts from 1; thumbprint (RFC 7638) is unique, also between issuers. The keys \
           that exist keep theirs",
    parse: |text| one_of(text, &KidFormat::ALL.map(|format| (format.name(), format))),
};

pub const JWKS_MAX_AGE: Setting<Duration> = Setting {
    name: "JWKS_MAX_AGE",
    default: "5m",
    help: "How long verifiers may cache the JWKS",
    parse: duration,
};

// 19 MiB with two passes and one lane: a minimum of OWASP's Password Storage Cheat Sheet.
pub const ARGON2_MEMORY_KIB: Setting<u32> = Setting {
    name: "ARGON2_MEMORY_KIB",
    default: "19456",
    help: "Argon2id memory of new password hashes",
    parse: |text| number(text, &(MIN_LANE_KIB..=MAX_COST[0])),
};

pub const ARGON2_ITERATIONS: Setting<u32> = Setting {
    name: "ARGON2_ITERATIONS",
    default: "2",
    help: "Argon2id passes of new password hashes",
    parse: |text| number(text, &(1..=MAX_COST[1])),
};

pub const ARGON2_PARALLELISM: Setting<u32> = Setting {
    name: "ARGON2_PARALLELISM",
    default: "1",
    help: "Argon2id lanes of new password hashes",
    parse: |text| number(text, &(1..=MAX_COST[2])),
};

pub const ARGON2_ENGINE: Setting<BackendChoice> = Setting {
    name: "ARGON2_ENGINE",
    default: "auto",
    help: "auto: the faster implementation if it passes a self-test at the start; reference: only the `argon2` crate",
    parse: |text| one_of(text, &[("auto", BackendChoice::Auto), ("reference", BackendChoice::Reference)]),
};

pub const CREDENTIAL_CACHE_TTL: Setting<Duration> = Setting {
    name: "CREDENTIAL_CACHE_TTL",
    // Longer than TOKEN_TTL, so that a client which signs in when its token ends does not wait behind guesses.
    default: "1h",
    help: "How long a verified generated password stays in the credential cache, which skips Argon2; 0 turns it off",
    parse: duration,
};

pub const AUTH_FAILURE_LIMIT: Setting<u32> = Setting {
    name: "AUTH_FAILURE_LIMIT",
    default: "10",
    help: "Wrong passwords for one username within AUTH_FAILURE_WINDOW, after which clients that are new to the account must \
           wait; 0 turns the limit off",
    // Bounded, because the time of each is kept.
    parse: |text| number(text, &(0..=100)),
};

pub const AUTH_FAILURE_WINDOW: Setting<Duration> = Setting {
    name: "AUTH_FAILURE_WINDOW",
    default: "15m",
    help: "The time within which AUTH_FAILURE_LIMIT counts",
    parse: positive_duration,
};

pub const LOG_RETENTION: OptionalSetting<Duration> = OptionalSetting {
    name: "LOG_RETENTION",
    help: "How long auth_logs are kept [default: without limit]",
    parse: positive_duration,
};

/// Memory that Argon2 needs for each lane (RFC 9106 §3.1).
const MIN_LANE_KIB: u32 = 8;

/// The settings of signing keys.
#[derive(Clone, Debug)]
pub struct KeyConfig {
    /// The master key, if one is set.
    pub master_key: Option<MasterSecret>,
    /// The master key that `rekey` moves the store to, if one is set.
    pub new_master_key: Option<MasterSecret>,
    /// When keys rotate, and how long tokens are valid.
    pub policy: RotationPolicy,
    /// Which keys are created.
    pub spec: KeySpec,
    /// How long verifiers may cache the JWKS.
    pub jwks_max_age: Duration,
}

impl KeyConfig {
    /// Reads the settings of signing keys.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        let jwks_max_age = JWKS_MAX_AGE.read(source)?;
        Ok(Self {
            master_key: MASTER_KEY.read(source)?,
            new_master_key: NEW_MASTER_KEY.read(source)?,
            policy: policy(source, jwks_max_age)?,
            spec: KeySpec {
                profile: KeyProfile {
                    algorithm: KEY_ALG.read(source)?,
                    kid_format: KID_FORMAT.read(source)?,
                },
                rsa_bits: RSA_BITS.read(source)?,
            },
            jwks_max_age,
        })
    }
}

/// The settings of tokens that no key depends on.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The audiences of which a token has one.
    pub audiences: Vec<String>,
    /// The `typ` of tokens.
    pub typ: TokenType,
}

impl TokenConfig {
    /// Reads the settings of tokens.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        let (audiences, typ) = (AUDIENCE.read(source)?.unwrap_or_default(), TOKEN_TYP.read(source)?);
        if typ == TokenType::AccessToken && audiences.is_empty() {
            let remedy =
                "set AUDIENCE as well, because access tokens must have an `aud` (RFC 9068 §2.2), or use JWT";
            return Err(TOKEN_TYP.invalid(source, remedy.to_owned()));
        }
        Ok(Self { audiences, typ })
    }
}

/// The settings of password hashing.
#[derive(Clone, Debug)]
pub struct PasswordConfig {
    /// The cost of new password hashes.
    pub hasher: Hasher,
    /// Which implementation of Argon2 computes them.
    pub backend: BackendChoice,
    /// How long a verified password stays in the credential cache; zero turns it off.
    pub credential_cache_ttl: Duration,
    /// How many wrong passwords one name may get.
    pub guesses: GuessLimits,
}

/// How many wrong passwords one name may get before clients that are new to its account must wait.
#[derive(Clone, Copy, Debug)]
pub struct GuessLimits {
    /// How many; 0 for any number.
    pub limit: u32,
    /// Within which time.
    pub window: Duration,
}

impl PasswordConfig {
    /// Reads the settings of password hashing.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        Ok(Self {
            hasher: hasher(source)?,
            backend: ARGON2_ENGINE.read(source)?,
            credential_cache_ttl: CREDENTIAL_CACHE_TTL.read(source)?,
            guesses: GuessLimits {
                limit: AUTH_FAILURE_LIMIT.read(source)?,
                window: AUTH_FAILURE_WINDOW.read(source)?,
            },
        })
    }
}

/// Which implementation of Argon2 computes password hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendChoice {
    /// The faster one, if it passes a self-test at the start.
    Auto,
    /// Only the `argon2` crate.
    Reference,
}

fn audiences(text: &str) -> Result<Vec<String>, String> {
    let remedy = "use names or URLs with commas between them";
    let audiences = list(text, remedy, |part| Some(part.to_owned()))?;
    if audiences.is_empty() { Err(remedy.to_owned()) } else { Ok(audiences) }
}

fn policy(source: &dyn Source, max_age: Duration) -> Result<RotationPolicy, ConfigError> {
    let (lifetime, retention) = (KEY_LIFETIME.read(source)?, KEY_RETENTION.read(source)?);
    let (lead, ttl) = (KEY_LEAD.read(source)?, TOKEN_TTL.read(source)?);
    let error = match RotationPolicy::new(lifetime, retention, lead, ttl, max_age) {
        Ok(policy) => return Ok(policy),
        Err(error) => error,
    };
    Err(match error {
        InvalidPolicy::LeadTooShort { least } => {
            let remedy = at_least(least, "2 × JWKS_MAX_AGE = ", ", or 0", "0, or a shorter JWKS_MAX_AGE");
            KEY_LEAD.invalid(source, remedy)
        }
        InvalidPolicy::LifetimeTooShort { least } => {
            let why = if lead.is_zero() && ttl * 2 < least {
                ", because a key signs for 2s or more, and its last token lives for TOKEN_TTL"
            } else {
                ", which is 2 × KEY_LEAD + TOKEN_TTL, or 2 × TOKEN_TTL when KEY_LEAD is 0"
            };
            KEY_LIFETIME.invalid(source, at_least(least, "", why, "a shorter KEY_LEAD or TOKEN_TTL"))
        }
        InvalidPolicy::TooManyKeys { least } => {
            let why = ", because each key is published for TOKEN_TTL after it signed";
            KEY_LIFETIME.invalid(source, at_least(least, "", why, "a shorter TOKEN_TTL"))
        }
        InvalidPolicy::NoTokenTtl => TOKEN_TTL.invalid(source, "use 1s or more".to_owned()),
    })
}

/// What to set so that a duration is long enough; or `instead`, if no duration that long is valid.
fn at_least(least: Duration, before: &str, after: &str, instead: &str) -> String {
    if least > MAX_DURATION {
        return format!("use {instead}, because it would have to be longer than a hundred years");
    }
    format!("use {before}{} or more{after}", humantime::format_duration(least))
}

fn hasher(source: &dyn Source) -> Result<Hasher, ConfigError> {
    let (memory, iterations) = (ARGON2_MEMORY_KIB.read(source)?, ARGON2_ITERATIONS.read(source)?);
    let parallelism = ARGON2_PARALLELISM.read(source)?;
    Hasher::new(memory, iterations, parallelism).map_err(|error| match error {
        InvalidCost::NotArgon2(_) => {
            let least = MIN_LANE_KIB.saturating_mul(parallelism);
            let remedy =
                format!("use {least} or more, which is {MIN_LANE_KIB} for each lane of ARGON2_PARALLELISM");
            ARGON2_MEMORY_KIB.invalid(source, remedy)
        }
        InvalidCost::TooHigh { max_iterations } => {
            let remedy = format!(
                "use {max_iterations} or less with ARGON2_MEMORY_KIB={memory}, or less memory, because each \
                         sign-in would take too long"
            );
            ARGON2_ITERATIONS.invalid(source, remedy)
        }
    })
}

fn master_secret(text: &str) -> Result<MasterSecret, String> {
    // The error goes to the log, so it must not repeat the text.
    MasterSecret::parse(text).map_err(|error| format!("is not a master key: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::setting::{Secret, SecretDeclaration};

    struct Texts(HashMap<&'static str, String>);

    impl Source for Texts {
        fn text(&self, name: &'static str) -> Option<String> {
            self.0.get(name).cloned()
        }

        fn secret(&self, _: &SecretDeclaration) -> Result<Option<Secret>, ConfigError> {
            Ok(None)
        }
    }

    /// Seconds of every size that a setting may have, small ones above all.
    fn seconds() -> impl Strategy<Value = u64> {
        prop_oneof![0..5_u64, 0..100_u64, 0..100_000_u64, 0..=MAX_DURATION.as_secs()]
    }

    /// The setting that an error names, and the value that it recommends; `None` if another setting must change.
    fn recommended(error: &ConfigError) -> Option<(&'static str, String)> {
        let ConfigError::Setting { name, remedy, .. } = error else { panic!("{error}") };
        let Some((value, _)) = remedy.strip_prefix("use ").unwrap().split_once(" or more") else {
            assert!(remedy.contains("a shorter "), "{error}");
            return None;
        };
        Some((name, value.rsplit(" = ").next().unwrap().to_owned()))
    }

    proptest! {
        #[test]
        fn what_an_error_recommends_is_accepted(
            [lifetime, lead, ttl, max_age] in [seconds(), seconds(), seconds(), seconds()],
        ) {
            let times = [("KEY_LIFETIME", lifetime), ("KEY_LEAD", lead), ("TOKEN_TTL", ttl), ("JWKS_MAX_AGE", max_age)];
            let mut texts = Texts(times.map(|(name, seconds)| (name, format!("{seconds}s"))).into());
            let mut changed = Vec::new();
            while let Err(error) = KeyConfig::read(&texts) {
                let Some((name, value)) = recommended(&error) else { break };
                prop_assert!(!changed.contains(&name), "{error} {:?}", texts.0);
                changed.push(name);
                texts.0.insert(name, value);
            }
        }
    }

    #[test]
    fn the_shortest_lifetime_without_a_lead_is_named_as_it_is() {
        let texts = Texts(
            [("KEY_LIFETIME", "2s"), ("KEY_LEAD", "0"), ("TOKEN_TTL", "1s")]
                .map(|(name, text)| (name, text.to_owned()))
                .into(),
        );
        assert_eq!(
            KeyConfig::read(&texts).unwrap_err().to_string(),
            "KEY_LIFETIME is 2s: use 3s or more, because a key signs for 2s or more, and its last token lives for TOKEN_TTL"
        );
    }
}
