//! Read leases: the kernel's own answer to "does anybody have this file open for writing?".
//!
//! See `fcntl(2)`, `F_SETLEASE`. A lease needs ownership of the file or `CAP_LEASE`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Once};

/// What the kernel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    /// Nobody has it open for writing, and nobody can without our hearing of it.
    Yes,
    /// Somebody has it open for writing.
    Busy,
    /// This file system, or our rights, know no leases.
    Unknown,
}

/// Asks for a read lease on `file`, which must be open for reading only.
pub(super) fn take(file: &File) -> Leased {
    match set(file, libc::F_RDLCK) {
        Ok(()) => Leased::Yes,
        Err(it) if it.raw_os_error() == Some(libc::EAGAIN) => Leased::Busy,
        Err(_) => Leased::Unknown,
    }
}

/// Gives the lease back; says whether it was ours all the time, which means nobody wrote.
pub(super) fn release(file: &File) -> bool {
    // SAFETY: F_GETLEASE takes no argument and only reads the state of an open descriptor.
    let kept = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) } == libc::F_RDLCK;
    let released = set(file, libc::F_UNLCK).is_ok();
    kept && released
}

/// A writer who comes while we hold a lease makes the kernel send SIGIO, which would end the
/// process; the broken lease itself tells us all we need.
pub(super) fn ignore_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
        if let Err(error) = signal_hook::flag::register(libc::SIGIO, seen) {
            tracing::warn!(%error, "cannot catch SIGIO; a writer that meets a read may end the agent");
        }
    });
}

fn set(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes one integer and touches no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
