//! Quotas: calls in a calendar period.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use model::{Quota, QuotaPeriod, QuotaUse, SubscriptionId};

const SHARDS: usize = 64;

type Shard = HashMap<SubscriptionId, Arc<QuotaCounter>, ahash::RandomState>;

/// The counters of all subscriptions that were used in their period.
#[derive(Debug)]
pub(crate) struct Quotas {
    shards: Vec<Mutex<Shard>>,
    hasher: ahash::RandomState,
}

/// Calls counted in the current period of one subscription.
#[derive(Debug)]
pub(crate) struct QuotaCounter(Mutex<Period>);

#[derive(Debug, Clone, Copy)]
struct Period {
    start: Timestamp,
    end: Timestamp,
    used: u64,
}

/// Where a subscription stands after a call was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaStanding {
    pub(crate) remaining: u64,
    pub(crate) reset: Duration,
}

impl Quotas {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: ahash::RandomState::new() }
    }

    /// The counter of a subscription; begins at zero when it was not heard of.
    pub(crate) fn counter(
        &self,
        subscription: SubscriptionId,
        period: QuotaPeriod,
        now: Timestamp,
    ) -> Arc<QuotaCounter> {
        let Some(mut shard) = self.shard(subscription) else {
            return Arc::new(QuotaCounter::new(period, now, 0));
        };
        let counter = shard
            .entry(subscription)
            .or_insert_with(|| Arc::new(QuotaCounter::new(period, now, 0)));
        Arc::clone(counter)
    }

    /// Learns what all gateways have counted, and forgets the counters of periods that are over.
    pub(crate) fn learn(&self, quota: &QuotaUse) {
        for shard in &self.shards {
            lock(shard)
                .retain(|_, counter| Arc::strong_count(counter) > 1 || !counter.is_over(quota.at));
        }
        for (subscription, period, calls) in &quota.used {
            self.counter(*subscription, *period, quota.at).learn(*period, quota.at, *calls);
        }
    }

    fn shard(&self, subscription: SubscriptionId) -> Option<MutexGuard<'_, Shard>> {
        let place = self.hasher.hash_one(subscription) % SHARDS as u64;
        usize::try_from(place).ok().and_then(|place| self.shards.get(place)).map(lock)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QuotaCounter {
    /// A counter with `used` calls in the period that contains `at`.
    pub(crate) fn new(period: QuotaPeriod, at: Timestamp, used: u64) -> Self {
        let (start, end) = period.bounds(at);
        Self(Mutex::new(Period { start, end, used }))
    }

    /// Learns how many calls others have counted in the period that contains `at`.
    pub(crate) fn learn(&self, period: QuotaPeriod, at: Timestamp, used: u64) {
        let (start, end) = period.bounds(at);
        let mut current = self.lock();
        if (start, end) == (current.start, current.end) {
            current.used = current.used.max(used);
        } else if start > current.start {
            *current = Period { start, end, used };
        }
    }

    /// Whether its period had ended at `at`.
    fn is_over(&self, at: Timestamp) -> bool {
        self.lock().end <= at
    }

    /// Counts a call; fails with the time until the next period.
    pub(crate) fn take(&self, quota: Quota, now: Timestamp) -> Result<QuotaStanding, Duration> {
        let mut current = self.lock();
        if now >= current.end {
            let (start, end) = quota.period.bounds(now);
            *current = Period { start, end, used: 0 };
        }
        let reset = Duration::try_from(current.end.duration_since(now)).unwrap_or_default();
        if current.used >= quota.requests {
            return Err(reset);
        }
        current.used += 1;
        Ok(QuotaStanding { remaining: quota.requests - current.used, reset })
    }

    fn lock(&self) -> MutexGuard<'_, Period> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_quota_starts_anew_with_the_period() {
        let quota = Quota { requests: 2, period: QuotaPeriod::Day };
        let counter = QuotaCounter::new(quota.period, at("2026-01-01T10:00:00Z"), 1);
        let standing = counter.take(quota, at("2026-01-01T23:00:00Z")).unwrap();
        assert_eq!(standing, QuotaStanding { remaining: 0, reset: Duration::from_secs(3_600) });
        let refused = counter.take(quota, at("2026-01-01T23:59:58.5Z"));
        assert_eq!(refused, Err(Duration::from_millis(1_500)));
        assert_eq!(counter.take(quota, at("2026-01-02T00:00:00Z")).unwrap().remaining, 1);
    }

    #[test]
    fn the_higher_count_of_the_same_period_wins() {
        let quota = Quota { requests: 10, period: QuotaPeriod::Month };
        let counter = QuotaCounter::new(quota.period, at("2026-01-05T00:00:00Z"), 4);
        counter.learn(quota.period, at("2026-01-06T00:00:00Z"), 7);
        counter.learn(quota.period, at("2026-01-06T00:00:00Z"), 2);
        counter.learn(quota.period, at("2025-12-31T00:00:00Z"), 9);
        assert_eq!(counter.take(quota, at("2026-01-07T00:00:00Z")).unwrap().remaining, 2);
    }
}
