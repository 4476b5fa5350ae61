//! Which series there are: those of deployments that are served, and only so many of routes.
//!
//! Each snapshot makes the handles of its deployments anew, and calls that began under an earlier one still hold
//! theirs. Series are therefore kept for as long as anybody holds handles with the same labels, and removed with
//! the last of them; whether it is the last is decided under one lock, so that nobody is left with handles of
//! series that are no longer shown.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, StatusCode};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::{
    Shed, UpstreamFault,
    families::{DeploymentLabels, Families, RouteLabels},
};

/// The route of calls that match no operation, or one for which there is no room.
pub(super) const OTHER: &str = "other";
pub(super) const REFUSED: &str = "refused";
pub(super) const PASSED: &str = "passed";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const SERIES: usize = METHODS.len() * CLASSES.len();

/// All series of deployments.
pub(super) struct AllSeries {
    pub(super) families: Families,
    /// Routes that have series of their own, and the most that may.
    routes: AtomicUsize,
    most_routes: usize,
    /// Operations counted under `other` for want of room.
    pub(super) crowded: Counter,
    deployments: Mutex<HashMap<DeploymentLabels, Held>>,
}

/// The series of deployments with the same labels.
#[derive(Default)]
struct Held {
    holders: usize,
    routes: HashMap<Arc<str>, Arc<RouteSeries>>,
    /// How many hold the gauge of a target: one whose address changed is there twice for a while.
    targets: HashMap<String, usize>,
}

/// The series of one route.
pub(super) struct RouteSeries {
    pub(super) labels: RouteLabels,
    pub(super) durations: Histogram,
    counters: [OnceLock<Counter>; SERIES],
}

/// The method, if it is a known one, otherwise `other`: a client may put anything there.
pub(crate) fn method_name(method: &Method) -> &'static str {
    METHODS.get(method_index(method)).copied().unwrap_or(OTHER)
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

impl AllSeries {
    pub(super) fn new(most_routes: usize) -> Self {
        Self {
            families: Families::new(),
            routes: AtomicUsize::new(0),
            most_routes,
            crowded: Counter::default(),
            deployments: Mutex::default(),
        }
    }

    /// Keeps the series with these labels until as many left as entered.
    pub(super) fn enter(&self, labels: &DeploymentLabels) {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        deployments.entry(labels.clone()).or_default().holders += 1;
    }

    /// The last to leave takes the series along.
    pub(super) fn leave(&self, labels: &DeploymentLabels) {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = deployments.get_mut(labels) else { return };
        held.holders -= 1;
        if held.holders > 0 {
            return;
        }
        let families = &self.families;
        for route in deployments.remove(labels).into_iter().flat_map(|held| held.routes) {
            if &*route.0 != OTHER {
                self.routes.fetch_sub(1, Ordering::Relaxed);
            }
            route.1.remove(families);
        }
        families.upstream_durations.remove(labels);
        families.in_flight.remove(labels);
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

    /// The series of a route, for somebody who has entered; those of `other` when there is no room.
    pub(super) fn route(&self, labels: &DeploymentLabels, route: &Arc<str>) -> Arc<RouteSeries> {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = &mut deployments.entry(labels.clone()).or_default().routes;
        if let Some(known) = routes.get(route) {
            return Arc::clone(known);
        }
        let route = if &**route == OTHER || self.make_room() {
            Arc::clone(route)
        } else {
            self.crowded.inc();
            OTHER.into()
        };
        let series = routes.entry(Arc::clone(&route)).or_insert_with(|| {
            let labels = labels.route(&route);
            let durations = self.families.durations.get_or_create_owned(&labels);
            let counters = [const { OnceLock::new() }; SERIES];
            Arc::new(RouteSeries { labels, durations, counters })
        });
        Arc::clone(series)
    }

    /// Keeps the gauge of a target, for somebody who has entered.
    pub(super) fn enter_target(&self, labels: &DeploymentLabels, target: String) -> Gauge {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        let held = deployments.entry(labels.clone()).or_default();
        *held.targets.entry(target.clone()).or_default() += 1;
        self.families.target_healthy.get_or_create_owned(&labels.target(target))
    }

    /// The last to leave a target takes its gauge along.
    pub(super) fn leave_target(&self, labels: &DeploymentLabels, target: String) {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = deployments.get_mut(labels) else { return };
        let Some(holders) = held.targets.get_mut(&target) else { return };
        *holders -= 1;
        if *holders == 0 {
            held.targets.remove(&target);
            self.families.target_healthy.remove(&labels.target(target));
        }
    }

    fn make_room(&self) -> bool {
        let taken = self.routes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |routes| {
            (routes < self.most_routes).then_some(routes + 1)
        });
        taken.is_ok()
    }
}

impl RouteSeries {
    pub(super) fn count(&self, families: &Families, method: &Method, status: StatusCode) {
        let method = method_index(method);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let Some(slot) = self.counters.get(method * CLASSES.len() + class) else { return };
        let make = || {
            let method = METHODS.get(method).copied().unwrap_or(OTHER);
            let class = CLASSES.get(class).copied().unwrap_or("5xx");
            families.requests.get_or_create_owned(&self.labels.call(method, class))
        };
        slot.get_or_init(make).inc();
    }

    fn remove(&self, families: &Families) {
        families.durations.remove(&self.labels);
        for (method, class) in
            METHODS.iter().flat_map(|method| CLASSES.map(|class| (method, class)))
        {
            families.requests.remove(&self.labels.call(method, class));
        }
        for action in [REFUSED, PASSED] {
            families.misfits.remove(&self.labels.misfit(action));
        }
    }
}
