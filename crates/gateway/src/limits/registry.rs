//! The counters of all limits, by what is counted for whom.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use model::Limit;

const SHARDS: usize = 64;
const SWEEP_AT_LEAST: usize = 1_024;

/// What is counted for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CounterKey {
    /// The deployment or version that the limit belongs to.
    owner: u128,
    /// The limit itself, so that a changed limit begins anew.
    limit: u64,
    /// Who is counted.
    subject: u128,
}

/// One counter. A rate uses the first number, a limit of calls at once the second.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) arrival: AtomicU64,
    pub(crate) in_flight: AtomicU32,
}

/// All counters.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: Vec<Mutex<Shard>>,
    hasher: ahash::RandomState,
}

#[derive(Debug)]
struct Shard {
    cells: HashMap<CounterKey, Arc<Cell>, ahash::RandomState>,
    sweep_at: usize,
}

impl CounterKey {
    pub(crate) const fn new(owner: u128, limit: u64, subject: u128) -> Self {
        Self { owner, limit, subject }
    }

    /// A number for a limit; equal limits have equal numbers as long as the process lives.
    pub(crate) fn limit_number(limit: &Limit) -> u64 {
        ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one((
            limit.name.as_str(),
            limit.per,
            match limit.amount {
                model::LimitAmount::Rate { requests, window_seconds, burst } => {
                    (0, requests, window_seconds, burst)
                }
                model::LimitAmount::Concurrent { calls } => (1, calls, 0, 0),
            },
        ))
    }
}

impl Counters {
    pub(crate) fn new() -> Self {
        let shard = || Mutex::new(Shard { cells: HashMap::default(), sweep_at: SWEEP_AT_LEAST });
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self { shards, hasher: ahash::RandomState::new() }
    }

    /// The counter under `key`; begins at zero when there is none. Idle counters are swept out as the table grows,
    /// so that its size follows the callers that are active.
    pub(crate) fn cell(&self, key: CounterKey, now: u64) -> Arc<Cell> {
        let place = self.hasher.hash_one(key) % SHARDS as u64;
        let shard = usize::try_from(place).ok().and_then(|place| self.shards.get(place));
        let Some(shard) = shard else { return Arc::default() };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = shard.cells.get(&key) {
            return Arc::clone(cell);
        }
        if shard.cells.len() >= shard.sweep_at {
            shard.cells.retain(|_, cell| {
                Arc::strong_count(cell) > 1 || cell.arrival.load(Ordering::Relaxed) > now
            });
            shard.sweep_at = (2 * shard.cells.len()).max(SWEEP_AT_LEAST);
        }
        let cell = Arc::<Cell>::default();
        shard.cells.insert(key, Arc::clone(&cell));
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_counters_are_swept_out_and_busy_ones_stay() {
        let counters = Counters::new();
        let busy = CounterKey::new(1, 1, 0);
        let held = CounterKey::new(1, 1, 1);
        counters.cell(busy, 0).arrival.store(u64::MAX, Ordering::Relaxed);
        let holder = counters.cell(held, 0);
        holder.in_flight.store(3, Ordering::Relaxed);
        for subject in 2..200_000 {
            counters.cell(CounterKey::new(1, 1, subject), 10);
        }
        let kept: usize =
            counters.shards.iter().map(|shard| shard.lock().unwrap().cells.len()).sum();
        assert!(kept <= SHARDS * SWEEP_AT_LEAST, "{kept}");
        assert_eq!(counters.cell(busy, 0).arrival.load(Ordering::Relaxed), u64::MAX);
        assert_eq!(counters.cell(held, 0).in_flight.load(Ordering::Relaxed), 3);
    }
}
