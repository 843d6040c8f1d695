//! Open mode: tokens without credentials, to test verifiers with.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::IssuerError;
use super::issue::Issuer;
use crate::clock::Timestamp;
use crate::key::{KeyProfile, KeySpec, Kid, SigningKey};
use crate::token::fault::{Fault, Signer};
use crate::token::{Claims, Subject, Token, TokenKind, TokenOverrides, TokenPolicy};
use jwksd_jose::algorithm::Algorithm;

impl Issuer {
    /// Issues a token about any subject, without checking credentials.
    ///
    /// # Errors
    /// [`IssuerError::NoSigningKey`] when no key can sign now; [`IssuerError::NoSuitableKey`] when there is no expired key;
    /// [`IssuerError::TtlTooLong`] when no key lives that long; [`IssuerError::HasAccounts`].
    pub async fn issue_unchecked(
        &self,
        name: &str,
        kind: TokenKind,
        overrides: TokenOverrides,
    ) -> Result<Token, IssuerError> {
        self.expect_no_accounts().await?;
        let now = self.now();
        let key = self.key_for(kind, now)?;
        if kind == TokenKind::Valid {
            self.keyring.record_open_mode_key(key.kid()).await?;
        }
        // In whole seconds, as the claims are written.
        let ends_too_late = |ttl| now.plus(ttl).as_secs() > key.exp().as_secs();
        if kind == TokenKind::Valid && overrides.ttl.is_some_and(ends_too_late) {
            return Err(IssuerError::TtlTooLong { most: key.exp().since(now) });
        }
        let policy = self.policy_with(&overrides);
        let claims = self.claims(&policy, name, kind, &key, now).with(overrides);
        Ok(Token::sign(&key, &claims)?)
    }

    /// Issues a token that a correct verifier refuses because of this fault.
    ///
    /// # Errors
    /// [`IssuerError::NoSigningKey`] when no key can sign now; [`IssuerError::NoSuitableKey`] when no key was revoked yet
    /// (only an operator revokes keys), or when tokens of the current key cannot have this fault. [`IssuerError::HasAccounts`].
    pub async fn issue_faulty(
        &self,
        name: &str,
        fault: Fault,
        overrides: TokenOverrides,
    ) -> Result<Token, IssuerError> {
        self.expect_no_accounts().await?;
        let now = self.now();
        let current = self.key_for(TokenKind::Valid, now)?;
        if !fault.is_possible(current.algorithm()) {
            return Err(IssuerError::NoSuitableKey);
        }
        self.keyring.record_open_mode_key(current.kid()).await?;
        let signer = match fault.signer() {
            Signer::Current => Arc::clone(&current),
            Signer::OtherCurve => self.unpublished_key(other_curve(current.algorithm())).await?,
            Signer::Revoked => self.keyring.revoked_signer().await?.ok_or(IssuerError::NoSuitableKey)?,
            Signer::Unpublished => self.unpublished_key(current.algorithm()).await?,
        };
        let policy = self.policy_with(&overrides);
        // The claims fit the current key, so that the fault is the only reason to refuse the token.
        let claims = self.claims(&policy, name, TokenKind::Valid, &current, now).with(overrides);
        Ok(fault.token(&current, &signer, claims, now)?)
    }

    /// Looks with each token: another process may add accounts while this one runs.
    async fn expect_no_accounts(&self) -> Result<(), IssuerError> {
        let found = !self.accounts_allowed && self.context.store.has_accounts().await?;
        // Not per request: one line when it begins is enough.
        if found && !self.accounts_found.swap(true, Ordering::Relaxed) {
            tracing::error!("{}", IssuerError::HasAccounts);
        }
        if !found && self.accounts_found.load(Ordering::Relaxed) {
            self.accounts_found.store(false, Ordering::Relaxed);
        }
        if found { Err(IssuerError::HasAccounts) } else { Ok(()) }
    }

    fn claims<'a>(
        &self,
        policy: &'a TokenPolicy,
        name: &'a str,
        kind: TokenKind,
        key: &SigningKey,
        now: Timestamp,
    ) -> Claims<'a> {
        let subject = Subject { name, uid: None };
        self.context.rng.with(|rng| Claims::new(policy, subject, kind, key, now, rng))
    }

    fn policy_with(&self, overrides: &TokenOverrides) -> Cow<'_, TokenPolicy> {
        match overrides.ttl {
            None => Cow::Borrowed(&self.tokens),
            Some(ttl) => Cow::Owned(TokenPolicy { ttl, ..TokenPolicy::clone(&self.tokens) }),
        }
    }

    /// A key for this algorithm that is never published. It is generated at its first use and lives as long as the process.
    async fn unpublished_key(&self, algorithm: Algorithm) -> Result<Arc<SigningKey>, IssuerError> {
        // Not per token: generating a key is slow, and open mode asks for no credentials.
        let mut keys = self.unpublished_keys.lock().await;
        if let Some(key) = keys.iter().find(|key| key.algorithm() == algorithm) {
            return Ok(Arc::clone(key));
        }
        let spec =
            KeySpec { profile: KeyProfile { algorithm, ..KeyProfile::default() }, ..KeySpec::default() };
        let key = self.keyring.generate(spec).await?;
        // Our own numbers start at 1, and external keys must not have a number.
        let key = Arc::new(SigningKey::new(Kid(0), Timestamp::from_secs(0), key, spec.profile)?);
        keys.push(Arc::clone(&key));
        Ok(key)
    }
}

/// An algorithm for a key on another curve.
fn other_curve(algorithm: Algorithm) -> Algorithm {
    if algorithm == Algorithm::Es256 { Algorithm::Es384 } else { Algorithm::Es256 }
}
