//! Settings as typed constants. Below all layers, so that each declares its settings next to what they configure.
//!
//! `typed` has the types of the constants, `shown` decides which values an error shows, `source` the interface that gives their texts, and `values` the parsers that
//! several layers share. `crate::config` lists every `declaration` and implements the source.

mod declaration;
mod error;
mod shown;
mod source;
mod typed;
pub mod values;

pub use self::declaration::{Declaration, SecretDeclaration};
pub use self::error::ConfigError;
pub use self::shown::ShownValue;
pub use self::shown::{may_contain_secret, published_may_contain_secret};
pub use self::source::{Secret, Source};
pub use self::typed::{OptionalSetting, SecretSetting, Setting};
