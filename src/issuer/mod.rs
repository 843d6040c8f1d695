//! The use cases: publish keys, issue tokens, register accounts, sign users in, rotate keys.
//!
//! [`Accounts`] and [`Keyring`] stand for themselves; an [`Issuer`] (RFC 7519 §4.1.1) has both and issues tokens. HTTP and
//! the command line only translate for them.

mod account_admin;
mod accounts;
mod blocking_pool;
pub(crate) mod config;
mod context;
mod error;
mod keyring;
mod open_mode;
mod retention;
mod sign_in;

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::domain::clock::Timestamp;
use crate::domain::key::{Kid, SigningKey};
use crate::domain::token::{Claims, Subject, Token, TokenKind, TokenPolicy};

pub use self::accounts::Accounts;
pub use self::blocking_pool::{BlockingPool, Record, WorkError};
pub use self::config::{BackendChoice, KeyConfig, PasswordConfig, TokenConfig};
pub use self::context::{Context, SharedRng};
pub use self::error::IssuerError;
pub use self::keyring::{
    ExternalKeyError, KeyCommandError, Keyring, MasterKey, MasterKeyError, NotReady, Publication,
    PublishedKey, RekeyError, RekeyReport, UnreadableRow, Uploaded, initialize, opened_external_keys, rekey,
    unlock, unreadable_rows,
};
pub use self::retention::{Retention, Swept};

/// Issues tokens to accounts, signed by the keys that the keyring publishes.
#[derive(Clone)]
pub struct Issuer {
    accounts: Accounts,
    keyring: Arc<Keyring>,
    context: Context,
    tokens: Arc<TokenPolicy>,
    /// A key that is never published, for tokens that verifiers must refuse.
    unpublished_key: Arc<OnceCell<Arc<SigningKey>>>,
}

impl Issuer {
    /// An issuer for these accounts, with these keys.
    #[must_use]
    pub fn new(context: Context, accounts: Accounts, keyring: Arc<Keyring>, tokens: TokenPolicy) -> Self {
        let (tokens, unpublished_key) = (Arc::new(tokens), Arc::default());
        Self { accounts, keyring, context, tokens, unpublished_key }
    }

    /// The issuer's URL: the `iss` claim, from which discovery derives the other URLs.
    pub(crate) fn url(&self) -> &str {
        &self.tokens.issuer
    }

    /// A token about this subject, and the key that signed it.
    fn issue(&self, subject: Subject<'_>, kind: TokenKind) -> Result<(Token, Kid), IssuerError> {
        let now = self.now();
        let key = self.key_for(kind, now)?;
        let claims = self.context.rng.with(|rng| Claims::new(&self.tokens, subject, kind, &key, now, rng));
        Ok((Token::sign(&key, &claims)?, key.kid()))
    }

    fn key_for(&self, kind: TokenKind, now: Timestamp) -> Result<Arc<SigningKey>, IssuerError> {
        let key = match kind {
            TokenKind::Valid => self.keyring.signer(now),
            TokenKind::Expired => self.keyring.expired_signer(),
        };
        key.ok_or(IssuerError::NoSuitableKey)
    }

    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }
}
