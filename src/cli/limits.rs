//! What is asked of the system: files for the connections of a server, and of no process an image of its memory.
//!
//! Elsewhere than on Unix, nothing is asked.

#[cfg(unix)]
use super::say;

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

/// A limit on the size of files ends whoever meets it, unless the signal is caught: then the write fails, as on a full disk.
pub(super) fn fail_where_files_may_grow_no_more() {
    #[cfg(unix)]
    {
        use rustix::process::Signal;
        use tokio::signal::unix::{SignalKind, signal};

        // It stays caught when nobody listens.
        if let Err(error) = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())) {
            say(&format!("a limit on the size of files would end this process: {error}"));
        }
    }
}

/// What is wiped from memory must not lie in a file instead, when the program is ended by a signal.
pub(super) fn forbid_core_dumps() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};

        tell(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }));
    }
    // The limit is one of files: to a program that the kernel hands an image to (apport, for one), it is none. A process
    // that may not be dumped is not handed on either, and no other one of the same user may look into it.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        tell(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    }
}

#[cfg(unix)]
fn tell(done: rustix::io::Result<()>) {
    if let Err(error) = done {
        say(&format!("core dumps cannot be turned off: {error}"));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn no_image_is_written_to_a_file_nor_handed_to_a_program() {
        forbid_core_dumps();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
