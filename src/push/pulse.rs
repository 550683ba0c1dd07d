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
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::Stop;

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
}

impl Pulse {
    pub(crate) fn new(
        idle: Duration,
        wall: Duration,
        interrupt: Option<Arc<AtomicBool>>,
    ) -> Arc<Self> {
        let (begun, moved_ms) = (Instant::now(), AtomicU64::new(0));
        Arc::new(Pulse { begun, moved_ms, idle, wall, interrupt })
    }

    /// Something moved.
    pub(crate) fn beat(&self) {
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
        // Never zero, or the wait would spin until the clock has moved on.
        Ok(left.min(idle).min(SLICE).max(Duration::from_millis(1)))
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

impl Read for Paced {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *out) {
                Ok(n) => {
                    self.pulse.beat();
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
                    self.pulse.beat();
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
