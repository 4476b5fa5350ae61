//! A structure, compiled into the tables that calls are decided by, with the roster beside it.

#[cfg(feature = "fuzzing")]
mod fuzz;
mod operations;
mod prefixes;
mod validation;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use compact_str::CompactString;
use http::{HeaderName, HeaderValue, header::LINK};
use jiff::{Timestamp, fmt::rfc2822};
use model::{
    ApiLifecycle, ApplicationId, Audience, CredentialDigest, DeploymentEntry, DeploymentId, Limit,
    LimitAmount, LimitScope, PlanEntry, Protocols, Quota, Structure, SubscriptionId, TenantId,
    VersionId,
};

#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz;
pub(crate) use operations::{Operation, Operations};
use prefixes::Prefixes;
pub(crate) use validation::{ReadRules, Validation};

use crate::{
    balance::{Endpoints, Upstream},
    limits::{CounterKey, QuotaCounter, Quotas, Rate},
    metrics::{DeploymentMetrics, Metrics},
    roster::{KnownCredential, Roster},
    stages::cors::CorsPolicy,
};

type Map<K, V> = HashMap<K, V, ahash::RandomState>;
/// The routes of one host.
type Routes = Prefixes<Arc<Deployment>>;

/// Why a structure was not taken.
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

/// A compiled structure.
pub(crate) struct Table {
    pub(crate) number: u64,
    pub(crate) compiled_at: Timestamp,
    pub(crate) deployments: Vec<Arc<Deployment>>,
    /// What the deployments were compiled from, in the same order.
    entries: Vec<Arc<DeploymentEntry>>,
    hosts: Map<CompactString, Routes>,
    any_host: Routes,
    /// By the number that the roster gives a plan.
    plans: Vec<Option<Plan>>,
    inactive_tenants: HashSet<TenantId, ahash::RandomState>,
    callers: Arc<Callers>,
    /// The endpoints of targets that take new calls.
    endpoints: HashSet<u64, ahash::RandomState>,
}

/// What changes entry by entry beside the tables.
pub(crate) struct Callers {
    pub(crate) roster: Roster,
    pub(crate) quotas: Quotas,
}

/// What agreements under the same plan have in common, which keeps it close at hand.
struct Plan {
    limits: Limits,
    quota: Option<Quota>,
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

/// An application's right to call a version.
pub(crate) struct Agreement<'table> {
    pub(crate) id: SubscriptionId,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) limits: &'table Limits,
    pub(crate) quota: Option<(Quota, Arc<QuotaCounter>)>,
}

/// Limits that hold together, and the `RateLimit-Policy` that announces them.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) entries: Vec<PreparedLimit>,
    /// Empty without a limit that is announced.
    pub(crate) policy: Box<str>,
}

/// A limit, ready for counting.
pub(crate) struct PreparedLimit {
    pub(crate) name: CompactString,
    pub(crate) per: LimitScope,
    pub(crate) amount: PreparedAmount,
    number: u64,
}

pub(crate) enum PreparedAmount {
    Rate(Rate),
    Concurrent(u32),
}

impl PreparedLimit {
    /// The counter of `subject`; `owner` is the deployment or version that is called.
    pub(crate) fn key(&self, owner: u128, subject: u128) -> CounterKey {
        CounterKey::new(owner, self.number, subject)
    }
}

impl Table {
    /// Compiles a structure. What `previous` learnt about targets is kept, and so is every deployment that did not
    /// change.
    pub(crate) fn compile(
        structure: &Structure,
        previous: Option<&Self>,
        callers: &Arc<Callers>,
        metrics: &Metrics,
    ) -> Result<Self, PublishError> {
        let mut table = Self {
            number: structure.number,
            compiled_at: structure.compiled_at,
            deployments: Vec::with_capacity(structure.deployments.len()),
            entries: structure.deployments.clone(),
            hosts: Map::default(),
            any_host: Routes::default(),
            plans: Vec::new(),
            inactive_tenants: structure.inactive_tenants.iter().copied().collect(),
            callers: Arc::clone(callers),
            endpoints: HashSet::default(),
        };
        let before: Map<_, _> = previous
            .iter()
            .flat_map(|table| table.entries.iter().zip(&table.deployments))
            .map(|(entry, deployment)| (deployment.id, (entry, deployment)))
            .collect();
        let mut endpoints = Endpoints::default();
        for target in before.values().flat_map(|(_, deployment)| &deployment.upstream.targets) {
            endpoints.keep(&target.endpoint);
        }
        for entry in &structure.deployments {
            let deployment = match before.get(&entry.id) {
                Some((same, deployment)) if Arc::ptr_eq(same, entry) || *same == entry => {
                    Arc::clone(deployment)
                }
                before => {
                    let before = before.map(|(_, deployment)| deployment.as_ref());
                    Arc::new(Deployment::compile(entry, before, metrics, &mut endpoints)?)
                }
            };
            let in_use = deployment.upstream.in_use();
            table.endpoints.extend(in_use.map(|(_, target)| target.endpoint.number));
            let prefixes = match entry.route.host() {
                Some(host) => table.hosts.entry(host.into()).or_default(),
                None => &mut table.any_host,
            };
            let other = prefixes.insert(entry.route.path_prefix(), Arc::clone(&deployment));
            if let Some(other) = other {
                return Err(PublishError::SameRoute(other.id, entry.id));
            }
            table.deployments.push(deployment);
        }
        structure.plans.iter().for_each(|plan| table.add_plan(plan));
        Ok(table)
    }

    fn add_plan(&mut self, entry: &PlanEntry) {
        let place = self.callers.roster.plan_number(entry.id).index();
        if self.plans.len() <= place {
            self.plans.resize_with(place + 1, || None);
        }
        if let Some(plan) = self.plans.get_mut(place) {
            let limits = Limits::compile(&entry.limits, entry.quota);
            *plan = Some(Plan { limits, quota: entry.quota });
        }
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

    pub(crate) fn credential(&self, digest: &CredentialDigest) -> Option<KnownCredential> {
        self.callers.roster.credential(digest)
    }

    /// Whether the applications of a tenant may call.
    pub(crate) fn is_active(&self, tenant: TenantId) -> bool {
        self.inactive_tenants.is_empty() || !self.inactive_tenants.contains(&tenant)
    }

    /// The right of an application to call a version. Under a plan that this table does not know yet there is none:
    /// the plan comes with the next one.
    pub(crate) fn agreement(
        &self,
        application: ApplicationId,
        version: VersionId,
        now: Timestamp,
    ) -> Option<Agreement<'_>> {
        let known = self.callers.roster.agreement(application, version)?;
        let plan = self.plans.get(known.plan.index())?.as_ref()?;
        let quota = plan
            .quota
            .map(|quota| (quota, self.callers.quotas.counter(known.id, quota.period, now)));
        Some(Agreement { id: known.id, expires_at: known.expires_at, limits: &plan.limits, quota })
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
            limits: Limits::compile(&entry.limits, None),
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
    fn compile(limits: &[Limit], quota: Option<Quota>) -> Self {
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
        let policy = policies.join(", ").into_boxed_str();
        Self { entries, policy }
    }
}

#[cfg(test)]
mod tests;
