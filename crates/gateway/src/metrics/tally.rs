//! Counts of calls that only one worker changes, and all can read.
//!
//! Each worker has cells of its own, on cache lines of their own: what a call counts is a plain load and a plain store,
//! which nobody has to wait for. Reading adds up what the workers counted.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

/// From half a millisecond to half a minute, in seconds.
const DURATION_BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// What is longer than all has a bucket as well.
const BUCKETS: usize = DURATION_BUCKETS.len() + 1;

/// Durations, by how long they were.
#[derive(Debug, Default)]
struct Durations {
    /// Seconds, as the bits of a floating-point number.
    sum: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// A histogram as Prometheus is told of it.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Histogram {
    pub(super) sum: f64,
    pub(super) buckets: [(f64, u64); BUCKETS],
}

/// What one worker counts of one route; `KINDS` is of how many kinds a call may be.
#[derive(Debug)]
#[repr(align(64))]
struct RouteCells<const KINDS: usize> {
    durations: Durations,
    calls: [AtomicU64; KINDS],
}

/// What one worker counts of one deployment.
#[derive(Debug, Default)]
#[repr(align(64))]
struct DeploymentCells {
    in_flight: AtomicI64,
    upstream: Durations,
}

/// The calls of a route.
#[derive(Debug, Clone)]
pub(super) struct RouteTally<const KINDS: usize>(Arc<[RouteCells<KINDS>]>);

/// The calls of a deployment.
#[derive(Debug, Clone)]
pub(super) struct DeploymentTally(Arc<[DeploymentCells]>);

/// Adds to a number that nobody else changes.
fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Durations {
    fn observe(&self, seconds: f64) {
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed)) + seconds;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
        let place = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = self.buckets.get(place.unwrap_or(BUCKETS - 1)) {
            add(bucket, 1);
        }
    }
}

impl Histogram {
    fn of<'all>(all: impl Iterator<Item = &'all Durations>) -> Self {
        let mut histogram = Self::default();
        let bounds = DURATION_BUCKETS.into_iter().chain([f64::INFINITY]);
        for (bucket, bound) in histogram.buckets.iter_mut().zip(bounds) {
            bucket.0 = bound;
        }
        for durations in all {
            histogram.sum += f64::from_bits(durations.sum.load(Ordering::Relaxed));
            for ((_, count), bucket) in histogram.buckets.iter_mut().zip(&durations.buckets) {
                *count += bucket.load(Ordering::Relaxed);
            }
        }
        histogram
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl<const KINDS: usize> RouteTally<KINDS> {
    pub(super) fn new(workers: usize) -> Self {
        let cells = |_| RouteCells {
            durations: Durations::default(),
            calls: [const { AtomicU64::new(0) }; KINDS],
        };
        Self((0..workers).map(cells).collect())
    }

    /// Counts a call of this kind, for the worker that carried it.
    pub(super) fn count(&self, worker: usize, kind: usize, seconds: f64) {
        let Some(cells) = self.0.get(worker) else { return };
        cells.durations.observe(seconds);
        if let Some(calls) = cells.calls.get(kind) {
            add(calls, 1);
        }
    }

    pub(super) fn durations(&self) -> Histogram {
        Histogram::of(self.0.iter().map(|cells| &cells.durations))
    }

    /// Calls of each kind.
    pub(super) fn calls(&self) -> [u64; KINDS] {
        let mut sums = [0; KINDS];
        for cells in &*self.0 {
            for (sum, calls) in sums.iter_mut().zip(&cells.calls) {
                *sum += calls.load(Ordering::Relaxed);
            }
        }
        sums
    }
}

impl DeploymentTally {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| DeploymentCells::default()).collect())
    }

    /// A call begins, or one ends, at a worker.
    pub(super) fn change_in_flight(&self, worker: usize, by: i64) {
        let Some(DeploymentCells { in_flight, .. }) = self.0.get(worker) else { return };
        in_flight.store(in_flight.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    pub(super) fn observe_upstream(&self, worker: usize, seconds: f64) {
        if let Some(cells) = self.0.get(worker) {
            cells.upstream.observe(seconds);
        }
    }

    pub(super) fn in_flight(&self) -> i64 {
        self.0.iter().map(|cells| cells.in_flight.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn upstream(&self) -> Histogram {
        Histogram::of(self.0.iter().map(|cells| &cells.upstream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_count_is_added_up() {
        let route = RouteTally::<3>::new(2);
        route.count(0, 1, 0.000_5);
        route.count(1, 1, 0.002);
        route.count(1, 2, 31.0);
        route.count(2, 2, 1.0);
        assert_eq!(route.calls(), [0, 2, 1]);
        let durations = route.durations();
        let filled: Vec<_> =
            durations.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_5, 1), (0.002_5, 1), (f64::INFINITY, 1)]);
        assert_eq!(durations.count(), 3);
        assert!((durations.sum - 31.002_5).abs() < 1e-9);

        let deployment = DeploymentTally::new(2);
        deployment.change_in_flight(0, 1);
        deployment.change_in_flight(1, 1);
        deployment.change_in_flight(0, -1);
        deployment.observe_upstream(1, 0.2);
        assert_eq!((deployment.in_flight(), deployment.upstream().count()), (1, 1));
    }
}
