//! All settings: the only reader of flags, environment and `.env`.
//!
//! A flag overrides the environment, which overrides the `.env` of the working directory, which overrides the default.
//! Secrets have no flag. Each layer declares its settings as constants and reads its part of [`Config`]; `table` lists
//! all declarations for `--help`, and `sources` finds the texts.

mod settings;
mod sources;
mod table;

pub use self::settings::Config;
pub use self::sources::parse_dotenv;
pub(crate) use self::sources::{DOTENV, admin_token, dotenv_master_key, typed_setting};
pub use self::table::{SECRETS, SETTINGS};
pub(crate) use self::table::{args, secrets_help};
