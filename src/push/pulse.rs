//! A file descriptor whose reads and writes end in time.
//!
//! All ends of one conversation share a [`Pulse`]: bytes that move in either direction keep it
//! alive, the whole of it has a wall, and a flag of the caller stops it within [`SLICE`].
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of a live connection are measured where they pass"
)]

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{error::Stop, http::LowSpeed};

/// How long a request to stop may go unnoticed.
pub(crate) const SLICE: Duration = Duration::from_millis(200);

/// The time limits of one conversation, and when something last moved.
#[derive(Debug)]
pub(crate) struct Pulse {
    begun: Instant,
    moved_ms: AtomicU64,
    idle: Duration,
    wall: Duration,
    interrupt: Option<Arc<AtomicBool>>,
    speed: Speed,
}

/// How much moved in how much waiting, since it was last looked at.
#[derive(Debug, Default)]
struct Speed {
    least: OnceLock<LowSpeed>,
    bytes: AtomicU64,
    waited_ms: AtomicU64,
}

/// A wait for the network, counted when it ends.
pub(crate) struct Waiting<'a> {
    pulse: &'a Pulse,
    begun: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.pulse.speed.waited_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Pulse {
    pub(crate) fn new(
        idle: Duration,
        wall: Duration,
        interrupt: Option<Arc<AtomicBool>>,
    ) -> Arc<Self> {
        let (begun, moved_ms) = (Instant::now(), AtomicU64::new(0));
        Arc::new(Pulse { begun, moved_ms, idle, wall, interrupt, speed: Speed::default() })
    }

    /// How long ago it began.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// From here on, less than this is too slow.
    pub(crate) fn demand(&self, least: LowSpeed) {
        // One conversation has one demand: the first stands.
        let _ = self.speed.least.set(least);
    }

    /// Counts the time until the result is dropped as waiting.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        Waiting { pulse: self, begun: Instant::now() }
    }

    /// Something moved: so many bytes.
    pub(crate) fn beat(&self, bytes: usize) {
        self.speed.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(ms, Ordering::Relaxed);
    }

    /// How long to wait before asking again; or why not to.
    pub(crate) fn check(&self) -> Result<Duration, Stop> {
        if self.interrupt.as_ref().is_some_and(|it| it.load(Ordering::Relaxed)) {
            return Err(Stop::Interrupted);
        }
        let now = self.begun.elapsed();
        let left = self.wall.checked_sub(now).ok_or(Stop::Wall(self.wall))?;
        let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
        let quiet = now.saturating_sub(moved);
        let idle = self.idle.checked_sub(quiet).ok_or(Stop::Idle(self.idle))?;
        self.speed.check()?;
        // Never zero, or the wait would spin until the clock has moved on.
        Ok(left.min(idle).min(SLICE).max(Duration::from_millis(1)))
    }
}

impl Speed {
    fn check(&self) -> Result<(), Stop> {
        let Some(least) = self.least.get() else { return Ok(()) };
        let waited = Duration::from_millis(self.waited_ms.load(Ordering::Relaxed));
        if waited >= least.time {
            self.waited_ms.store(0, Ordering::Relaxed);
            let bytes = self.bytes.swap(0, Ordering::Relaxed);
            if bytes < least.bytes_per_second.saturating_mul(least.time.as_secs()) {
                return Err(Stop::Slow { bytes_per_second: least.bytes_per_second });
            }
        }
        Ok(())
    }
}

/// One end of a pipe or socket.
pub(crate) struct Paced {
    fd: OwnedFd,
    pulse: Arc<Pulse>,
}

impl Paced {
    /// Takes the descriptor and makes it non-blocking.
    pub(crate) fn new(fd: OwnedFd, pulse: Arc<Pulse>) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Paced { fd, pulse })
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        loop {
            let slice = self.pulse.check()?;
            let slice = Timespec::try_from(slice).map_err(io::Error::other)?;
            match poll(&mut [PollFd::from_borrowed_fd(self.fd.as_fd(), flags)], Some(&slice)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(err) => return Err(err.into()),
            }
        }
    }
}

/// Waits until a descriptor is readable, or for as long as `slice`.
pub(crate) fn readable(fd: &OwnedFd, slice: Duration) {
    let Ok(slice) = Timespec::try_from(slice) else { return };
    // Whoever waits looks for itself afterwards, whatever the answer.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], Some(&slice));
}

impl Read for Paced {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *out) {
                Ok(n) => {
                    self.pulse.beat(n);
                    return Ok(n);
                }
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(n) => {
                    self.pulse.beat(n);
                    return Ok(n);
                }
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
