//! Deletes old sign-ins while the server runs.

use std::time::Duration;

use crate::issuer::{Retention, Swept};

/// Time between two looks for rows that are too old.
const IDLE: Duration = Duration::from_secs(10);

/// Time between two batches, in which sign-ins can write.
const PAUSE: Duration = Duration::from_millis(50);

/// Deletes batch by batch, and never returns. An outage is logged when it begins and when it ends.
pub(super) async fn retention_loop(retention: Option<Retention>) {
    let Some(mut retention) = retention else {
        return std::future::pending().await;
    };
    let mut is_failing = false;
    loop {
        let swept = retention.sweep().await;
        match &swept {
            Err(error) if !is_failing => {
                tracing::error!("old sign-ins could not be deleted from auth_logs, retrying: {error:#}");
            }
            Ok(_) if is_failing => tracing::info!("old sign-ins can be deleted from auth_logs again"),
            _ => {}
        }
        is_failing = swept.is_err();
        tokio::time::sleep(if matches!(swept, Ok(Swept::Some)) { PAUSE } else { IDLE }).await;
    }
}
