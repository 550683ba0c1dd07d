//! A name for every effect, and the place where a test may make it fail.
//!
//! Before each change to a disk, a ref or a remote, the code that makes it calls [`Steps::pass`].
//! In production that is one relaxed counter.
//! A test counts the steps of a turn, then fails each one, both ways: for good (the process died)
//! and once (the disk was full for a moment).
//! Whatever step fails, the next start or the next turn must come to rest with nothing lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// One kind of effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An operation is written to the journal.
    Journal,
    /// A temporary file is written in the work tree.
    WriteFile,
    /// A written file takes its name.
    Rename,
    /// A file is removed.
    Remove,
    /// A directory is made.
    MakeDir,
    /// Written data is forced to the disk.
    Sync,
    /// A pack of new objects is written.
    WritePack,
    /// A branch or an archive ref moves.
    MoveRef,
    /// The index is rewritten for people's `git status`.
    WriteIndex,
    /// Objects are fetched from the remote.
    Fetch,
    /// Commits are sent to the remote.
    Push,
    /// Records and the closed operation are written to the store.
    Settle,
}

/// Counts the effects of a process and fails those that a test has named.
///
/// Clones share one counter.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    taken: AtomicU64,
    /// The step (counted from 1) that fails once; 0 is none.
    fail_once: AtomicU64,
    /// With this number of the system.
    errno: AtomicI32,
    /// From this step on (counted from 1) everything fails; 0 is none.
    stop_from: AtomicU64,
}

impl Steps {
    /// Lets the effect go ahead.
    ///
    /// # Errors
    /// Only when a test asked for this step to fail.
    pub fn pass(&self, step: Step) -> io::Result<()> {
        let n = self.0.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let stop = self.0.stop_from.load(Ordering::Relaxed);
        if stop != 0 && n >= stop {
            return Err(io::Error::other(format!("stopped for good before step {n} ({step:?})")));
        }
        if self.0.fail_once.load(Ordering::Relaxed) == n {
            return Err(io::Error::from_raw_os_error(self.0.errno.load(Ordering::Relaxed)));
        }
        Ok(())
    }

    /// Says how many steps were passed or refused so far.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Makes the `n`-th step from now fail, once, because the disk is full.
    pub fn fail_once(&self, n: u64) {
        self.fail_once_with(n, libc::ENOSPC);
    }

    /// Makes the `n`-th step from now fail, once, as the system would with this number.
    pub fn fail_once_with(&self, n: u64, errno: i32) {
        let at = self.taken() + n;
        self.0.errno.store(errno, Ordering::Relaxed);
        self.0.fail_once.store(at, Ordering::Relaxed);
    }

    /// Makes the `n`-th step from now and all later ones fail, as if the process had died there.
    pub fn stop_after(&self, n: u64) {
        let at = self.taken() + n;
        self.0.stop_from.store(at, Ordering::Relaxed);
    }
}

/// A mistake that the build with the feature `gauges` can be told to make, so that it is seen whether
/// the tests notice. `tests/gauges` makes each in turn. Without the feature none can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Objects are written and not synced.
    NoSync,
    /// Drops leave `raw/` before the commit.
    RemoveEarly,
    /// A drop is looked at by its name, and then opened by its name.
    LookThenOpen,
    /// A sync that failed is tried again, and believed.
    SyncAgain,
    /// A half-written snapshot of sled is left where it is.
    KeepGenerating,
    /// A push is told to have arrived before the remote says so.
    TellEarly,
    /// A request may be as long as it likes.
    UnboundedBody,
    /// The address of a remote is shown with its password.
    TokenInUrl,
}

impl Mistake {
    /// Says whether this process makes the mistake.
    #[cfg(not(feature = "gauges"))]
    pub const fn is_made(self) -> bool {
        false
    }

    /// Says whether this process makes the mistake: whether `INTAKE_MISTAKE` names it.
    #[cfg(feature = "gauges")]
    #[expect(clippy::disallowed_methods, reason = "no build that is shipped reads it")]
    pub fn is_made(self) -> bool {
        std::env::var("INTAKE_MISTAKE").is_ok_and(|it| it == format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_fails_once_and_then_passes() {
        let steps = Steps::default();
        steps.fail_once(2);
        assert!(steps.pass(Step::Rename).is_ok());
        assert!(steps.pass(Step::Rename).is_err());
        assert!(steps.pass(Step::Rename).is_ok());
    }

    #[test]
    fn a_stopped_process_does_nothing_more() {
        let steps = Steps::default();
        steps.stop_after(2);
        assert!(steps.pass(Step::Sync).is_ok());
        assert!(steps.pass(Step::Sync).is_err());
        assert!(steps.pass(Step::Sync).is_err());
    }
}
