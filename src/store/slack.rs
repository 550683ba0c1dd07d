//! sled's threads that have nothing to do stay asleep.
//!
//! sled keeps seven threads for its files, and each looks up once a second whether there is work,
//! though it is woken when there is. That cannot be set. How exactly a thread is woken by the clock can
//! be: what the kernel may put off (`PR_SET_TIMERSLACK`) is inherited by the threads that a thread
//! starts. So sled is opened by a thread whose clocks may be late, and starts its own meanwhile.
//! Only waits with a time are late by that; a wait for work ends when there is work.

/// How late sled's threads may look up for nothing, in nanoseconds: a day.
const LATE: libc::c_ulong = 24 * 60 * 60 * 1_000_000_000;

/// Does something in which threads are started that nobody waits for on time.
pub(super) fn with_late_clocks<T>(work: impl FnOnce() -> T) -> T {
    set(LATE);
    let _back = Back;
    work()
}

/// Gives the calling thread the clocks back that it began with, however the work ends.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        set(0);
    }
}

/// Where the kernel does not do it, threads wake as often as they like.
fn set(late: libc::c_ulong) {
    // SAFETY: sets one number of this thread and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, late) };
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    /// Says whether a thread that wants to sleep for a moment sleeps much longer, once in some tries:
    /// the kernel may let it go early when it is awake for something else.
    fn oversleeps(start: impl Fn(Box<dyn FnOnce() + Send>) -> thread::JoinHandle<()>) -> bool {
        (0..20).any(|_| {
            let (sender, woke) = crossbeam_channel::bounded(1);
            let asleep = start(Box::new(move || {
                thread::park_timeout(Duration::from_millis(1));
                let _ = sender.send(());
            }));
            let late = woke.recv_timeout(Duration::from_millis(100)).is_err();
            asleep.thread().unpark();
            asleep.join().unwrap();
            late
        })
    }

    #[test]
    fn only_threads_that_are_started_meanwhile_have_late_clocks() {
        assert!(oversleeps(|work| with_late_clocks(|| thread::spawn(work))));
        with_late_clocks(|| ());
        let start = std::time::Instant::now();
        thread::sleep(Duration::from_millis(1));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
