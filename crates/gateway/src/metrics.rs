//! What the gateway counts, for Prometheus.
//!
//! Labels are bounded: a route is a path template of the specification or `other`, a method is a known one or
//! `other`, and no consumer, path or address ever becomes a label. Handles are looked up once and then kept, so
//! that counting a call takes no look-up.

mod families;
mod series;
mod tally;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use http::{Method, StatusCode};
use model::{DeploymentEntry, DeploymentId, Fault};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::tls::CertificateStatus;
pub(crate) use series::method_name;

use families::DeploymentLabels;
use series::{AllSeries, OTHER, PASSED, REFUSED, RouteCalls};
use tally::DeploymentTally;

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    series: Arc<AllSeries>,
    certificates: Family<CertificateLabels, Gauge>,
    /// Calls for which there was no route.
    pub(crate) unrouted: Counter,
    /// Requests refused for how they were framed.
    pub(crate) malformed: Counter,
    /// Lines of the access log that could not be written.
    pub(crate) access_log_lost: Counter,
    /// Spans that a collector has taken, and those that none took.
    pub(crate) spans_exported: Counter,
    pub(crate) spans_lost: Counter,
    /// Calls whose usage could not be written.
    pub(crate) usage_lost: Counter,
    /// Attempts to write usage that failed.
    pub(crate) journal_failures: Counter,
    /// Client connections.
    pub(crate) connections: Gauge,
    /// Connections refused because there were too many.
    pub(crate) connections_refused: Counter,
    /// Connections that did not get as far as a request, because TLS failed.
    pub(crate) tls_failures: Counter,
    /// Number of the configuration.
    pub(crate) config_number: Gauge<u64, AtomicU64>,
    /// Seconds since it was known to be the newest.
    pub(crate) config_age: Gauge<f64, AtomicU64>,
    /// Number of the structure, and of the last change of the roster.
    pub(crate) structure_number: Gauge<u64, AtomicU64>,
    pub(crate) roster_number: Gauge<u64, AtomicU64>,
    pub(crate) roster_credentials: Gauge,
    pub(crate) roster_agreements: Gauge,
    /// How often the roster was found to differ from the control plane's.
    pub(crate) roster_divergences: Counter,
    /// Attempts to write the state that failed.
    pub(crate) state_failures: Counter,
}

/// The handles of one deployment. Its series are shown until the last of them is dropped.
pub(crate) struct DeploymentMetrics {
    pub(crate) id: DeploymentId,
    labels: DeploymentLabels,
    series: Arc<AllSeries>,
    /// For each operation, and last for calls that match none.
    routes: Vec<Route>,
    calls: DeploymentTally,
    /// Targets spared because calls to them failed.
    pub(crate) ejections: Counter,
    pub(crate) retries: Counter,
    /// Calls that were not tried again because too many were.
    pub(crate) budget_exhausted: Counter,
    /// 1 while calls are refused because too many failed.
    pub(crate) breaker_open: Gauge,
}

/// A path template, and its calls once there was one.
struct Route {
    template: Arc<str>,
    calls: OnceLock<RouteCalls>,
}

/// What went wrong with an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFault {
    Connect,
    Refused,
    Certificate,
    Broken,
    Timeout,
    /// An answer of 502, 503 or 504 that was not passed on.
    Status,
    NoneHealthy,
}

/// Why a call was refused at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    Breaker,
    Concurrency,
    Connections,
    Adaptive,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

impl Metrics {
    /// Nothing counted yet by so many workers. At most `most_routes` routes have series of their own.
    pub(crate) fn new(workers: usize, most_routes: usize) -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            series: Arc::new(AllSeries::new(workers, most_routes)),
            certificates: Family::default(),
            unrouted: Counter::default(),
            malformed: Counter::default(),
            access_log_lost: Counter::default(),
            spans_exported: Counter::default(),
            spans_lost: Counter::default(),
            usage_lost: Counter::default(),
            journal_failures: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            tls_failures: Counter::default(),
            config_number: Gauge::default(),
            config_age: Gauge::default(),
            structure_number: Gauge::default(),
            roster_number: Gauge::default(),
            roster_credentials: Gauge::default(),
            roster_agreements: Gauge::default(),
            roster_divergences: Counter::default(),
            state_failures: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = Registry::with_prefix("caduceus_gateway");
        registry.register_collector(Box::new(Arc::clone(&self.series)));
        self.series.families.register(&mut registry);
        registry.register(
            "crowded_routes",
            "Operations counted under the route other, because too many have series of their own",
            self.series.crowded.clone(),
        );
        registry.register("unrouted_requests", "Calls without a route", self.unrouted.clone());
        registry.register(
            "malformed_requests",
            "Requests refused for how they were framed",
            self.malformed.clone(),
        );
        registry.register(
            "usage_records_lost",
            "Calls whose usage could not be written",
            self.usage_lost.clone(),
        );
        registry.register(
            "usage_journal_failures",
            "Failed attempts to write usage",
            self.journal_failures.clone(),
        );
        registry.register(
            "access_log_lines_lost",
            "Lines of the access log that could not be written",
            self.access_log_lost.clone(),
        );
        registry.register(
            "spans_exported",
            "Spans that a collector has taken",
            self.spans_exported.clone(),
        );
        registry.register("spans_lost", "Spans that no collector took", self.spans_lost.clone());
        registry.register("connections", "Client connections", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections refused because there were too many",
            self.connections_refused.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When a certificate of the listener expires, since 1970",
            Unit::Seconds,
            self.certificates.clone(),
        );
        registry.register(
            "tls_failures",
            "Connections on which TLS could not be agreed on",
            self.tls_failures.clone(),
        );
        self.register_state(&mut registry);
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    fn register_state(&self, registry: &mut Registry) {
        registry.register(
            "config_number",
            "Number of the configuration served",
            self.config_number.clone(),
        );
        registry.register(
            "structure_number",
            "Number of the structure served",
            self.structure_number.clone(),
        );
        registry.register(
            "roster_number",
            "Number of the last change of the roster",
            self.roster_number.clone(),
        );
        registry.register(
            "roster_credentials",
            "Credentials that are known",
            self.roster_credentials.clone(),
        );
        registry.register(
            "roster_agreements",
            "Agreements that are known",
            self.roster_agreements.clone(),
        );
        registry.register(
            "roster_divergences",
            "How often the roster differed from the control plane's",
            self.roster_divergences.clone(),
        );
        registry.register(
            "state_failures",
            "Failed attempts to keep the state on disk",
            self.state_failures.clone(),
        );
        registry.register_with_unit(
            "config_age",
            "Time since the configuration was known to be the newest",
            Unit::Seconds,
            self.config_age.clone(),
        );
    }

    /// The handles of a deployment.
    pub(crate) fn deployment(&self, entry: &DeploymentEntry) -> Arc<DeploymentMetrics> {
        let labels = DeploymentLabels {
            tenant: entry.tenant_slug.as_str().into(),
            api: entry.api_name.as_str().into(),
            version: entry.version_number.as_str().into(),
        };
        let templates = entry.operations.iter().map(|operation| operation.template.as_str());
        let route = |template: &str| Route { template: template.into(), calls: OnceLock::new() };
        let calls = self.series.enter(&labels);
        let families = &self.series.families;
        Arc::new(DeploymentMetrics {
            id: entry.id,
            series: Arc::clone(&self.series),
            routes: templates.chain([OTHER]).map(route).collect(),
            calls,
            ejections: families.ejections.get_or_create_owned(&labels),
            retries: families.retries.get_or_create_owned(&labels),
            budget_exhausted: families.budget_exhausted.get_or_create_owned(&labels),
            breaker_open: families.breaker_open.get_or_create_owned(&labels),
            labels,
        })
    }

    /// Shows until when the certificates of the listener are valid.
    pub(crate) fn show_certificates(&self, all: &[CertificateStatus]) {
        self.certificates.clear();
        for certificate in all {
            let labels = CertificateLabels { certificate: certificate.name.clone() };
            self.certificates.get_or_create_owned(&labels).set(certificate.not_after.as_second());
        }
    }

    /// The handles of a deployment without operations.
    #[cfg(test)]
    pub(crate) fn upstream_for_tests(&self, id: DeploymentId) -> Arc<DeploymentMetrics> {
        self.deployment(&DeploymentEntry {
            id,
            api: model::ApiId::from_bits(1),
            api_name: "api".to_owned(),
            version: model::VersionId::from_bits(1),
            version_number: "1.0.0".to_owned(),
            tenant: model::TenantId::from_bits(1),
            tenant_slug: "tenant".to_owned(),
            audience: model::Audience::Everyone,
            lifecycle: model::ApiLifecycle::Active,
            route: model::Route::new(None, "/", false).expect("a plain prefix"),
            upstream: model::Upstream {
                targets: Vec::new(),
                balance: model::Balance::RoundRobin,
                hash_on: None,
                protocol: model::Protocol::Auto,
                tls: model::UpstreamTls::default(),
                health_check: None,
                timeout_ms: 1,
                retries: 0,
                resilience: model::Resilience::default(),
            },
            limits: Vec::new(),
            max_body_bytes: 0,
            delivery: model::Delivery::default(),
            validation: None,
            operations: Vec::new(),
        })
    }

    /// Writes everything in the text format of Prometheus.
    pub(crate) fn encode(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(out, &registry)
    }
}

impl DeploymentMetrics {
    /// A call begins to be carried by a worker.
    pub(crate) fn begin(&self, worker: usize) {
        self.calls.change_in_flight(worker, 1);
    }

    /// A call has ended that a worker carried.
    pub(crate) fn end(&self, worker: usize) {
        self.calls.change_in_flight(worker, -1);
    }

    /// Counts an answered call.
    pub(crate) fn count(
        &self,
        worker: usize,
        operation: Option<u16>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        if let Some(route) = self.route(operation) {
            route.count(worker, method, status, took.as_secs_f64());
        }
    }

    /// Counts how long a call waited for targets.
    pub(crate) fn count_upstream(&self, worker: usize, waited: Duration) {
        self.calls.observe_upstream(worker, waited.as_secs_f64());
    }

    /// Counts a call that did not fit its operation.
    pub(crate) fn count_misfit(&self, operation: Option<u16>, refused: bool) {
        let Some(RouteCalls { route, .. }) = self.route(operation) else { return };
        let action = if refused { REFUSED } else { PASSED };
        self.series.families.misfits.get_or_create(&self.labels.misfit(route, action)).inc();
    }

    /// Counts a failed attempt to reach a target.
    pub(crate) fn count_failure(&self, fault: UpstreamFault) {
        let labels = self.labels.failure(fault.label());
        self.series.families.upstream_failures.get_or_create(&labels).inc();
    }

    /// Counts a call that was refused at once.
    pub(crate) fn count_shed(&self, reason: Shed) {
        let labels = self.labels.shed(reason.label());
        self.series.families.shed.get_or_create(&labels).inc();
    }

    /// The gauge that says whether `target` takes calls.
    pub(crate) fn target(&self, target: String) -> Gauge {
        self.series.enter_target(&self.labels, target)
    }

    /// Forgets a target that is gone.
    pub(crate) fn forget_target(&self, target: String) {
        self.series.leave_target(&self.labels, target);
    }

    /// Names of the tenant, the API and its version.
    pub(crate) fn names(&self) -> [&str; 3] {
        [&self.labels.tenant, &self.labels.api, &self.labels.version]
    }

    /// The path template of an operation.
    pub(crate) fn template(&self, operation: Option<u16>) -> Option<&str> {
        let route = self.routes.get(usize::from(operation?))?;
        Some(&*route.template).filter(|template| *template != OTHER)
    }

    fn route(&self, operation: Option<u16>) -> Option<&RouteCalls> {
        let matched = operation.and_then(|index| self.routes.get(usize::from(index)));
        let Route { template, calls } = matched.or(self.routes.last())?;
        Some(calls.get_or_init(|| self.series.route(&self.labels, template)))
    }
}

impl Drop for DeploymentMetrics {
    fn drop(&mut self) {
        self.series.leave(&self.labels);
    }
}

impl Shed {
    const ALL: [Self; 4] = [Self::Breaker, Self::Concurrency, Self::Connections, Self::Adaptive];

    const fn label(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Concurrency => "concurrency",
            Self::Connections => "connections",
            Self::Adaptive => "adaptive",
        }
    }
}

impl UpstreamFault {
    const ALL: [Self; 7] = [
        Self::Connect,
        Self::Refused,
        Self::Certificate,
        Self::Broken,
        Self::Timeout,
        Self::Status,
        Self::NoneHealthy,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refused => "address_refused",
            Self::Certificate => "certificate",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::NoneHealthy => "none_healthy",
        }
    }

    /// Whose fault it is in the usage record.
    pub(crate) const fn whose(self) -> Fault {
        match self {
            Self::Refused => Fault::Gateway,
            _ => Fault::Upstream,
        }
    }
}
