//! Whether sign-ins can be recorded, for `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::context::Context;
use crate::store::NotWritable;

/// How long a result counts. Any client can ask for it, and each probe writes.
const VALIDITY: Duration = Duration::from_secs(1);

/// The latest probe.
#[derive(Default)]
pub(super) struct WriteProbe(Mutex<Option<Probed>>);

struct Probed {
    at: Duration,
    result: Result<(), Arc<NotWritable>>,
}

impl WriteProbe {
    /// The result of a probe of this store that is at most a second old.
    pub(super) async fn result(&self, context: &Context) -> Result<(), Arc<NotWritable>> {
        // Held during the probe: all who wait for it share its result.
        let mut latest = self.0.lock().await;
        let now = context.clock.monotonic();
        if let Some(probed) = latest.as_ref().filter(|probed| now.saturating_sub(probed.at) < VALIDITY) {
            return probed.result.clone();
        }
        let result = context.store.probe_write().await.map_err(Arc::new);
        *latest = Some(Probed { at: context.clock.monotonic(), result: result.clone() });
        result
    }
}
