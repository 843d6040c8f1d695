//! Settings as typed constants. Below all layers, so that each declares its settings next to what they configure.
//!
//! `declaration` has the types of the constants, `source` says where their texts come from, `values` parses the kinds
//! of text that several layers share. `crate::config` collects all declarations and implements the source.

mod declaration;
mod error;
mod source;
pub(crate) mod values;

pub use self::declaration::{Declaration, SecretDeclaration};
pub(crate) use self::declaration::{OptionalSetting, SecretSetting, Setting};
pub use self::error::ConfigError;
pub use self::source::{Secret, Source};
