//! A snapshot, compiled into the tables that calls are decided by.

mod operations;
mod validation;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, header::LINK};
use jiff::{Timestamp, fmt::rfc2822};
use model::{
    AgreementEntry, ApiLifecycle, ApplicationId, Audience, CredentialDigest, CredentialEntry,
    DeploymentEntry, DeploymentId, Limit, LimitAmount, LimitScope, Protocols, Quota, QuotaPeriod,
    Snapshot, SubscriptionId, TenantId, VersionId,
};

pub(crate) use operations::{Operation, Operations};
pub(crate) use validation::{ReadRules, Validation};

use crate::{
    balance::{Endpoints, Upstream},
    limits::{CounterKey, QuotaCounter, Rate},
    metrics::{DeploymentMetrics, Metrics},
    stages::{Caller, cors::CorsPolicy},
};

/// What agreements under the same plan have in common.
type PlanKey = (VersionId, Vec<u64>, Option<(u64, bool)>);
type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// Why a snapshot was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Two deployments have the same host and path prefix.
    #[error("deployments {0} and {1} have the same route")]
    SameRoute(DeploymentId, DeploymentId),
    /// A deployment has nowhere to send calls to.
    #[error("deployment {0} has no targets")]
    NoTargets(DeploymentId),
    /// A name cannot stand in a header, or a number is out of range.
    #[error("deployment {0} has a value that cannot be used")]
    Unusable(DeploymentId),
}

/// A compiled snapshot.
pub(crate) struct Table {
    pub(crate) number: u64,
    pub(crate) compiled_at: Timestamp,
    pub(crate) deployments: Vec<Arc<Deployment>>,
    hosts: Map<Box<str>, Prefixes>,
    any_host: Prefixes,
    credentials: Map<CredentialDigest, KnownCredential>,
    agreements: Map<(ApplicationId, VersionId), Agreement>,
    quotas: Map<SubscriptionId, Arc<QuotaCounter>>,
    /// The endpoints of targets that take new calls.
    endpoints: HashSet<u64, ahash::RandomState>,
}

/// The routes of one host.
#[derive(Default)]
struct Prefixes {
    by_prefix: Map<Box<str>, Arc<Deployment>>,
    /// The most segments that one of them has.
    depth: usize,
}

/// A deployment, ready for calls.
pub(crate) struct Deployment {
    pub(crate) id: DeploymentId,
    /// The tenant whose API it is.
    pub(crate) owner: TenantId,
    pub(crate) version: VersionId,
    pub(crate) audience: Audience,
    pub(crate) lifecycle: Lifecycle,
    /// How many bytes of the path are the route's prefix.
    pub(crate) prefix_length: usize,
    pub(crate) strip_prefix: bool,
    pub(crate) max_body_bytes: u64,
    pub(crate) cors: Option<CorsPolicy>,
    pub(crate) compress: bool,
    pub(crate) protocols: Protocols,
    pub(crate) limits: Limits,
    pub(crate) operations: Operations,
    pub(crate) validation: Option<Validation>,
    pub(crate) upstream: Upstream,
    pub(crate) metrics: Arc<DeploymentMetrics>,
}

/// Whether a deployment may be called, with the headers that say so.
pub(crate) enum Lifecycle {
    Active,
    Deprecated(Vec<(HeaderName, HeaderValue)>),
    Retired { successor: Option<HeaderValue> },
}

/// Whom a credential identifies.
pub(crate) struct KnownCredential {
    pub(crate) caller: Caller,
    pub(crate) expires_at: Option<Timestamp>,
}

/// An application's right to call a version.
#[derive(Clone)]
pub(crate) struct Agreement {
    pub(crate) id: SubscriptionId,
    pub(crate) expires_at: Option<Timestamp>,
    /// Shared by all agreements under the same plan, which keeps it close at hand.
    pub(crate) limits: Arc<Limits>,
    pub(crate) quota: Option<(Quota, Arc<QuotaCounter>)>,
}

/// Limits that hold together, and the `RateLimit-Policy` that announces them.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) entries: Vec<PreparedLimit>,
    pub(crate) policy: Option<HeaderValue>,
}

/// A limit, ready for counting.
pub(crate) struct PreparedLimit {
    pub(crate) name: Box<str>,
    pub(crate) per: LimitScope,
    pub(crate) amount: PreparedAmount,
    owner: u128,
    number: u64,
}

pub(crate) enum PreparedAmount {
    Rate(Rate),
    Concurrent(u32),
}

impl PreparedLimit {
    /// The counter of `subject`.
    pub(crate) const fn key(&self, subject: u128) -> CounterKey {
        CounterKey::new(self.owner, self.number, subject)
    }
}

impl Table {
    /// Compiles a snapshot. What `previous` learnt about targets and quotas is kept.
    pub(crate) fn compile(
        snapshot: &Snapshot,
        previous: Option<&Self>,
        metrics: &Metrics,
    ) -> Result<Self, PublishError> {
        let mut table = Self {
            number: snapshot.number,
            compiled_at: snapshot.compiled_at,
            deployments: Vec::with_capacity(snapshot.deployments.len()),
            hosts: Map::default(),
            any_host: Prefixes::default(),
            credentials: Map::default(),
            agreements: Map::default(),
            quotas: Map::default(),
            endpoints: HashSet::default(),
        };
        let before: Map<_, _> = previous
            .iter()
            .flat_map(|table| &table.deployments)
            .map(|deployment| (deployment.id, deployment.as_ref()))
            .collect();
        let mut endpoints = Endpoints::default();
        for target in before.values().flat_map(|deployment| &deployment.upstream.targets) {
            endpoints.keep(&target.endpoint);
        }
        for entry in &snapshot.deployments {
            let before = before.get(&entry.id).copied();
            let deployment = Deployment::compile(entry, before, metrics, &mut endpoints)?;
            let in_use = deployment.upstream.in_use();
            table.endpoints.extend(in_use.map(|(_, target)| target.endpoint.number));
            let deployment = Arc::new(deployment);
            let prefixes = match entry.route.host() {
                Some(host) => table.hosts.entry(host.into()).or_default(),
                None => &mut table.any_host,
            };
            prefixes.insert(entry.route.path_prefix(), Arc::clone(&deployment))?;
            table.deployments.push(deployment);
        }
        let mut plans = Map::default();
        table.agreements.reserve(snapshot.agreements.len());
        for entry in &snapshot.agreements {
            let agreement =
                table.compile_agreement(entry, snapshot.compiled_at, previous, &mut plans);
            table.agreements.insert((entry.application, entry.version), agreement);
        }
        let known = snapshot.credentials.iter().map(KnownCredential::compile);
        table.credentials = known.collect();
        Ok(table)
    }

    /// The deployment with the longest prefix of `path`; one bound to the host comes first.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<&Arc<Deployment>> {
        let bound = if self.hosts.is_empty() { None } else { self.hosts.get(host) };
        bound.and_then(|prefixes| prefixes.longest(path)).or_else(|| self.any_host.longest(path))
    }

    /// Whether calls may begin to an endpoint.
    pub(crate) fn is_in_use(&self, endpoint: u64) -> bool {
        self.endpoints.contains(&endpoint)
    }

    pub(crate) fn credential(&self, digest: &CredentialDigest) -> Option<&KnownCredential> {
        self.credentials.get(digest)
    }

    pub(crate) fn agreement(
        &self,
        application: ApplicationId,
        version: VersionId,
    ) -> Option<&Agreement> {
        self.agreements.get(&(application, version))
    }

    fn compile_agreement(
        &mut self,
        entry: &AgreementEntry,
        at: Timestamp,
        previous: Option<&Self>,
        plans: &mut Map<PlanKey, Arc<Limits>>,
    ) -> Agreement {
        let quota = entry.quota.map(|quota| {
            let known = previous.and_then(|table| table.quotas.get(&entry.id));
            let counter = match known {
                Some(counter) => {
                    counter.learn(quota.period, at, entry.quota_used);
                    Arc::clone(counter)
                }
                None => Arc::new(QuotaCounter::new(quota.period, at, entry.quota_used)),
            };
            self.quotas.insert(entry.id, Arc::clone(&counter));
            (quota, counter)
        });
        let numbers = entry.limits.iter().map(CounterKey::limit_number).collect();
        let announced =
            entry.quota.map(|quota| (quota.requests, quota.period == QuotaPeriod::Month));
        let limits = plans.entry((entry.version, numbers, announced)).or_insert_with(|| {
            Arc::new(Limits::compile(&entry.limits, entry.version.bits(), entry.quota))
        });
        let limits = Arc::clone(limits);
        Agreement { id: entry.id, expires_at: entry.expires_at, limits, quota }
    }
}

impl KnownCredential {
    fn compile(entry: &CredentialEntry) -> (CredentialDigest, Self) {
        let caller =
            Caller { application: entry.application, credential: entry.id, tenant: entry.tenant };
        (entry.digest, Self { caller, expires_at: entry.expires_at })
    }
}

impl Prefixes {
    fn insert(&mut self, prefix: &str, deployment: Arc<Deployment>) -> Result<(), PublishError> {
        let prefix = prefix.trim_end_matches('/');
        let depth = prefix.bytes().filter(|byte| *byte == b'/').count();
        self.depth = self.depth.max(depth);
        let id = deployment.id;
        match self.by_prefix.insert(prefix.into(), deployment) {
            Some(other) => Err(PublishError::SameRoute(other.id, id)),
            None => Ok(()),
        }
    }

    fn longest(&self, path: &str) -> Option<&Arc<Deployment>> {
        if self.by_prefix.is_empty() {
            return None;
        }
        // The end of the prefix with `depth` segments, or of the whole path when it has fewer.
        let mut end = path
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'/')
            .map(|(at, _)| at)
            .nth(self.depth)
            .unwrap_or(path.len());
        loop {
            let prefix = path.get(..end)?;
            if let Some(deployment) = self.by_prefix.get(prefix) {
                return Some(deployment);
            }
            end = prefix.rfind('/')?;
        }
    }
}

impl Deployment {
    fn compile(
        entry: &DeploymentEntry,
        previous: Option<&Self>,
        metrics: &Metrics,
        endpoints: &mut Endpoints,
    ) -> Result<Self, PublishError> {
        if entry.upstream.targets.is_empty() {
            return Err(PublishError::NoTargets(entry.id));
        }
        let unusable = || PublishError::Unusable(entry.id);
        let lifecycle = Lifecycle::compile(&entry.lifecycle).ok_or_else(unusable)?;
        let metrics = metrics.deployment(entry);
        let before = previous.map(|before| &before.upstream);
        let upstream =
            Upstream::compile(&entry.upstream, before, &metrics, endpoints).ok_or_else(unusable)?;
        Ok(Self {
            id: entry.id,
            owner: entry.tenant,
            version: entry.version,
            audience: entry.audience.clone(),
            lifecycle,
            prefix_length: entry.route.path_prefix().trim_end_matches('/').len(),
            strip_prefix: entry.route.strip_prefix(),
            max_body_bytes: entry.max_body_bytes,
            cors: match &entry.delivery.cors {
                Some(cors) => Some(CorsPolicy::compile(cors).ok_or_else(unusable)?),
                None => None,
            },
            compress: entry.delivery.compress,
            protocols: entry.delivery.protocols,
            limits: Limits::compile(&entry.limits, entry.id.bits(), None),
            operations: Operations::compile(&entry.operations),
            validation: Validation::compile(
                entry,
                previous.and_then(|before| before.validation.as_ref()),
            ),
            upstream,
            metrics,
        })
    }

    /// Whether callers of `tenant` may know that it exists; `None` is a caller who is not known.
    pub(crate) fn is_visible_to(&self, tenant: Option<TenantId>) -> bool {
        match &self.audience {
            Audience::Everyone => true,
            Audience::Tenants(tenants) => tenant.is_some_and(|tenant| tenants.contains(&tenant)),
        }
    }
}

impl Lifecycle {
    fn compile(lifecycle: &ApiLifecycle) -> Option<Self> {
        Some(match lifecycle {
            ApiLifecycle::Active => Self::Active,
            ApiLifecycle::Deprecated { since, sunset, successor } => {
                let since = HeaderValue::from_str(&format!("@{}", since.as_second())).ok()?;
                let mut headers = vec![(HeaderName::from_static("deprecation"), since)];
                if let Some(sunset) = sunset {
                    let date = HeaderValue::from_str(&http_date(*sunset)?).ok()?;
                    headers.push((HeaderName::from_static("sunset"), date));
                }
                if let Some(successor) = successor {
                    headers.push((LINK, successor_link(successor)?));
                }
                Self::Deprecated(headers)
            }
            ApiLifecycle::Retired { successor: None } => Self::Retired { successor: None },
            ApiLifecycle::Retired { successor: Some(successor) } => {
                Self::Retired { successor: Some(successor_link(successor)?) }
            }
        })
    }
}

fn successor_link(successor: &str) -> Option<HeaderValue> {
    let unsafe_in_link = |c: char| c.is_whitespace() || c.is_control() || "<>\"".contains(c);
    if successor.contains(unsafe_in_link) {
        return None;
    }
    HeaderValue::from_str(&format!("<{successor}>; rel=\"successor-version\"")).ok()
}

fn http_date(at: Timestamp) -> Option<String> {
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

impl Limits {
    fn compile(limits: &[Limit], owner: u128, quota: Option<Quota>) -> Self {
        let entries: Vec<_> = limits
            .iter()
            .map(|limit| PreparedLimit {
                name: limit.name.as_str().into(),
                per: limit.per,
                amount: match limit.amount {
                    LimitAmount::Rate { requests, window_seconds, burst } => {
                        PreparedAmount::Rate(Rate::new(requests, window_seconds, burst))
                    }
                    LimitAmount::Concurrent { calls } => PreparedAmount::Concurrent(calls),
                },
                owner,
                number: CounterKey::limit_number(limit),
            })
            .collect();
        let rates = entries.iter().filter_map(|limit| match limit.amount {
            PreparedAmount::Rate(rate) => {
                Some(format!("\"{}\";q={};w={}", limit.name, rate.requests, rate.window_seconds))
            }
            PreparedAmount::Concurrent(_) => None,
        });
        let quota = quota.map(|quota| {
            let window = match quota.period {
                model::QuotaPeriod::Day => Duration::from_secs(86_400),
                model::QuotaPeriod::Month => Duration::from_secs(30 * 86_400),
            };
            format!("\"quota\";q={};w={}", quota.requests, window.as_secs())
        });
        let policies: Vec<_> = rates.chain(quota).collect();
        let policy = if policies.is_empty() {
            None
        } else {
            HeaderValue::from_str(&policies.join(", ")).ok()
        };
        Self { entries, policy }
    }
}

#[cfg(test)]
mod tests;
