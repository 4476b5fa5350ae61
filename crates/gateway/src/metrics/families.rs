//! The metrics of deployments and their labels.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// From half a millisecond to half a minute, in seconds.
const DURATION_BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Everything that is counted by deployment.
pub(super) struct Families {
    pub(super) requests: Family<CallLabels, Counter>,
    pub(super) durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(super) upstream_durations: Family<DeploymentLabels, Histogram, fn() -> Histogram>,
    pub(super) in_flight: Family<DeploymentLabels, Gauge>,
    pub(super) upstream_failures: Family<FailureLabels, Counter>,
    pub(super) target_healthy: Family<TargetLabels, Gauge>,
    pub(super) misfits: Family<MisfitLabels, Counter>,
    pub(super) ejections: Family<DeploymentLabels, Counter>,
    pub(super) retries: Family<DeploymentLabels, Counter>,
    pub(super) budget_exhausted: Family<DeploymentLabels, Counter>,
    pub(super) breaker_open: Family<DeploymentLabels, Gauge>,
    pub(super) shed: Family<ShedLabels, Counter>,
}

/// What all series of a deployment have in common. Deployments of the same version share them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DeploymentLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) route: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) method: &'static str,
    pub(super) status_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FailureLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) fault: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ShedLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TargetLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MisfitLabels {
    pub(super) tenant: Arc<str>,
    pub(super) api: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) action: &'static str,
}

impl Families {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new(DURATION_BUCKETS);
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            upstream_durations: Family::new_with_constructor(histogram),
            in_flight: Family::default(),
            upstream_failures: Family::default(),
            target_healthy: Family::default(),
            misfits: Family::default(),
            ejections: Family::default(),
            retries: Family::default(),
            budget_exhausted: Family::default(),
            breaker_open: Family::default(),
            shed: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Calls answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to the end of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "upstream_duration",
            "Time that a call waited for targets to begin their answers",
            Unit::Seconds,
            self.upstream_durations.clone(),
        );
        registry.register("requests_in_flight", "Calls being carried", self.in_flight.clone());
        registry.register(
            "upstream_failures",
            "Attempts to reach a target that failed",
            self.upstream_failures.clone(),
        );
        registry.register(
            "target_healthy",
            "Whether a target takes calls",
            self.target_healthy.clone(),
        );
        registry.register(
            "invalid_requests",
            "Calls that did not fit their operation",
            self.misfits.clone(),
        );
        registry.register(
            "target_ejections",
            "Targets spared for a while because calls to them failed",
            self.ejections.clone(),
        );
        registry.register(
            "upstream_retries",
            "Attempts made again on another target",
            self.retries.clone(),
        );
        registry.register(
            "upstream_retry_budget_exhausted",
            "Attempts not made again because too many were",
            self.budget_exhausted.clone(),
        );
        registry.register(
            "upstream_breaker_open",
            "Whether calls are refused because too many failed",
            self.breaker_open.clone(),
        );
        registry.register(
            "upstream_shed",
            "Calls refused at once to spare the targets",
            self.shed.clone(),
        );
    }
}

impl DeploymentLabels {
    pub(super) fn route(&self, route: &Arc<str>) -> RouteLabels {
        let Self { tenant, api, version } = self.clone();
        RouteLabels { tenant, api, version, route: Arc::clone(route) }
    }

    pub(super) fn failure(&self, fault: &'static str) -> FailureLabels {
        let Self { tenant, api, version } = self.clone();
        FailureLabels { tenant, api, version, fault }
    }

    pub(super) fn shed(&self, reason: &'static str) -> ShedLabels {
        let Self { tenant, api, version } = self.clone();
        ShedLabels { tenant, api, version, reason }
    }

    pub(super) fn target(&self, target: String) -> TargetLabels {
        let Self { tenant, api, version } = self.clone();
        TargetLabels { tenant, api, version, target }
    }
}

impl RouteLabels {
    pub(super) fn call(&self, method: &'static str, status_class: &'static str) -> CallLabels {
        let Self { tenant, api, version, route } = self.clone();
        CallLabels { tenant, api, version, route, method, status_class }
    }

    pub(super) fn misfit(&self, action: &'static str) -> MisfitLabels {
        let Self { tenant, api, version, route } = self.clone();
        MisfitLabels { tenant, api, version, route, action }
    }
}
