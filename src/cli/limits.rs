//! What a server asks of the system: files for its connections, and no image of its memory on the disk.
//!
//! Elsewhere than on Unix, there is neither such a limit nor such an image.

/// More connections than this would need more memory than they are worth.
const CONNECTIONS: u64 = 10_000;

/// Files that are kept for the store, the log and what else there is.
#[cfg(unix)]
const OTHER_FILES: u64 = 64;

/// How many connections may be open at once: as many as the system gives files for, which it is asked for first.
pub(super) fn connections() -> usize {
    #[cfg(unix)]
    let most = files(CONNECTIONS + OTHER_FILES).saturating_sub(OTHER_FILES).clamp(1, CONNECTIONS);
    #[cfg(not(unix))]
    let most = CONNECTIONS;
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Asks for so many files, and says how many there may be now.
#[cfg(unix)]
fn files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let present = current.unwrap_or(u64::MAX);
    let allowed = wanted.min(maximum.unwrap_or(wanted)).max(present);
    let is_raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }).is_ok();
    if is_raised { allowed } else { present }
}

/// What is wiped from memory must not lie in a file instead, when the program is ended by a signal.
pub(super) fn forbid_core_dumps() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};

        let none = Rlimit { current: Some(0), maximum: Some(0) };
        if let Err(error) = setrlimit(Resource::Core, none) {
            tracing::warn!("core dumps cannot be turned off: {error}");
        }
    }
}
