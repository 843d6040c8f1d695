//! Passwords and their Argon2id hashes.

mod backend;
mod cleartext;
mod credential_cache;
mod hash;
mod hasher;

pub use self::backend::Argon2Backend;
pub use self::cleartext::{InvalidPassword, PASSWORD_MAX, Password};
pub use self::credential_cache::CredentialCache;
pub use self::hash::{HashCost, PasswordHash, Salt};
pub use self::hasher::{HashError, Hasher, InvalidCost, MAX_COST, VerifyOutcome};
