//! Issuing tokens: claims about a subject, signed by a key of the keyring.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Mutex;

use super::accounts::Accounts;
use super::context::Context;
use super::error::IssuerError;
use super::keyring::Keyring;
use super::write_probe::WriteProbe;
use crate::clock::Timestamp;
use crate::key::{Kid, SigningKey};
use crate::token::{Claims, Subject, Token, TokenKind, TokenPolicy};

/// Issues tokens to accounts, signed by the keys that the keyring publishes.
#[derive(Clone)]
pub struct Issuer {
    pub(super) accounts: Accounts,
    pub(super) keyring: Arc<Keyring>,
    pub(super) context: Context,
    pub(super) tokens: Arc<TokenPolicy>,
    /// Keys that are never published, one for each algorithm, for tokens that verifiers must refuse.
    pub(super) unpublished_keys: Arc<Mutex<Vec<Arc<SigningKey>>>>,
    /// Whether open mode issues tokens although the store has accounts.
    pub(super) accounts_allowed: bool,
    /// Whether open mode has found accounts. Logged once.
    pub(super) accounts_found: Arc<AtomicBool>,
    pub(super) write_probe: Arc<WriteProbe>,
}

impl Issuer {
    /// An issuer for these accounts, with these keys.
    #[must_use]
    pub fn new(context: Context, accounts: Accounts, keyring: Arc<Keyring>, tokens: TokenPolicy) -> Self {
        Self {
            accounts,
            keyring,
            context,
            tokens: Arc::new(tokens),
            unpublished_keys: Arc::default(),
            accounts_allowed: false,
            accounts_found: Arc::default(),
            write_probe: Arc::default(),
        }
    }

    /// The same issuer, which in open mode issues tokens also on a store with accounts if `allowed`.
    #[must_use]
    pub fn allowing_accounts(self, allowed: bool) -> Self {
        Self { accounts_allowed: allowed, ..self }
    }

    /// The issuer's URL: the `iss` claim, from which discovery derives the other URLs.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.tokens.issuer
    }

    /// The audience of a token for a client that asks for this one: one of `AUDIENCE`, the first by default.
    ///
    /// # Errors
    /// [`IssuerError::UnknownAudience`] for any other.
    pub fn audience(&self, asked: Option<String>) -> Result<Option<&str>, IssuerError> {
        let known = &self.tokens.audiences;
        match asked {
            None => Ok(known.first().map(String::as_str)),
            Some(asked) => match known.iter().find(|known| **known == asked) {
                Some(found) => Ok(Some(found)),
                None => Err(IssuerError::UnknownAudience { known: known.clone() }),
            },
        }
    }

    /// A token about this subject and for this audience, issued at this time or now if that is later, and the key that signed it.
    pub(super) fn issue(
        &self,
        subject: Subject<'_>,
        kind: TokenKind,
        audience: Option<&str>,
        not_before: Timestamp,
    ) -> Result<(Token, Kid), IssuerError> {
        // Read once: a key that is chosen at one time and claims of a later one could let a token outlive its key.
        let now = self.now().max(not_before);
        let key = self.key_for(kind, now)?;
        let claims = self.context.rng.with(|rng| Claims::new(&self.tokens, subject, kind, &key, now, rng));
        let claims = match audience {
            Some(audience) => claims.for_audience(audience.to_owned()),
            None => claims,
        };
        Ok((Token::sign(&key, &claims)?, key.kid()))
    }

    pub(super) fn key_for(&self, kind: TokenKind, now: Timestamp) -> Result<Arc<SigningKey>, IssuerError> {
        match kind {
            TokenKind::Valid => self.keyring.signer(now).ok_or(IssuerError::NoSigningKey),
            TokenKind::Expired => self.keyring.expired_signer().ok_or(IssuerError::NoSuitableKey),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }
}
