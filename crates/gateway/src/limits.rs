//! Counting calls against limits.
//!
//! Counters live outside the snapshot, under a key that says what is counted for whom, so that they survive a new
//! snapshot as long as the limit stays the same.

mod failures;
mod quota;
mod rate;
mod registry;

pub(crate) use failures::Failures;
pub(crate) use quota::{QuotaCounter, Quotas};
pub(crate) use rate::Rate;
pub(crate) use registry::{CounterKey, Counters};
