//! Signing in: a password is checked, a token is signed, the sign-in is recorded, and only then the token leaves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::blocking_pool::WorkError;
use super::error::IssuerError;
use super::issue::Issuer;
use crate::account::Account;
use crate::client::ClientKey;
use crate::clock::Timestamp;
use crate::password::Password;
use crate::store::{NewSignIn, NotWritable, SignInOutcome};
use crate::token::{Subject, Token, TokenKind};

/// How often a password is checked again because its hash has changed meanwhile: another sign-in has rehashed it, or it
/// was reset.
const PASSWORD_ATTEMPTS: usize = 5;

/// How often a token is signed again because its key has ended meanwhile.
const KEY_ATTEMPTS: usize = 5;

impl Issuer {
    /// Checks a username and a password, and issues a token about that account, for this audience.
    ///
    /// Takes the same time whether or not the account exists. When this returns a token, the sign-in is recorded.
    ///
    /// # Errors
    /// [`IssuerError::InvalidCredentials`], whatever is wrong with them; [`IssuerError::NoSigningKey`],
    /// and for an expired token [`IssuerError::NoSuitableKey`].
    pub async fn sign_in(
        &self,
        username: &str,
        password: Password,
        from: IpAddr,
        kind: TokenKind,
        audience: Option<&str>,
    ) -> Result<Token, IssuerError> {
        let client = ClientKey::from(from);
        for _ in 0..PASSWORD_ATTEMPTS {
            let account = self.accounts.verify(username, &password, client).await?;
            if let Some(token) = self.issue_recorded(&account, from, kind, audience).await? {
                self.accounts.remember(client, account.id);
                // Not before the sign-in is recorded: the record compares the hash, and would fail with a new one.
                self.accounts.rehash_if_outdated(account, password, client);
                return Ok(token);
            }
        }
        // The password was right each time: two processes with different settings keep rehashing it.
        Err(WorkError::Busy { retry_after: Duration::ZERO }.into())
    }

    /// Whether the store can record sign-ins now. It may have to wait for a lock, as a sign-in does.
    ///
    /// # Errors
    /// [`NotWritable`] is the reason.
    pub async fn can_record_sign_ins(&self) -> Result<(), Arc<NotWritable>> {
        self.write_probe.result(&self.context).await
    }

    /// A token whose sign-in is recorded; nothing if the account has changed since its password was checked.
    ///
    /// Another process may revoke the key after it has signed and before the sign-in is recorded. The token is then
    /// dropped, and another key signs.
    async fn issue_recorded(
        &self,
        account: &Account,
        from: IpAddr,
        kind: TokenKind,
        audience: Option<&str>,
    ) -> Result<Option<Token>, IssuerError> {
        let not_before = match kind {
            TokenKind::Valid => self.after_sign_out(account).await,
            // It was issued in the past in any case.
            TokenKind::Expired => self.now(),
        };
        for _ in 0..KEY_ATTEMPTS {
            let subject = Subject { name: &account.username, uid: Some(account.id) };
            let (token, signed_by) = self.issue(subject, kind, audience, not_before)?;
            let sign_in = NewSignIn {
                user: account.id,
                // The store compares both under its write lock: the password may be reset, or the account signed
                // out, while the token is signed.
                checked: account.password_hash.clone(),
                signed_out_at: account.signed_out_at,
                // The key of an expired token has ended by intention.
                signed_by: (kind == TokenKind::Valid).then_some(signed_by),
                from,
                at: self.now(),
            };
            match self.context.store.record_sign_in(sign_in).await? {
                SignInOutcome::Recorded => return Ok(Some(token)),
                SignInOutcome::AccountChanged => return Ok(None),
                SignInOutcome::KeyEnded => drop(self.keyring.refresh().await?),
            }
        }
        Err(IssuerError::NoSigningKey)
    }

    /// Waits until the second is over in which the account was signed out: all tokens of that second are refused, because
    /// claims have no fractions. Returns the earliest time of a token that is accepted.
    async fn after_sign_out(&self, account: &Account) -> Timestamp {
        let now = self.now();
        let ended = account.signed_out_at.map_or(i64::MIN, Timestamp::as_secs);
        let first = Timestamp::from_secs(ended.saturating_add(1));
        let wait = first.since(now);
        // Longer only if the clock was set back since. Then a sign-in does not wait, and /verify refuses its token.
        if wait.is_zero() || wait > Duration::from_secs(1) {
            return now;
        }
        tokio::time::sleep(wait).await;
        first
    }
}
