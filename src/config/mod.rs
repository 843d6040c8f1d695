//! All settings: the only reader of flags, environment and `.env`.
//!
//! A flag overrides the environment, which overrides the `.env` of the working directory, which overrides the default.
//! Secrets have no flag. Each layer declares its settings as constants and reads its part of [`Config`]; `table` lists
//! all declarations for `--help`, `sources` finds the texts, `dotenv` reads those of `.env`, `small_file` any file.

mod dotenv;
mod dotenv_file;
mod secret_file;
mod settings;
mod small_file;
mod sources;
mod table;

pub use self::dotenv::parse_dotenv;
pub(crate) use self::dotenv_file::{DOTENV, check_dotenv_access};
pub(crate) use self::secret_file::{expect_one, secret_file};
pub use self::settings::Config;
pub(crate) use self::sources::{admin_token, dotenv_master_key, typed_setting};
pub use self::table::{SECRETS, SETTINGS};
pub(crate) use self::table::{args, secrets_help};
