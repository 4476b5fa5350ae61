//! Latencies as a mergeable histogram, so that percentiles over hours, days and nodes are right.
//!
//! Buckets are log-linear: 64 per power of two, so that a percentile is within 0.8 % of the true value.

use std::collections::BTreeMap;

const SUB_BITS: u32 = 6;

/// A histogram of durations in microseconds. Merging two gives what one over all calls would have given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencySketch {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    sum_micros: u64,
}

impl LatencySketch {
    /// Adds one duration in microseconds.
    pub fn record(&mut self, micros: u64) {
        *self.buckets.entry(bucket(micros)).or_default() += 1;
        self.count += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds everything that another sketch has seen.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.count += other.count;
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// How many durations were added.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean in microseconds; `None` when nothing was added.
    pub fn mean_micros(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits")]
        (self.count > 0).then(|| self.sum_micros as f64 / self.count as f64)
    }

    /// The duration in microseconds below which `share` (0 to 1) of all durations lie, by the nearest rank.
    pub fn quantile_micros(&self, share: f64) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 1 and the count"
        )]
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Some(middle(*bucket));
            }
        }
        None
    }

    /// A compact form for storage: variable-length integers, see [`Self::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * self.buckets.len() + 8);
        push_varint(&mut bytes, self.sum_micros);
        let mut previous = 0;
        for (bucket, count) in &self.buckets {
            push_varint(&mut bytes, u64::from(bucket - previous));
            push_varint(&mut bytes, *count);
            previous = *bucket;
        }
        bytes
    }

    /// Reads the compact form; `None` when it is damaged.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut sketch = Self { sum_micros: take_varint(&mut bytes)?, ..Self::default() };
        let mut bucket = 0_u16;
        while !bytes.is_empty() {
            bucket = bucket.checked_add(u16::try_from(take_varint(&mut bytes)?).ok()?)?;
            let count = take_varint(&mut bytes)?;
            sketch.count = sketch.count.checked_add(count)?;
            *sketch.buckets.entry(bucket).or_default() += count;
        }
        Some(sketch)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most 64 × 64 buckets")]
fn bucket(micros: u64) -> u16 {
    let exponent = micros.max(1).ilog2();
    if exponent < SUB_BITS {
        return micros as u16;
    }
    let shift = exponent - SUB_BITS;
    ((shift << SUB_BITS) as u64 + (micros >> shift)) as u16
}

#[expect(clippy::cast_precision_loss, reason = "the error stays far below a bucket's width")]
fn middle(bucket: u16) -> f64 {
    let bucket = u64::from(bucket);
    if bucket < 1 << (SUB_BITS + 1) {
        return bucket as f64;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    let low = (bucket - (shift << SUB_BITS)) << shift;
    low as f64 + (1_u64 << shift) as f64 / 2.0
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_percentile_is_within_a_percent(mut values in proptest::collection::vec(1_u64..1 << 40, 1..300), share in 0.01_f64..1.0) {
            let mut sketch = LatencySketch::default();
            values.iter().for_each(|value| sketch.record(*value));
            values.sort_unstable();
            let below = (1..=values.len()).find(|rank| *rank as f64 >= share * values.len() as f64);
            let rank = below.unwrap_or(values.len());
            let truth = values[rank - 1] as f64;
            let found = sketch.quantile_micros(share).unwrap();
            prop_assert!((found - truth).abs() <= truth * 0.01 + 0.5, "{found} for {truth}");
        }

        #[test]
        fn merging_is_as_good_as_recording(left in proptest::collection::vec(0_u64..1 << 50, 0..50), right in proptest::collection::vec(0_u64..1 << 50, 0..50)) {
            let sketch_of = |values: &[u64]| {
                let mut sketch = LatencySketch::default();
                values.iter().for_each(|value| sketch.record(*value));
                sketch
            };
            let mut merged = sketch_of(&left);
            merged.merge(&sketch_of(&right));
            prop_assert_eq!(&merged, &sketch_of(&[left, right].concat()));
            prop_assert_eq!(LatencySketch::from_bytes(&merged.to_bytes()), Some(merged));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = LatencySketch::from_bytes(&bytes);
        }
    }

    #[test]
    fn an_empty_sketch_has_no_percentiles() {
        let sketch = LatencySketch::default();
        assert_eq!((sketch.quantile_micros(0.5), sketch.mean_micros()), (None, None));
    }
}
