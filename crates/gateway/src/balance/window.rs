//! Counts over the last moments, by atomics alone.

use std::sync::atomic::{AtomicU64, Ordering};

const SLICES: usize = 10;
const STAMP_BITS: u32 = 20;
const COUNT_BITS: u32 = 22;
const STAMP: u64 = (1 << STAMP_BITS) - 1;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const ONE_BAD: u64 = 1 << STAMP_BITS;
const ONE: u64 = 1 << (STAMP_BITS + COUNT_BITS);

/// How much there was, and how much of it was bad, over a sliding window in ten slices.
///
/// A slice is one word: what was counted, and the stamp of the time it belongs to, so that a slice of long ago is
/// recognised and begun anew by whoever counts next.
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; SLICES]);

/// What a window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) all: u64,
    pub(super) bad: u64,
}

impl Window {
    /// Counts one at `now`, nanoseconds since the process began, in a window of `length` nanoseconds.
    pub(super) fn count(&self, bad: bool, now: u64, length: u64) {
        let (number, stamp) = slice_at(now, length);
        let Some(slice) = self.0.get(number) else { return };
        let one = if bad { ONE + ONE_BAD } else { ONE };
        let mut known = slice.load(Ordering::Relaxed);
        loop {
            if known & STAMP == stamp {
                slice.fetch_add(one, Ordering::Relaxed);
                return;
            }
            let begun = one | stamp;
            match slice.compare_exchange(known, begun, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => known = other,
            }
        }
    }

    /// What was counted within the `length` before `now`.
    pub(super) fn sum(&self, now: u64, length: u64) -> Sum {
        let (_, newest) = slice_at(now, length);
        self.0.iter().fold(Sum::default(), |sum, slice| {
            let slice = slice.load(Ordering::Relaxed);
            let age = newest.wrapping_sub(slice & STAMP) & STAMP;
            if age >= SLICES as u64 {
                return sum;
            }
            let bad = slice >> STAMP_BITS & COUNT;
            Sum { all: sum.all + (slice >> (STAMP_BITS + COUNT_BITS)), bad: sum.bad + bad }
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|slice| slice.store(0, Ordering::Relaxed));
    }
}

/// The place of a moment, and its stamp, which is never that of an empty slice.
fn slice_at(now: u64, length: u64) -> (usize, u64) {
    let number = now / (length / SLICES as u64).max(1) + SLICES as u64;
    let place = usize::try_from(number % SLICES as u64).unwrap_or(0);
    (place, number & STAMP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 1_000;

    #[test]
    fn what_is_counted_fades_slice_by_slice() {
        let window = Window::default();
        for now in 0..LENGTH {
            window.count(now % 4 == 0, now, LENGTH);
        }
        assert_eq!(window.sum(LENGTH - 1, LENGTH), Sum { all: 1_000, bad: 250 });
        assert_eq!(window.sum(LENGTH + 499, LENGTH), Sum { all: 500, bad: 125 });
        assert_eq!(window.sum(2 * LENGTH, LENGTH), Sum::default());
        window.count(true, 2 * LENGTH, LENGTH);
        assert_eq!(window.sum(2 * LENGTH, LENGTH), Sum { all: 1, bad: 1 });
        window.clear();
        assert_eq!(window.sum(2 * LENGTH, LENGTH), Sum::default());
    }

    #[test]
    fn nothing_counts_before_the_first_call() {
        assert_eq!(Window::default().sum(0, LENGTH), Sum::default());
    }

    #[test]
    fn threads_count_together() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|now| window.count(true, now / 20, LENGTH)));
            }
        });
        assert_eq!(window.sum(499, LENGTH), Sum { all: 40_000, bad: 40_000 });
    }
}
