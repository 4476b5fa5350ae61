//! Rates: the generic cell rate algorithm on one number.
//!
//! The number is the theoretical arrival time: the moment, in nanoseconds since the process began, at which
//! all allowance would be whole again.

use std::time::Duration;

/// A rate, prepared for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    interval: u64,
    tolerance: u64,
    pub(crate) requests: u32,
    pub(crate) window_seconds: u32,
}

/// Where a caller stands after a call was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateStanding {
    /// How many calls may follow at once.
    pub(crate) remaining: u64,
    /// When all allowance is whole again.
    pub(crate) reset: Duration,
}

impl Rate {
    pub(crate) fn new(requests: u32, window_seconds: u32, burst: u32) -> Self {
        let window = u64::from(window_seconds.max(1)).saturating_mul(1_000_000_000);
        let interval = (window / u64::from(requests.max(1))).max(1);
        let tolerance = interval.saturating_mul(u64::from(burst.max(1)));
        Self { interval, tolerance, requests, window_seconds }
    }

    /// Counts a call at `now`; fails with the time until one would be allowed.
    pub(crate) fn take(&self, arrival: &mut u64, now: u64) -> Result<RateStanding, Duration> {
        let next = (*arrival).max(now).saturating_add(self.interval);
        let ahead = next - now;
        if ahead > self.tolerance {
            return Err(Duration::from_nanos(ahead - self.tolerance));
        }
        *arrival = next;
        let remaining = (self.tolerance - ahead) / self.interval;
        Ok(RateStanding { remaining, reset: Duration::from_nanos(ahead) })
    }

    /// Takes back a call that was counted and then refused for another reason.
    pub(crate) const fn give_back(&self, arrival: &mut u64) {
        *arrival = arrival.saturating_sub(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let rate = Rate::new(10, 10, 3);
        let mut counter = 0;
        let now = 100 * SECOND;
        let left: Vec<_> =
            (0..3).map(|_| rate.take(&mut counter, now).unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        assert_eq!(rate.take(&mut counter, now), Err(Duration::from_secs(1)));
        assert_eq!(rate.take(&mut counter, now + SECOND / 2), Err(Duration::from_millis(500)));
        assert!(rate.take(&mut counter, now + SECOND).is_ok());
        assert!(rate.take(&mut counter, now + SECOND).is_err());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let rate = Rate::new(1, 60, 1);
        let mut counter = 0;
        rate.take(&mut counter, SECOND).unwrap();
        assert!(rate.take(&mut counter, SECOND).is_err());
        rate.give_back(&mut counter);
        assert_eq!(rate.take(&mut counter, SECOND).unwrap().remaining, 0);
    }
}
