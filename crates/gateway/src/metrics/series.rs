//! Which series there are: those of deployments that are served, and only so many of routes.
//!
//! Each snapshot makes the handles of its deployments anew, and calls that began under an earlier one still hold
//! theirs. Series are therefore kept for as long as anybody holds handles with the same labels, and removed with
//! the last of them; whether it is the last is decided under one lock, so that nobody is left with handles of
//! series that are no longer shown.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::Counter, gauge::Gauge},
    registry::Unit,
};

use super::{
    Shed, UpstreamFault,
    families::{DeploymentLabels, Families, RouteLabels},
    tally::{DeploymentTally, Histogram, RouteTally},
};

/// The route of calls that match no operation, or one for which there is no room.
pub(super) const OTHER: &str = "other";
pub(super) const REFUSED: &str = "refused";
pub(super) const PASSED: &str = "passed";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const KINDS: usize = METHODS.len() * CLASSES.len();

/// All series of deployments.
#[derive(Debug)]
pub(super) struct AllSeries {
    pub(super) families: Families,
    workers: usize,
    /// Routes that have series of their own, and the most that may.
    routes: AtomicUsize,
    most_routes: usize,
    /// Operations counted under `other` for want of room.
    pub(super) crowded: Counter,
    deployments: Mutex<HashMap<DeploymentLabels, Held>>,
}

/// The series of deployments with the same labels.
#[derive(Debug)]
struct Held {
    holders: usize,
    calls: DeploymentTally,
    routes: HashMap<Arc<str>, RouteCalls>,
    /// How many hold the gauge of a target: one whose address changed is there twice for a while.
    targets: HashMap<String, usize>,
}

/// The calls of one route, by method and class of status.
#[derive(Debug, Clone)]
pub(super) struct RouteCalls {
    pub(super) route: Arc<str>,
    tally: RouteTally<KINDS>,
}

type OfDeployment = (DeploymentLabels, DeploymentTally);
type OfRoute = (RouteLabels, RouteCalls);

/// The method, if it is a known one, otherwise `other`: a client may put anything there.
pub(crate) fn method_name(method: &Method) -> &'static str {
    METHODS.get(method_index(method)).copied().unwrap_or(OTHER)
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

impl AllSeries {
    pub(super) fn new(workers: usize, most_routes: usize) -> Self {
        Self {
            families: Families::default(),
            workers,
            routes: AtomicUsize::new(0),
            most_routes,
            crowded: Counter::default(),
            deployments: Mutex::default(),
        }
    }

    /// Keeps the series with these labels until as many left as entered.
    pub(super) fn enter(&self, labels: &DeploymentLabels) -> DeploymentTally {
        let mut deployments = self.lock();
        let held = self.held(&mut deployments, labels);
        held.holders += 1;
        held.calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeploymentLabels, Held>> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held<'all>(
        &self,
        deployments: &'all mut HashMap<DeploymentLabels, Held>,
        labels: &DeploymentLabels,
    ) -> &'all mut Held {
        deployments.entry(labels.clone()).or_insert_with(|| Held {
            holders: 0,
            calls: DeploymentTally::new(self.workers),
            routes: HashMap::new(),
            targets: HashMap::new(),
        })
    }

    /// The last to leave takes the series along.
    pub(super) fn leave(&self, labels: &DeploymentLabels) {
        let mut deployments = self.lock();
        let Some(held) = deployments.get_mut(labels) else { return };
        held.holders -= 1;
        if held.holders > 0 {
            return;
        }
        let families = &self.families;
        for route in deployments.remove(labels).into_iter().flat_map(|held| held.routes.into_keys())
        {
            if &*route != OTHER {
                self.routes.fetch_sub(1, Ordering::Relaxed);
            }
            for action in [REFUSED, PASSED] {
                families.misfits.remove(&labels.misfit(&route, action));
            }
        }
        families.ejections.remove(labels);
        families.retries.remove(labels);
        families.budget_exhausted.remove(labels);
        families.breaker_open.remove(labels);
        for fault in UpstreamFault::ALL {
            families.upstream_failures.remove(&labels.failure(fault.label()));
        }
        for reason in Shed::ALL {
            families.shed.remove(&labels.shed(reason.label()));
        }
    }

    /// The calls of a route, for somebody who has entered; those of `other` when there is no room.
    pub(super) fn route(&self, labels: &DeploymentLabels, route: &Arc<str>) -> RouteCalls {
        let mut deployments = self.lock();
        let routes = &mut self.held(&mut deployments, labels).routes;
        if let Some(known) = routes.get(route) {
            return known.clone();
        }
        let route = if &**route == OTHER || self.make_room() {
            Arc::clone(route)
        } else {
            self.crowded.inc();
            OTHER.into()
        };
        let calls = routes.entry(Arc::clone(&route)).or_insert_with(|| {
            let tally = RouteTally::new(self.workers);
            RouteCalls { route, tally }
        });
        calls.clone()
    }

    /// Keeps the gauge of a target, for somebody who has entered.
    pub(super) fn enter_target(&self, labels: &DeploymentLabels, target: String) -> Gauge {
        let mut deployments = self.lock();
        let held = self.held(&mut deployments, labels);
        *held.targets.entry(target.clone()).or_default() += 1;
        self.families.target_healthy.get_or_create_owned(&labels.target(target))
    }

    /// The last to leave a target takes its gauge along.
    pub(super) fn leave_target(&self, labels: &DeploymentLabels, target: String) {
        let mut deployments = self.lock();
        let Some(held) = deployments.get_mut(labels) else { return };
        let Some(holders) = held.targets.get_mut(&target) else { return };
        *holders -= 1;
        if *holders == 0 {
            held.targets.remove(&target);
            self.families.target_healthy.remove(&labels.target(target));
        }
    }

    /// The calls of all deployments, and of all routes that were called. Whoever writes them down holds up nobody.
    fn known(&self) -> (Vec<OfDeployment>, Vec<OfRoute>) {
        let all = self.lock();
        let deployments =
            all.iter().map(|(labels, held)| (labels.clone(), held.calls.clone())).collect();
        let routes = all.iter().flat_map(|(labels, held)| {
            held.routes.values().map(|calls| (labels.route(&calls.route), calls.clone()))
        });
        // One for which a handle was made may not have had a call yet.
        let called = routes.filter(|(_, calls)| calls.counts().next().is_some()).collect();
        (deployments, called)
    }

    fn make_room(&self) -> bool {
        let taken = self.routes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |routes| {
            (routes < self.most_routes).then_some(routes + 1)
        });
        taken.is_ok()
    }
}

impl RouteCalls {
    /// Counts a call for the worker that carried it.
    pub(super) fn count(&self, worker: usize, method: &Method, status: StatusCode, seconds: f64) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.tally.count(worker, method_index(method) * CLASSES.len() + class, seconds);
    }

    /// Methods and classes of which there were calls, and how many.
    fn counts(&self) -> impl Iterator<Item = ((&'static str, &'static str), u64)> {
        let kinds = METHODS.iter().flat_map(|method| CLASSES.iter().map(|class| (*method, *class)));
        kinds.zip(self.tally.calls()).filter(|(_, calls)| *calls > 0)
    }
}

/// The calls of all deployments.
impl Collector for AllSeries {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let (deployments, routes) = self.known();
        let mut requests =
            encoder.encode_descriptor("requests", "Calls answered", None, MetricType::Counter)?;
        for (labels, calls) in &routes {
            for ((method, class), count) in calls.counts() {
                let call = labels.call(method, class);
                requests
                    .encode_family(&call)?
                    .encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }
        let mut durations = encoder.encode_descriptor(
            "request_duration",
            "Time from the head of a request to the end of its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, calls) in &routes {
            encode(&mut durations, labels, &calls.tally.durations())?;
        }
        let mut waits = encoder.encode_descriptor(
            "upstream_duration",
            "Time that a call waited for targets to begin their answers",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, calls) in &deployments {
            encode(&mut waits, labels, &calls.upstream())?;
        }
        let mut in_flight = encoder.encode_descriptor(
            "requests_in_flight",
            "Calls being carried",
            None,
            MetricType::Gauge,
        )?;
        for (labels, calls) in &deployments {
            in_flight.encode_family(labels)?.encode_gauge(&calls.in_flight())?;
        }
        Ok(())
    }
}

fn encode(
    encoder: &mut MetricEncoder,
    labels: &impl EncodeLabelSet,
    histogram: &Histogram,
) -> std::fmt::Result {
    let (sum, count) = (histogram.sum, histogram.count());
    encoder.encode_family(labels)?.encode_histogram::<NoLabelSet>(
        sum,
        count,
        &histogram.buckets,
        None,
    )
}
