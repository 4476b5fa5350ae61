//! What the gateway counts, for Prometheus.
//!
//! Labels are bounded: a route is a path template of the specification or `other`, a method is a known one or
//! `other`, and no consumer, path or address ever becomes a label. Handles are looked up once and then kept, so
//! that counting a call takes no look-up.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use http::{Method, StatusCode};
use model::{DeploymentEntry, DeploymentId, Fault};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::tls::CertificateStatus;

/// From half a millisecond to half a minute, in seconds.
const DURATION_BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const SERIES: usize = METHODS.len() * CLASSES.len();

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<CallLabels, Counter>,
    durations: Family<DeploymentLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<DeploymentLabels, Gauge>,
    upstream_failures: Family<FailureLabels, Counter>,
    target_healthy: Family<TargetLabels, Gauge>,
    certificates: Family<CertificateLabels, Gauge>,
    misfits: Family<MisfitLabels, Counter>,
    ejections: Family<DeploymentLabels, Counter>,
    retries: Family<DeploymentLabels, Counter>,
    budget_exhausted: Family<DeploymentLabels, Counter>,
    breaker_open: Family<DeploymentLabels, Gauge>,
    shed: Family<ShedLabels, Counter>,
    /// Calls for which there was no route.
    pub(crate) unrouted: Counter,
    /// Requests refused for how they were framed.
    pub(crate) malformed: Counter,
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

/// The handles of one deployment.
pub(crate) struct DeploymentMetrics {
    pub(crate) id: DeploymentId,
    labels: DeploymentLabels,
    requests: Family<CallLabels, Counter>,
    upstream_failures: Family<FailureLabels, Counter>,
    target_healthy: Family<TargetLabels, Gauge>,
    misfits: Family<MisfitLabels, Counter>,
    /// For each operation, and last for calls that match none: handles by method and status class.
    by_operation: Vec<Series>,
    durations: Histogram,
    pub(crate) in_flight: Gauge,
    /// Targets spared because calls to them failed.
    pub(crate) ejections: Counter,
    pub(crate) retries: Counter,
    /// Calls that were not tried again because too many were.
    pub(crate) budget_exhausted: Counter,
    /// 1 while calls are refused because too many failed.
    pub(crate) breaker_open: Gauge,
    shed: Family<ShedLabels, Counter>,
}

struct Series {
    route: String,
    counters: OnceLock<Box<[OnceLock<Counter>; SERIES]>>,
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
struct DeploymentLabels {
    tenant: Arc<str>,
    api: Arc<str>,
    version: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    tenant: Arc<str>,
    api: Arc<str>,
    version: Arc<str>,
    route: String,
    method: &'static str,
    status_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    tenant: Arc<str>,
    api: Arc<str>,
    version: Arc<str>,
    fault: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    tenant: Arc<str>,
    api: Arc<str>,
    version: Arc<str>,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    tenant: Arc<str>,
    api: Arc<str>,
    version: Arc<str>,
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MisfitLabels {
    tenant: Arc<str>,
    api: Arc<str>,
    version: Arc<str>,
    route: String,
    action: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            in_flight: Family::default(),
            upstream_failures: Family::default(),
            target_healthy: Family::default(),
            certificates: Family::default(),
            misfits: Family::default(),
            ejections: Family::default(),
            retries: Family::default(),
            budget_exhausted: Family::default(),
            breaker_open: Family::default(),
            shed: Family::default(),
            unrouted: Counter::default(),
            malformed: Counter::default(),
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
        metrics.register_resilience();
        metrics
    }

    fn register(&self) {
        let mut registry = Registry::with_prefix("caduceus_gateway");
        registry.register("requests", "Calls answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to the end of its answer",
            Unit::Seconds,
            self.durations.clone(),
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

    fn register_resilience(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The handles of a deployment.
    pub(crate) fn deployment(&self, entry: &DeploymentEntry) -> Arc<DeploymentMetrics> {
        let labels = DeploymentLabels {
            tenant: entry.tenant_slug.as_str().into(),
            api: entry.api_name.as_str().into(),
            version: entry.version_number.as_str().into(),
        };
        let templates = entry.operations.iter().map(|operation| operation.template.clone());
        let series = |route| Series { route, counters: OnceLock::new() };
        Arc::new(DeploymentMetrics {
            requests: self.requests.clone(),
            upstream_failures: self.upstream_failures.clone(),
            target_healthy: self.target_healthy.clone(),
            misfits: self.misfits.clone(),
            by_operation: templates.chain(["other".to_owned()]).map(series).collect(),
            durations: self.durations.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            ejections: self.ejections.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            budget_exhausted: self.budget_exhausted.get_or_create_owned(&labels),
            breaker_open: self.breaker_open.get_or_create_owned(&labels),
            shed: self.shed.clone(),
            id: entry.id,
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
    /// Counts an answered call.
    pub(crate) fn count(
        &self,
        operation: Option<u16>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        self.durations.observe(took.as_secs_f64());
        let matched = operation.and_then(|index| self.by_operation.get(usize::from(index)));
        let Some(series) = matched.or(self.by_operation.last()) else { return };
        let method =
            METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let counters =
            series.counters.get_or_init(|| Box::new([const { OnceLock::new() }; SERIES]));
        let Some(slot) = counters.get(method * CLASSES.len() + class) else { return };
        slot.get_or_init(|| self.series(&series.route, method, class)).inc();
    }

    /// Counts a call that did not fit its operation.
    pub(crate) fn count_misfit(&self, operation: Option<u16>, refused: bool) {
        let matched = operation.and_then(|index| self.by_operation.get(usize::from(index)));
        let Some(series) = matched.or(self.by_operation.last()) else { return };
        let DeploymentLabels { tenant, api, version } = self.labels.clone();
        let action = if refused { "refused" } else { "passed" };
        let route = series.route.clone();
        self.misfits.get_or_create(&MisfitLabels { tenant, api, version, route, action }).inc();
    }

    /// Counts a failed attempt to reach a target.
    pub(crate) fn count_failure(&self, fault: UpstreamFault) {
        let DeploymentLabels { tenant, api, version } = self.labels.clone();
        let fault = fault.label();
        self.upstream_failures.get_or_create(&FailureLabels { tenant, api, version, fault }).inc();
    }

    /// Counts a call that was refused at once.
    pub(crate) fn count_shed(&self, reason: Shed) {
        let DeploymentLabels { tenant, api, version } = self.labels.clone();
        let reason = reason.label();
        self.shed.get_or_create(&ShedLabels { tenant, api, version, reason }).inc();
    }

    /// The gauge that says whether `target` takes calls.
    pub(crate) fn target(&self, target: String) -> Gauge {
        let DeploymentLabels { tenant, api, version } = self.labels.clone();
        self.target_healthy.get_or_create_owned(&TargetLabels { tenant, api, version, target })
    }

    /// Forgets a target that is gone.
    pub(crate) fn forget_target(&self, target: String) {
        let DeploymentLabels { tenant, api, version } = self.labels.clone();
        self.target_healthy.remove(&TargetLabels { tenant, api, version, target });
    }

    fn series(&self, route: &str, method: usize, class: usize) -> Counter {
        let DeploymentLabels { tenant, api, version } = self.labels.clone();
        self.requests.get_or_create_owned(&CallLabels {
            tenant,
            api,
            version,
            route: route.to_owned(),
            method: METHODS.get(method).copied().unwrap_or("other"),
            status_class: CLASSES.get(class).copied().unwrap_or("5xx"),
        })
    }
}

impl Shed {
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
    const fn label(self) -> &'static str {
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
