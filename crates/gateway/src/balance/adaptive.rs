//! How many calls at the same time the latency of a pool shows it to bear.
//!
//! The gradient between the latency of late and that of a longer past tells whether calls queue up behind the gateway:
//! while it does not rise, the limit grows by the room a queue may have (the square root of the limit); when it rises,
//! the limit shrinks with it. Nobody waits: who finds the sums taken leaves the measurement out.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

const FIRST: f64 = 64.0;
const LEAST: f64 = 4.0;
const MOST: f64 = 65_536.0;
/// Latency may rise this much before it counts.
const TOLERANCE: f64 = 1.5;
/// How much of each window goes into the limit, and into the long past.
const SMOOTHING: f64 = 0.2;
const LONG: f64 = 1.0 / 600.0;
/// A window ends after this time and this many measurements.
const WINDOW: u64 = 100_000_000;
const SAMPLES: u32 = 10;

#[derive(Debug)]
pub(super) struct Adaptive {
    limit: AtomicU32,
    sums: Mutex<Sums>,
}

#[derive(Debug)]
struct Sums {
    limit: f64,
    long: f64,
    total: f64,
    samples: u32,
    busiest: u32,
    since: u64,
}

impl Default for Adaptive {
    fn default() -> Self {
        let sums = Sums { limit: FIRST, long: 0.0, total: 0.0, samples: 0, busiest: 0, since: 0 };
        Self { limit: AtomicU32::new(whole(FIRST)), sums: Mutex::new(sums) }
    }
}

impl Adaptive {
    /// The most calls at the same time, for now.
    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes note of how long a target took to answer while `in_flight` calls were on their way.
    pub(super) fn measured(&self, nanos: u64, in_flight: u32, now: u64) {
        let Ok(mut sums) = self.sums.try_lock() else { return };
        sums.total += nanos as f64;
        sums.samples += 1;
        sums.busiest = sums.busiest.max(in_flight);
        if sums.samples >= SAMPLES && now.saturating_sub(sums.since) >= WINDOW {
            sums.close(now);
            self.limit.store(whole(sums.limit), Ordering::Relaxed);
        }
    }
}

impl Sums {
    fn close(&mut self, now: u64) {
        let short = (self.total / f64::from(self.samples)).max(1.0);
        // Better latency is a measure at once; worse only slowly, or an overload would soon pass for what is usual.
        self.long = if self.long == 0.0 || short < self.long {
            short
        } else {
            self.long + LONG * (short - self.long)
        };
        let gradient = (TOLERANCE * self.long / short).clamp(0.5, 1.0);
        let aim = self.limit * gradient + self.limit.sqrt();
        // A limit that is not reached says nothing about whether a higher one would do.
        if aim < self.limit || f64::from(self.busiest) * 2.0 >= self.limit {
            let limit = self.limit + SMOOTHING * (aim - self.limit);
            self.limit = limit.clamp(LEAST, MOST);
        }
        (self.total, self.samples, self.busiest, self.since) = (0.0, 0, 0, now);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits are kept between LEAST and MOST"
)]
const fn whole(limit: f64) -> u32 {
    limit as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Measures windows of a pool that serves `width` calls at once in 10 ms each, and queues those beyond.
    fn drive(adaptive: &Adaptive, width: u32, windows: u64, from: u64) -> u32 {
        for number in 0..windows * u64::from(SAMPLES) {
            let limit = adaptive.limit();
            let latency = 10 * MILLI * u64::from(limit.max(width)) / u64::from(width);
            adaptive.measured(latency, limit, from + number * 10 * MILLI);
        }
        adaptive.limit()
    }

    #[test]
    fn it_grows_while_latency_stays_and_shrinks_when_it_rises() {
        let adaptive = Adaptive::default();
        let found = drive(&adaptive, 200, 200, 0);
        assert!((150..=500).contains(&found), "{found}");
        let less = drive(&adaptive, 20, 30, 20_000 * MILLI);
        assert!(less < found / 2, "{less} after {found}");
        assert!(less >= 4);
    }

    #[test]
    fn it_does_not_grow_while_few_call() {
        let adaptive = Adaptive::default();
        for number in 0..1_000 {
            adaptive.measured(10 * MILLI, 3, number * 20 * MILLI);
        }
        assert_eq!(adaptive.limit(), 64);
    }
}
