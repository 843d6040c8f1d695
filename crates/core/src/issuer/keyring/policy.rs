//! The rotation policy that the store records, so that processes with different settings are noticed.

use super::master_key::APPLY_ATTEMPTS;
use super::snapshot::KeyringSnapshot;
use super::state::Keyring;
use crate::issuer::config::{
    KEY_ALG, KEY_LEAD, KEY_LIFETIME, KEY_RETENTION, KID_FORMAT, RSA_BITS, TOKEN_TTL,
};
use crate::issuer::error::IssuerError;
use crate::key::lifecycle::RotationTimes;
use crate::store::{Applied, KeyChange};

impl Keyring {
    /// Records the policy of this process as that of the server that started last.
    ///
    /// # Errors
    /// [`IssuerError`] when the store fails.
    pub async fn record_policy(&self) -> Result<(), IssuerError> {
        let times = self.policy.times();
        for _ in 0..APPLY_ATTEMPTS {
            let stored = self.stored_keys(&self.usable_rows()).await?;
            // A restart with the same settings writes nothing.
            if stored.policy == Some(times) {
                return Ok(());
            }
            let changes = vec![KeyChange::RecordPolicy(times)];
            if self.context.store.apply(stored.version, changes).await? == Applied::Yes {
                return self.reload().await.map(drop);
            }
        }
        Err(IssuerError::Contention)
    }

    /// Says at the start of a server that the current key is of another kind than new keys will be: a changed setting has no
    /// effect that an operator would see for up to a day.
    pub fn log_other_kind(&self) {
        let Some(key) = self.signer(self.context.clock.now()) else {
            return;
        };
        if self.spec.matches(key.profile(), key.jwk().key()) {
            return;
        }
        let (kid, has) = (key.kid(), self.spec.profile);
        tracing::info!(
            "new keys are {} with a {} as kid, as {}, {} and {} say; key {kid}, which signs now, is of another kind: the next \
             rotation replaces it, or `jwksd keys rotate`",
            has.algorithm,
            has.kid_format.name(),
            KEY_ALG.name,
            RSA_BITS.name,
            KID_FORMAT.name
        );
    }

    /// Warns once if another process on the store rotates keys by another policy.
    pub(super) fn log_other_policy(&self, before: &KeyringSnapshot) {
        let snapshot = self.snapshot.load();
        let recorded = snapshot.policy().filter(|_| snapshot.policy() != before.policy());
        let differences = recorded.map(|recorded| differences(self.policy.times(), recorded));
        if let Some(differences) = differences.filter(|differences| !differences.is_empty()) {
            let pid = std::process::id();
            tracing::warn!(
                "process {pid} has other settings than the server that started last on this store ({}): run all of \
                 them with the same settings, or they replace each other's keys",
                differences.join(", ")
            );
        }
    }
}

/// The settings in which a policy differs from the recorded one, in words.
#[must_use]
pub fn differences(here: RotationTimes, recorded: RotationTimes) -> Vec<String> {
    [
        (KEY_LIFETIME.name, here.lifetime, recorded.lifetime),
        (KEY_RETENTION.name, here.retention, recorded.retention),
        (KEY_LEAD.name, here.lead, recorded.lead),
        (TOKEN_TTL.name, here.token_ttl, recorded.token_ttl),
    ]
    .into_iter()
    // The store records whole seconds.
    .filter(|(_, here, recorded)| here.as_secs() != recorded.as_secs())
    .map(|(name, here, recorded)| {
        let [here, recorded] = [here, recorded].map(humantime::format_duration);
        format!("{name} is {here} here and {recorded} there")
    })
    .collect()
}
