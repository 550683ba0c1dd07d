//! When to try again. Pure: it is told how often it failed, and a number for the jitter.

use std::time::Duration;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After the first failure.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

/// How long to wait after the `failures`-th failure in a row (counted from 1).
///
/// The wait doubles each time up to the most, less up to a quarter: many agents that lost one
/// remote together must not come back together. `seed` picks the share.
pub fn wait(patience: Patience, failures: u32, seed: u64) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1).min(20));
    let full = patience.min.saturating_mul(doubled).min(patience.max);
    let share = u32::try_from(seed % 256).unwrap_or(0);
    full - full / 4 * share / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_most() {
        let patience = Patience { min: Duration::from_secs(1), max: Duration::from_secs(60) };
        let secs: Vec<u64> = (1..9).map(|n| wait(patience, n, 0).as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(patience, u32::MAX, 0).as_secs(), 60);
    }

    #[test]
    fn jitter_takes_at_most_a_quarter() {
        let patience = Patience { min: Duration::from_secs(4), max: Duration::from_secs(60) };
        for seed in 0..512 {
            let it = wait(patience, 1, seed);
            assert!(it > Duration::from_secs(3) && it <= Duration::from_secs(4), "{it:?}");
        }
    }
}
