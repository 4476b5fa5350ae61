//! Rate limits of the control API itself: a bucket per address before signing in, and per caller after.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

/// Buckets that refill steadily. Bounded: full buckets are forgotten, they say nothing.
pub(crate) struct Throttle {
    buckets: Mutex<HashMap<String, Bucket>>,
    per_second: f64,
    burst: f64,
}

struct Bucket {
    left: f64,
    at: Timestamp,
}

const BUCKETS_MAX: usize = 50_000;

impl Throttle {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            buckets: Mutex::new(HashMap::new()),
            per_second: f64::from(per_second.max(1)),
            burst: f64::from(burst.max(1)),
        }
    }

    /// Takes one request of `key`; says how long to wait when there is none left.
    pub(crate) fn take(&self, key: &str, now: Timestamp) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(key) {
            buckets.retain(|_, bucket| self.refilled(bucket, now) < self.burst);
            if buckets.len() >= BUCKETS_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { left: self.burst, at: now });
        let left = self.refilled(bucket, now);
        bucket.at = now;
        if left < 1.0 {
            bucket.left = left;
            return Err(Duration::from_secs_f64((1.0 - left) / self.per_second));
        }
        bucket.left = left - 1.0;
        Ok(())
    }

    fn refilled(&self, bucket: &Bucket, now: Timestamp) -> f64 {
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        (bucket.left + passed * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills() {
        let throttle = Throttle::new(2, 3);
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..3 {
            assert!(throttle.take("a", start).is_ok());
        }
        assert_eq!(throttle.take("a", start), Err(Duration::from_millis(500)));
        assert!(throttle.take("b", start).is_ok());
        let later = start + jiff::SignedDuration::from_millis(500);
        assert!(throttle.take("a", later).is_ok());
        assert!(throttle.take("a", later).is_err());
    }
}
