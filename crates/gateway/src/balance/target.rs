//! One target, and what is known of its health.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use http::HeaderValue;
use model::{TargetId, UpstreamUrl};
use prometheus_client::metrics::gauge::Gauge;

use super::{endpoint::Endpoint, spread};
use crate::metrics::DeploymentMetrics;

/// The least share of its calls that a target gets while it is brought up, in percent.
const RAMP_LEAST: u64 = 5;

/// One target. It outlives snapshots as long as it keeps its identifier, address and way of being reached. What each
/// call looks at comes first.
#[repr(C)]
pub(crate) struct Target {
    /// Tells targets apart within the process.
    pub(crate) number: u64,
    pub(crate) endpoint: Arc<Endpoint>,
    /// Nanoseconds since the process began, until which calls spare it.
    ejected_until: AtomicU64,
    /// Until when it is brought up to its share after it was away.
    ramp_until: AtomicU64,
    in_flight: AtomicU32,
    failures: AtomicU32,
    checked_down: AtomicBool,
    /// The `Host` header of calls to it.
    pub(crate) authority: HeaderValue,
    pub(crate) url: UpstreamUrl,
    pub(crate) id: TargetId,
    /// Tells targets apart for hashing, the same on every gateway.
    pub(super) seed: u64,
    ejections: AtomicU32,
    gauge: Gauge,
    metrics: Arc<DeploymentMetrics>,
}

/// When calls spare a target, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sparing {
    /// 0 for never.
    pub(super) after: u32,
    pub(super) first: u64,
    pub(super) longest: u64,
    pub(super) slow_start: u64,
}

impl Target {
    pub(super) fn new(
        entry: &model::Target,
        metrics: &Arc<DeploymentMetrics>,
        endpoint: Arc<Endpoint>,
    ) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let authority = HeaderValue::from_str(&entry.url.authority()).ok()?;
        let gauge = metrics.target(entry.id.to_string());
        gauge.set(1);
        Some(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            id: entry.id,
            url: entry.url.clone(),
            authority,
            endpoint,
            seed: spread::hash(&entry.id.bits().to_be_bytes()),
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            ramp_until: AtomicU64::new(0),
            checked_down: AtomicBool::new(false),
            gauge,
            metrics: Arc::clone(metrics),
        })
    }

    /// Calls on their way to it.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether checks found it down.
    pub(super) fn is_down(&self) -> bool {
        self.checked_down.load(Ordering::Relaxed)
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Whether neither checks nor calls speak against it.
    pub(super) fn is_well(&self, now: u64) -> bool {
        !self.is_down() && !self.is_ejected(now)
    }

    /// Whether it takes a call now, given that it is well: always, unless it is being brought up, when `chance` decides.
    pub(super) fn is_up_to_it(&self, slow_start: u64, chance: u64, now: u64) -> bool {
        let until = self.ramp_until.load(Ordering::Relaxed);
        if until <= now || slow_start == 0 {
            return true;
        }
        let done = slow_start.saturating_sub(until - now);
        chance % 100 < (done.saturating_mul(100) / slow_start).max(RAMP_LEAST)
    }

    /// A call to it went well.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.show();
        }
    }

    /// A call to it failed. Says whether it should be spared.
    pub(super) fn failed(&self, sparing: &Sparing, now: u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        sparing.after > 0 && failures >= sparing.after && !self.is_ejected(now)
    }

    /// Spares it for a while, each time in a row for longer.
    pub(super) fn eject(&self, sparing: &Sparing, now: u64) {
        let ejections = self.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = sparing.first.saturating_mul(1 << ejections).min(sparing.longest);
        let until = now.saturating_add(pause);
        self.ramp_until.store(until.saturating_add(sparing.slow_start), Ordering::Relaxed);
        self.ejected_until.store(until, Ordering::Relaxed);
        self.gauge.set(0);
    }

    /// A health check found it up or down.
    pub(super) fn checked(&self, up: bool, slow_start: u64, now: u64) {
        if up {
            self.ramp_until.store(now.saturating_add(slow_start), Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
        self.checked_down.store(!up, Ordering::Relaxed);
        self.show();
    }

    /// Nobody checks it any more.
    pub(super) fn is_unchecked(&self) {
        if self.checked_down.swap(false, Ordering::Relaxed) {
            self.show();
        }
    }

    fn show(&self) {
        self.gauge.set(i64::from(!self.is_down()));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.metrics.forget_target(self.id.to_string());
    }
}
