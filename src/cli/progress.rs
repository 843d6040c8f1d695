//! A bar for what takes longer than a second, where somebody watches.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is done sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Waits for `work`; on a terminal, with a bar that shows how far `file` has grown towards this many bytes.
pub(super) async fn growing<T>(what: &str, file: &Path, bytes: u64, work: impl Future<Output = T>) -> T {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    watch(what, &bar, work, || std::fs::metadata(file).map_or(0, |file| file.len())).await
}

/// Waits for `work`; on a terminal, with a sign of life.
pub(super) async fn busy<T>(what: &str, work: impl Future<Output = T>) -> T {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    watch(what, &bar, work, || 0).await
}

/// A bar that is nobody's to see draws nothing.
async fn watch<T>(
    what: &str,
    bar: &ProgressBar,
    work: impl Future<Output = T>,
    position: impl Fn() -> u64,
) -> T {
    tokio::pin!(work);
    let mut wait = PATIENCE;
    loop {
        if let Ok(done) = tokio::time::timeout(wait, &mut work).await {
            bar.finish_and_clear();
            return done;
        }
        wait = TICK;
        bar.set_message(what.to_owned());
        bar.set_position(position());
        bar.tick();
    }
}
