//! A progress bar for work that takes longer than a second, if standard error is a terminal.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time before a bar appears. Shorter work would only flicker.
const DELAY: Duration = Duration::from_secs(1);

/// Time between two updates of the bar.
const TICK: Duration = Duration::from_millis(100);

/// Waits for `work`, and shows how far `file` has grown towards this many bytes.
pub(super) async fn growing<T>(what: &str, file: &Path, bytes: u64, work: impl Future<Output = T>) -> T {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    // A mistake in the template must not stop a backup.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    watch(what, &bar, work, || std::fs::metadata(file).map_or(0, |file| file.len())).await
}

/// Waits for `work`, and shows how far `done` has come towards this many rows.
pub(super) async fn counting<T>(what: &str, rows: u64, done: &AtomicU64, work: impl Future<Output = T>) -> T {
    let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} rows {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    watch(what, &bar, work, || done.load(Ordering::Relaxed)).await
}

/// Waits for `work`, and shows a spinner.
pub(super) async fn busy<T>(what: &str, work: impl Future<Output = T>) -> T {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    watch(what, &bar, work, || 0).await
}

/// The library draws nothing if standard error is not a terminal.
async fn watch<T>(
    what: &str,
    bar: &ProgressBar,
    work: impl Future<Output = T>,
    position: impl Fn() -> u64,
) -> T {
    tokio::pin!(work);
    let mut wait = DELAY;
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
