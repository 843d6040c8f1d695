//! Limits of the process: open files, the size of files, core dumps. Only on Unix.

#[cfg(unix)]
use super::output;

/// Maximum number of connections. More would need more memory than they are worth.
const MAX_CONNECTIONS: u64 = 10_000;

/// Open files that the store, the log and the rest of the process need.
#[cfg(unix)]
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files, and returns how many connections it allows.
pub(super) fn max_connections() -> usize {
    #[cfg(unix)]
    let most =
        raise_open_files(MAX_CONNECTIONS + OTHER_FILES).saturating_sub(OTHER_FILES).clamp(1, MAX_CONNECTIONS);
    #[cfg(not(unix))]
    let most = MAX_CONNECTIONS;
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Asks for this many open files, and returns how many are allowed.
#[cfg(unix)]
fn raise_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let present = current.unwrap_or(u64::MAX);
    // Without privileges the hard limit cannot be exceeded. A limit that is already higher stays.
    let allowed = wanted.min(maximum.unwrap_or(wanted)).max(present);
    // A failure is not fatal: the server then accepts fewer connections.
    let is_raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }).is_ok();
    if is_raised { allowed } else { present }
}

/// Catches SIGXFSZ, which would end the process at a limit on the size of files. The write then fails, as on a full disk.
pub(super) fn turn_file_size_signal_into_error() {
    #[cfg(unix)]
    {
        use rustix::process::Signal;
        use tokio::signal::unix::{SignalKind, signal};

        // Tokio keeps the handler installed after this listener is dropped.
        if let Err(error) = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())) {
            output::message(&format!(
                "cannot catch SIGXFSZ, so a limit on file sizes would end this process: {error}"
            ));
        }
    }
}

/// Turns core dumps off, because they would write private keys and passwords to a file.
pub(super) fn forbid_core_dumps() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};

        // The hard limit too, so that the soft limit cannot be raised again without privileges.
        warn(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }));
    }
    // The limit does not hold when the kernel pipes the dump to a program, such as apport. A process that is not dumpable
    // is not piped either, and other processes of the same user cannot read its memory.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        warn(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    }
}

#[cfg(unix)]
fn warn(done: rustix::io::Result<()>) {
    if let Err(error) = done {
        output::message(&format!("cannot turn core dumps off: {error}"));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn core_dumps_are_neither_written_nor_piped() {
        forbid_core_dumps();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
