//! The metrics of deployments and their labels.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What is counted by deployment beside its calls.
#[derive(Debug, Default)]
pub(super) struct Families {
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
    pub(super) fn register(&self, registry: &mut Registry) {
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

    pub(super) fn misfit(&self, route: &Arc<str>, action: &'static str) -> MisfitLabels {
        let RouteLabels { tenant, api, version, route } = self.route(route);
        MisfitLabels { tenant, api, version, route, action }
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
}
