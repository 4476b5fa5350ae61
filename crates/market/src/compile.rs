//! Compiling the snapshot that the gateway decides by.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use model::{
    AgreementEntry, Api, ApiId, ApiLifecycle, ApiVersion, Audience, Deployment, DeploymentEntry,
    OperationEntry, Plan, PlanId, Quota, SubscriptionId, Tenant, TenantId, Validation,
    ValidationEntry, VersionId, VersionStatus, Visibility,
};
use model::{QuotaPeriod, Snapshot};
use store::{Tx, Viewer};

use crate::{Market, MarketError, specifications};

/// Rows that several entries of a snapshot need, each read once.
#[derive(Default)]
struct Sources {
    tenants: HashMap<TenantId, Option<Tenant>>,
    apis: HashMap<ApiId, Option<Api>>,
    versions: HashMap<VersionId, Option<ApiVersion>>,
    operations: HashMap<VersionId, Vec<OperationEntry>>,
    plans: HashMap<PlanId, Option<Plan>>,
}

impl Market {
    /// The number of the last event.
    pub(crate) async fn last_event(&self) -> Result<u64, MarketError> {
        let mut tx = self.db.read().await?;
        Ok(store::event::last_number(&mut tx).await?)
    }

    /// Compiles everything that the gateway needs out of one consistent reading.
    pub(crate) async fn compile_snapshot(&self) -> Result<Snapshot, MarketError> {
        let now = self.clock.now();
        let mut tx = self.db.read().await?;
        // Read first: whatever is committed meanwhile is compiled again under a higher number.
        let number = store::event::last_number(&mut tx).await?;
        let mut sources = Sources::default();
        let mut deployments = Vec::new();
        for deployment in store::deployment::list_for_gateway(&mut tx).await? {
            let validation = deployment.validation;
            let entry =
                compile_deployment(&mut tx, &mut sources, deployment, &self.settings.gateway_url);
            let Some(mut entry) = entry.await? else { continue };
            entry.validation = self.validation_entry(&mut tx, &sources, &entry, validation).await?;
            deployments.push(entry);
        }
        self.rules.retain(|version| {
            deployments.iter().any(|entry| entry.validation.is_some() && entry.version == version)
        });
        let used = quota_use(&mut tx, now).await?;
        let mut agreements = Vec::new();
        for subscription in store::subscription::list_active(&mut tx, now).await? {
            let Some(plan) = sources.plan(&mut tx, subscription.plan).await? else { continue };
            agreements.push(AgreementEntry {
                id: subscription.id,
                application: subscription.application,
                version: subscription.version,
                expires_at: subscription.expires_at,
                limits: plan.limits.clone(),
                quota: plan.quota,
                quota_used: used.of(subscription.id, plan.quota),
            });
        }
        let credentials = store::credential::list_for_gateway(&mut tx, now).await?;
        Ok(Snapshot { number, compiled_at: now, deployments, agreements, credentials })
    }
}

impl Market {
    /// What the requests of a deployment are compared with, compiled only where they are.
    async fn validation_entry(
        &self,
        tx: &mut Tx,
        sources: &Sources,
        entry: &DeploymentEntry,
        validation: Validation,
    ) -> Result<Option<ValidationEntry>, MarketError> {
        let version = sources.versions.get(&entry.version).and_then(Option::as_ref);
        let (Some(version), Validation::Warn | Validation::Enforce) = (version, validation) else {
            return Ok(None);
        };
        let rules = match self.request_rules(tx, version).await {
            Ok(rules) => rules,
            Err(error @ MarketError::Internal(..)) => {
                // Others must not wait for it; the gateway refuses its calls, or lets them pass where it only warns.
                tracing::error!(
                    version.id = %version.id,
                    error = &error as &dyn std::error::Error,
                    "requests of a version cannot be validated"
                );
                Arc::from("")
            }
            Err(error) => return Err(error),
        };
        Ok(Some(ValidationEntry { enforced: validation == Validation::Enforce, rules }))
    }
}

async fn compile_deployment(
    tx: &mut Tx,
    sources: &mut Sources,
    deployment: Deployment,
    gateway_url: &str,
) -> Result<Option<DeploymentEntry>, MarketError> {
    let Some(api) = sources.api(tx, deployment.api).await?.cloned() else { return Ok(None) };
    let Some(version) = sources.version(tx, deployment.version).await?.cloned() else {
        return Ok(None);
    };
    let Some(tenant) = sources.tenant(tx, deployment.tenant).await?.cloned() else {
        return Ok(None);
    };
    let successor = match version.successor {
        Some(successor) => successor_url(tx, &api, successor, gateway_url).await?,
        None => None,
    };
    let lifecycle = match version.status {
        VersionStatus::Active => ApiLifecycle::Active,
        VersionStatus::Deprecated => ApiLifecycle::Deprecated {
            since: version.deprecated_at.unwrap_or(version.updated_at),
            sunset: version.sunset_at,
            successor,
        },
        VersionStatus::Retired => ApiLifecycle::Retired { successor },
        VersionStatus::Draft | VersionStatus::PendingApproval | VersionStatus::Rejected => {
            return Ok(None);
        }
    };
    let audience = match &api.visibility {
        Visibility::Public => Audience::Everyone,
        Visibility::Restricted(tenants) => {
            Audience::Tenants(tenants.iter().copied().chain([api.tenant]).collect())
        }
        Visibility::Private => Audience::Tenants(vec![api.tenant]),
    };
    let operations = sources.operations(tx, version.id).await?;
    Ok(Some(DeploymentEntry {
        id: deployment.id,
        api: api.id,
        api_name: api.name.to_string(),
        version: version.id,
        version_number: version.number.to_string(),
        tenant: deployment.tenant,
        tenant_slug: tenant.slug.to_string(),
        audience,
        lifecycle,
        route: deployment.route,
        upstream: deployment.upstream,
        limits: deployment.limits,
        max_body_bytes: deployment.max_body_bytes,
        delivery: deployment.delivery,
        operations,
        validation: None,
    }))
}

/// Where the version that replaces another is called, when it is deployed.
async fn successor_url(
    tx: &mut Tx,
    api: &Api,
    successor: VersionId,
    gateway_url: &str,
) -> Result<Option<String>, MarketError> {
    let page = store::Page::numbered(1, store::Page::LIMIT_MAX);
    let deployed = store::deployment::list(tx, Viewer::Installation, Some(api.id), page).await?;
    let found = deployed.items.into_iter().find(|deployment| deployment.version == successor);
    Ok(found.map(|deployment| {
        let path = deployment.route.path_prefix();
        match deployment.route.host() {
            Some(host) => format!("https://{host}{path}"),
            None => format!("{}{path}", gateway_url.trim_end_matches('/')),
        }
    }))
}

struct QuotaUse {
    day: HashMap<SubscriptionId, u64>,
    month: HashMap<SubscriptionId, u64>,
}

impl QuotaUse {
    fn of(&self, subscription: SubscriptionId, quota: Option<Quota>) -> u64 {
        let calls = match quota.map(|quota| quota.period) {
            None => None,
            Some(QuotaPeriod::Day) => self.day.get(&subscription),
            Some(QuotaPeriod::Month) => self.month.get(&subscription),
        };
        calls.copied().unwrap_or(0)
    }
}

async fn quota_use(tx: &mut Tx, now: Timestamp) -> Result<QuotaUse, MarketError> {
    let (day, _) = QuotaPeriod::Day.bounds(now);
    let (month, _) = QuotaPeriod::Month.bounds(now);
    Ok(QuotaUse {
        day: store::usage::count_by_subscription(tx, day).await?.into_iter().collect(),
        month: store::usage::count_by_subscription(tx, month).await?.into_iter().collect(),
    })
}

impl Sources {
    async fn tenant(&mut self, tx: &mut Tx, id: TenantId) -> Result<Option<&Tenant>, MarketError> {
        let found = match self.tenants.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(store::tenant::find(tx, id).await?),
        };
        Ok(found.as_ref())
    }

    async fn api(&mut self, tx: &mut Tx, id: ApiId) -> Result<Option<&Api>, MarketError> {
        let found = match self.apis.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(store::api::find_visible(tx, Viewer::Installation, id).await?)
            }
        };
        Ok(found.as_ref())
    }

    async fn version(
        &mut self,
        tx: &mut Tx,
        id: VersionId,
    ) -> Result<Option<&ApiVersion>, MarketError> {
        let found = match self.versions.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(store::version::find(tx, Viewer::Installation, id).await?)
            }
        };
        Ok(found.as_ref())
    }

    async fn plan(&mut self, tx: &mut Tx, id: PlanId) -> Result<Option<&Plan>, MarketError> {
        let found = match self.plans.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(store::plan::find(tx, id).await?),
        };
        Ok(found.as_ref())
    }

    async fn operations(
        &mut self,
        tx: &mut Tx,
        id: VersionId,
    ) -> Result<Vec<OperationEntry>, MarketError> {
        let operations = match self.operations.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(read_operations(tx, id).await?),
        };
        Ok(operations.clone())
    }
}

async fn read_operations(tx: &mut Tx, id: VersionId) -> Result<Vec<OperationEntry>, MarketError> {
    let Some(json) = store::specification::find_summary(tx, id).await? else {
        return Ok(Vec::new());
    };
    let operations = specifications::parse_summary(&json)?.operations;
    Ok(operations
        .into_iter()
        .map(|operation| OperationEntry {
            method: operation.method,
            template: operation.path,
            request_media_types: operation.request_media_types,
            response_media_types: operation.response_media_types,
        })
        .collect())
}
