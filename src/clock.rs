//! The only room that asks what time it is.
//!
//! Everything else is handed a time, so that tests can hold it still and no decision rests on it.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may ask for the time")]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    /// How far a thread is ahead of the world, in milliseconds; none is not at all.
    static AHEAD_MS: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Returns the time of day in UTC, for people and for records; never for a decision.
pub fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    now.checked_add(jiff::SignedDuration::try_from(ahead()).unwrap_or_default()).unwrap_or(now)
}

/// Returns a point in monotonic time, for measuring how long something took and when to wake.
pub fn instant() -> Instant {
    Instant::now() + ahead()
}

/// Lets time fly for the calling thread, for tests: instead of waiting it is ahead of the world by as
/// much, which `ahead_ms` tells.
pub fn fly(ahead_ms: Arc<AtomicU64>) {
    AHEAD_MS.with_borrow_mut(|it| *it = Some(ahead_ms));
}

/// Says how long a thread that wants to wait has to: so long, or not at all where time flies.
pub fn wait(pause: Duration) -> Duration {
    AHEAD_MS.with_borrow(|it| match it {
        None => pause,
        Some(it) => {
            // Rounded up, so that what was waited for has come.
            let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
            it.fetch_add(ms, Ordering::Relaxed);
            Duration::ZERO
        }
    })
}

fn ahead() -> Duration {
    AHEAD_MS.with_borrow(|it| match it {
        None => Duration::ZERO,
        Some(it) => Duration::from_millis(it.load(Ordering::Relaxed)),
    })
}
