//! The only room that asks what time it is.
//!
//! Everything else is handed a time, so that tests can hold it still and no decision rests on it.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may ask for the time")]

use std::time::Instant;

/// Returns the time of day in UTC, for people and for records; never for a decision.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Returns a point in monotonic time, for measuring how long something took and when to wake.
pub fn instant() -> Instant {
    Instant::now()
}
