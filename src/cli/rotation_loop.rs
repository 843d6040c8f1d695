//! Rotates the keys while the server runs.

use std::time::Duration;

use super::systemd::Watchdog;
use crate::issuer::Issuer;

/// Time between two rotation ticks. A change by another process is served within two seconds.
const TICK: Duration = Duration::from_millis(250);

/// Ticks the keyring, and never returns. An outage is logged when it begins and when it ends.
pub(super) async fn rotation_loop(issuer: &Issuer, mut watchdog: Watchdog) {
    let mut is_failing = false;
    loop {
        tokio::time::sleep(TICK).await;
        // Sent from this loop, so that systemd restarts a server whose rotation hangs.
        watchdog.alive();
        match issuer.keyring().tick().await {
            Ok(()) if is_failing => {
                tracing::info!("the key rotation works again");
                is_failing = false;
            }
            Err(error) if !is_failing => {
                let error = anyhow::Error::new(error);
                tracing::error!(
                    "the key rotation failed and is retried; the published keys stay the same: {error:#}"
                );
                is_failing = true;
            }
            _ => {}
        }
    }
}
