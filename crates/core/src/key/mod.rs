//! The server's signing keys: what they are, when they sign, and how they are stored.

mod encoded_key;
mod expiry;
pub mod external_key;
pub mod import;
mod kid;
pub mod lifecycle;
mod profile;
pub mod seal;
pub mod self_check;
mod signing_key;
pub mod status;
pub mod uploaded_set;

pub use self::expiry::InvalidExp;
pub use self::expiry::{EARLIEST_FOREIGN_EXP, LATEST_EXP};
pub use self::kid::Kid;
pub use self::kid::LAST_KID;
pub use self::profile::KEY_ALGORITHMS;
pub use self::profile::{KeyProfile, KeySpec, KidFormat, RsaBits};
pub use self::signing_key::{KeyError, SigningKey};
