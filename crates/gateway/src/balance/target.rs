//! Targets, their health, and the choice among them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use model::{HealthCheck, TargetId, UpstreamUrl};
use prometheus_client::metrics::gauge::Gauge;

use super::resolve::{Endpoint, Endpoints};
use crate::metrics::DeploymentMetrics;

/// Failures in a row after which a target is spared for a while.
const EJECT_AFTER: u32 = 5;
const EJECT_FIRST: Duration = Duration::from_secs(5);
const EJECT_LONGEST: Duration = Duration::from_secs(60);
/// Longest list of turns that weights are laid out on.
const TURNS_MAX: usize = 4_096;

/// The pool behind a deployment.
pub(crate) struct Upstream {
    pub(crate) targets: Vec<Arc<Target>>,
    /// Targets in the order in which they take calls; each stands in it as often as its weight says.
    turns: Vec<Arc<Target>>,
    next: AtomicUsize,
    pub(crate) timeout: Duration,
    pub(crate) retries: u8,
    pub(crate) health_check: Option<HealthCheck>,
}

/// One target. It outlives snapshots as long as it keeps its identifier and address.
pub(crate) struct Target {
    /// Tells targets apart within the process.
    pub(crate) number: u64,
    pub(crate) id: TargetId,
    pub(crate) url: UpstreamUrl,
    /// The `Host` header of calls to it.
    pub(crate) authority: HeaderValue,
    pub(crate) endpoint: Arc<Endpoint>,
    failures: AtomicU32,
    /// Nanoseconds since the process began, until which calls spare it.
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    checked_down: AtomicBool,
    gauge: Gauge,
    metrics: Arc<DeploymentMetrics>,
}

/// Why no target can take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoneHealthy;

impl Upstream {
    /// Prepares a pool; targets that `previous` already knew stay what they are. `None` when an address cannot
    /// stand in a header.
    pub(crate) fn compile(
        upstream: &model::Upstream,
        previous: Option<&Self>,
        metrics: &Arc<DeploymentMetrics>,
        endpoints: &mut Endpoints,
    ) -> Option<Self> {
        let mut targets = Vec::with_capacity(upstream.targets.len());
        let mut weights = Vec::with_capacity(upstream.targets.len());
        for entry in &upstream.targets {
            let known = previous
                .iter()
                .flat_map(|upstream| &upstream.targets)
                .find(|target| target.id == entry.id && target.url == entry.url);
            let target = match known {
                Some(target) => Arc::clone(target),
                None => Arc::new(Target::new(entry, metrics, endpoints)?),
            };
            if upstream.health_check.is_none() {
                target.checked_down.store(false, Ordering::Relaxed);
            }
            targets.push(target);
            weights.push(entry.weight);
        }
        let turns = lay_out(&weights).filter_map(|at| targets.get(at).map(Arc::clone)).collect();
        Some(Self {
            targets,
            turns,
            next: AtomicUsize::new(0),
            timeout: Duration::from_millis(u64::from(upstream.timeout_ms.max(1))),
            retries: upstream.retries,
            health_check: upstream.health_check.clone(),
        })
    }

    /// The target whose turn it is, passing over those that are not well and those that were tried.
    ///
    /// When failing calls, rather than checks, speak against all targets, one of them is tried all the same.
    pub(crate) fn choose(
        &self,
        tried: &[Arc<Target>],
        now: u64,
    ) -> Result<&Arc<Target>, NoneHealthy> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let turns = || {
            let first = first % self.turns.len().max(1);
            self.turns.iter().cycle().skip(first).take(self.turns.len())
        };
        let up = |target: &&Arc<Target>| !target.checked_down.load(Ordering::Relaxed);
        let fresh = |target: &&Arc<Target>| !tried.iter().any(|old| Arc::ptr_eq(old, target));
        let well = |target: &&Arc<Target>| target.ejected_until.load(Ordering::Relaxed) <= now;
        turns()
            .find(|target| up(target) && well(target) && fresh(target))
            .or_else(|| turns().find(|target| up(target) && fresh(target)))
            .or_else(|| turns().find(up))
            .ok_or(NoneHealthy)
    }
}

impl Target {
    fn new(
        entry: &model::Target,
        metrics: &Arc<DeploymentMetrics>,
        endpoints: &mut Endpoints,
    ) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let gauge = metrics.target(entry.id.to_string());
        gauge.set(1);
        Some(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            id: entry.id,
            url: entry.url.clone(),
            authority: HeaderValue::from_str(&entry.url.authority()).ok()?,
            endpoint: endpoints.at(&entry.url),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            checked_down: AtomicBool::new(false),
            gauge,
            metrics: Arc::clone(metrics),
        })
    }

    /// A call to it went well.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.show();
        }
    }

    /// A call to it failed; after some in a row it is spared, each time for longer.
    pub(crate) fn failed(&self, now: u64) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= EJECT_AFTER && self.ejected_until.load(Ordering::Relaxed) <= now {
            let ejections = self.ejections.fetch_add(1, Ordering::Relaxed).min(8);
            let pause = EJECT_FIRST.saturating_mul(1 << ejections).min(EJECT_LONGEST);
            let pause = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
            self.ejected_until.store(now.saturating_add(pause), Ordering::Relaxed);
            self.gauge.set(0);
        }
    }

    /// A health check found it up or down.
    pub(crate) fn checked(&self, up: bool) {
        self.checked_down.store(!up, Ordering::Relaxed);
        if up {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
        self.show();
    }

    fn show(&self) {
        self.gauge.set(i64::from(!self.checked_down.load(Ordering::Relaxed)));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.metrics.forget_target(self.id.to_string());
    }
}

/// Lays out turns so that the share of each place is its weight and heavy ones are spread (smooth weighted round
/// robin); weights are divided by their greatest common divisor first.
fn lay_out(weights: &[u16]) -> impl Iterator<Item = usize> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    (0..total).take(TURNS_MAX).filter_map(move |_| {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        // Among equals the first takes its turn.
        let (at, most) = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
        *most -= total;
        Some(at)
    })
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights() {
        let turns = |weights: &[u16]| lay_out(weights).collect::<Vec<_>>();
        assert_eq!(turns(&[1, 1]), [0, 1]);
        assert_eq!(turns(&[100, 50]), [0, 1, 0]);
        assert_eq!(turns(&[5, 0, 5]), [0, 2]);
        assert!(turns(&[0, 0]).is_empty());
        let many = turns(&[u16::MAX, 1]);
        assert_eq!(many.len(), TURNS_MAX);
    }
}
