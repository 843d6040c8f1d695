//! Passwords and their Argon2id hashes.

mod backend;
mod chosen;
mod cleartext;
mod credential_cache;
mod hash;
mod hasher;

pub use self::backend::Argon2Backend;
pub use self::chosen::{CHOSEN_MAX, CHOSEN_MIN};
pub use self::chosen::{ChosenPassword, InvalidChoice};
pub use self::cleartext::PASSWORD_MAX;
pub use self::cleartext::{InvalidPassword, Password};
pub use self::credential_cache::CredentialCache;
pub use self::hash::{HashCost, PasswordHash, Salt};
pub use self::hasher::{HashError, Hasher, InvalidCost, MAX_COST, VerifyOutcome, max_iterations};
