//! The counts of all limits, by what is counted for whom.
//!
//! A count is half a cache line within the table of its shard, and is changed under the shard's lock. Locks are few and
//! stay close at hand, counts are many: an atomic operation on each of them would wait for memory every time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::{HashTable, hash_table::Entry};
use model::{Limit, LimitAmount};

use super::{Rate, rate::RateStanding};

const SHARDS: usize = 64;
const SWEEP_AT_LEAST: usize = 1_024;
/// Marks, in the number of a limit, one of calls at once.
const AT_ONCE: u64 = 1;

/// What is counted for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CounterKey {
    /// Who is counted.
    subject: u128,
    /// The limit and the deployment or version that it belongs to, so that a changed limit begins anew.
    limit: u64,
}

/// One count: for a rate the theoretical arrival time, for calls at once how many there are.
#[derive(Debug)]
#[repr(align(32))]
struct Count {
    // The key in parts, because a value beside the whole of it would need twice the room.
    subject: u128,
    limit: u64,
    value: u64,
}

/// All counts.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: Vec<Mutex<Shard>>,
    hasher: ahash::RandomState,
}

#[derive(Debug)]
struct Shard {
    counts: HashTable<Count>,
    sweep_at: usize,
}

impl CounterKey {
    /// The count of `subject` under the limit `number` of `owner`, a deployment or version.
    pub(crate) fn new(owner: u128, number: u64, subject: u128) -> Self {
        let limit = fixed_hasher().hash_one((owner, number));
        Self { subject, limit: limit & !AT_ONCE | number & AT_ONCE }
    }

    /// A number for a limit; equal limits have equal numbers as long as the process lives.
    pub(crate) fn limit_number(limit: &Limit) -> u64 {
        let (amount, kind) = match limit.amount {
            LimitAmount::Rate { requests, window_seconds, burst } => {
                ((requests, window_seconds, burst), 0)
            }
            LimitAmount::Concurrent { calls } => ((calls, 0, 0), AT_ONCE),
        };
        let number = fixed_hasher().hash_one((limit.name.as_str(), limit.per, amount));
        number & !AT_ONCE | kind
    }

    const fn counts_at_once(self) -> bool {
        self.limit & AT_ONCE != 0
    }
}

fn fixed_hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}

impl Count {
    const fn key(&self) -> CounterKey {
        CounterKey { subject: self.subject, limit: self.limit }
    }

    /// Whether forgetting it would change anything.
    const fn is_busy(&self, now: u64) -> bool {
        if self.key().counts_at_once() { self.value > 0 } else { self.value > now }
    }
}

impl Counters {
    pub(crate) fn new() -> Self {
        let shard = || Mutex::new(Shard { counts: HashTable::new(), sweep_at: SWEEP_AT_LEAST });
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self { shards, hasher: ahash::RandomState::new() }
    }

    /// Counts a call against a rate; fails with the time until one would be allowed.
    pub(crate) fn take(
        &self,
        key: CounterKey,
        rate: &Rate,
        now: u64,
    ) -> Result<RateStanding, Duration> {
        self.change(key, now, |arrival| rate.take(arrival, now))
    }

    /// Takes back a call that was counted and then refused for another reason.
    pub(crate) fn give_back(&self, key: CounterKey, rate: &Rate, now: u64) {
        self.change(key, now, |arrival| rate.give_back(arrival));
    }

    /// Counts a call in flight, to be given back with [`Self::leave`]; says whether there was room.
    pub(crate) fn enter(&self, key: CounterKey, most: u32, now: u64) -> bool {
        self.change(key, now, |calls| {
            let has_room = *calls < u64::from(most);
            *calls += u64::from(has_room);
            has_room
        })
    }

    /// A call that was counted as in flight has ended.
    pub(crate) fn leave(&self, key: CounterKey, now: u64) {
        self.change(key, now, |calls| *calls = calls.saturating_sub(1));
    }

    /// Changes the count under `key`, which begins at zero when there is none. Idle counts are swept out as the table
    /// grows, so that its size follows the callers that are active.
    fn change<T>(&self, key: CounterKey, now: u64, change: impl FnOnce(&mut u64) -> T) -> T {
        let hash = self.hasher.hash_one(key);
        let Some(mut shard) = self.shard(hash) else { return change(&mut 0) };
        let shard = &mut *shard;
        if let Some(known) = shard.counts.find_mut(hash, |count| count.key() == key) {
            return change(&mut known.value);
        }
        let rehash = |count: &Count| self.hasher.hash_one(count.key());
        if shard.counts.len() >= shard.sweep_at {
            shard.counts.retain(|count| count.is_busy(now));
            shard.sweep_at = (2 * shard.counts.len()).max(SWEEP_AT_LEAST);
            shard.counts.shrink_to(shard.sweep_at, rehash);
        }
        match shard.counts.entry(hash, |count| count.key() == key, rehash) {
            Entry::Occupied(mut known) => change(&mut known.get_mut().value),
            Entry::Vacant(place) => {
                let CounterKey { subject, limit } = key;
                change(&mut place.insert(Count { subject, limit, value: 0 }).get_mut().value)
            }
        }
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard>> {
        // By bits that the table within begins neither with nor tells entries apart by.
        let place = usize::try_from(hash >> 40).ok()? % SHARDS;
        self.shards.get(place).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 10;
    const CALLS: u64 = 10 | AT_ONCE;

    #[test]
    fn a_count_is_half_a_cache_line() {
        assert_eq!((size_of::<Count>(), align_of::<Count>()), (32, 32));
    }

    #[test]
    fn idle_counts_are_swept_out_and_busy_ones_stay() {
        let counters = Counters::new();
        let (busy, held) = (CounterKey::new(1, RATE, 0), CounterKey::new(1, CALLS, 1));
        let once_an_hour = Rate::new(1, 3_600, 1);
        assert!(counters.take(busy, &once_an_hour, 1).is_ok());
        assert!((0..3).all(|_| counters.enter(held, 3, 1)));
        let often = Rate::new(1_000_000_000, 1, 1);
        for now in 2..200_000 {
            assert!(counters.take(CounterKey::new(1, RATE, now.into()), &often, now).is_ok());
        }
        let kept: usize =
            counters.shards.iter().map(|shard| shard.lock().unwrap().counts.len()).sum();
        assert!(kept <= SHARDS * SWEEP_AT_LEAST, "{kept}");
        assert!(counters.take(busy, &once_an_hour, 200_000).is_err());
        assert!(!counters.enter(held, 3, 200_000));
        counters.leave(held, 200_000);
        assert!(counters.enter(held, 3, 200_000));
    }

    #[test]
    fn limits_and_owners_and_subjects_are_counted_apart() {
        let counters = Counters::new();
        let once = Rate::new(1, 3_600, 1);
        for (owner, number, subject) in [(1, 2, 3), (2, 2, 3), (1, 4, 3), (1, 2, 4)] {
            let key = CounterKey::new(owner, number, subject);
            assert!(counters.take(key, &once, 1).is_ok());
            assert!(counters.take(key, &once, 1).is_err());
        }
    }
}
