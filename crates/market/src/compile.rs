//! Compiling the structure that gateways decide by.
//!
//! It is compiled whole once, and from then on only what events name. The roster needs no compiling: it is written
//! with the credentials and agreements themselves.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use model::{
    Api, ApiId, ApiLifecycle, ApiVersion, Audience, Deployment, DeploymentEntry, DeploymentId,
    Event, EventKind, OperationEntry, PlanEntry, PlanId, Structure, Tenant, TenantId, Validation,
    ValidationEntry, VersionId, VersionStatus, Visibility,
};
use store::{Tx, Viewer};

use crate::{Market, MarketError, specifications};

/// More events than this at once, and everything is compiled anew.
const EVENTS: i64 = 1_000;

/// The newest structure.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) structure: Arc<Structure>,
    /// It holds everything up to this event.
    pub(crate) reached: u64,
}

/// What the structure is made of, kept to be changed piece by piece.
pub(crate) struct Compiler {
    reached: u64,
    deployments: BTreeMap<DeploymentId, Arc<DeploymentEntry>>,
    plans: BTreeMap<PlanId, PlanEntry>,
    inactive_tenants: Vec<TenantId>,
    structure: Option<Arc<Structure>>,
}

/// Rows that several entries need, each read once.
#[derive(Default)]
struct Sources {
    tenants: HashMap<TenantId, Option<Tenant>>,
    apis: HashMap<ApiId, Option<Api>>,
    versions: HashMap<VersionId, Option<ApiVersion>>,
    operations: HashMap<VersionId, Vec<OperationEntry>>,
}

impl Compiler {
    pub(crate) const fn new() -> Self {
        Self {
            reached: 0,
            deployments: BTreeMap::new(),
            plans: BTreeMap::new(),
            inactive_tenants: Vec::new(),
            structure: None,
        }
    }

    /// Brings the structure up to the last event, out of one consistent reading.
    pub(crate) async fn follow(&mut self, market: &Market) -> Result<Published, MarketError> {
        let mut tx = market.db.read_steady(Viewer::Installation).await?;
        let last = store::event::last_number(&mut tx).await?;
        let present = self.structure.clone().filter(|_| last >= self.reached);
        let structure = match present {
            Some(structure) if last == self.reached => structure,
            Some(structure) => {
                let events = store::event::list_after(&mut tx, self.reached, EVENTS).await?;
                let is_few = i64::try_from(events.len()).is_ok_and(|count| count < EVENTS);
                let is_tenant = |event: &Event| event.kind == EventKind::TenantChanged;
                if !is_few || events.iter().any(is_tenant) {
                    self.compile_all(&mut tx, market).await?;
                    self.assemble(market, last)
                } else if events.iter().any(|event| event.kind.changes_structure()) {
                    self.compile_changed(&mut tx, market, &events).await?;
                    self.assemble(market, last)
                } else {
                    structure
                }
            }
            // The first time, or after the database went back in time.
            None => {
                self.compile_all(&mut tx, market).await?;
                self.assemble(market, last)
            }
        };
        self.structure = Some(Arc::clone(&structure));
        self.reached = last;
        Ok(Published { structure, reached: last })
    }

    fn assemble(&self, market: &Market, number: u64) -> Arc<Structure> {
        market.rules.retain(|version| {
            let mut entries = self.deployments.values();
            entries.any(|entry| entry.validation.is_some() && entry.version == version)
        });
        Arc::new(Structure {
            number,
            compiled_at: market.clock.now(),
            deployments: self.deployments.values().cloned().collect(),
            plans: self.plans.values().cloned().collect(),
            inactive_tenants: self.inactive_tenants.clone(),
        })
    }

    async fn compile_all(&mut self, tx: &mut Tx, market: &Market) -> Result<(), MarketError> {
        let mut sources = Sources::default();
        let mut deployments = BTreeMap::new();
        for deployment in store::deployment::list_for_gateway(tx).await? {
            if let Some(entry) = market.compile_entry(tx, &mut sources, deployment).await? {
                deployments.insert(entry.id, Arc::new(entry));
            }
        }
        let plans = store::plan::list_for_gateway(tx).await?;
        self.inactive_tenants = store::tenant::list_inactive(tx).await?;
        self.plans = plans.into_iter().map(|plan| (plan.id, plan)).collect();
        self.deployments = deployments;
        Ok(())
    }

    /// Compiles what the events name. Deployments of one API refer to each other, so that all of them are compiled.
    async fn compile_changed(
        &mut self,
        tx: &mut Tx,
        market: &Market,
        events: &[Event],
    ) -> Result<(), MarketError> {
        let mut apis = BTreeSet::new();
        let mut plans = BTreeMap::new();
        for event in events {
            match event.kind {
                EventKind::ApiChanged => apis.extend(ApiId::parse(&event.subject).ok()),
                EventKind::DeploymentChanged => {
                    let Ok(id) = DeploymentId::parse(&event.subject) else { continue };
                    apis.extend(self.deployments.get(&id).map(|entry| entry.api));
                    let found = store::deployment::find(tx, Viewer::Installation, id).await?;
                    apis.extend(found.map(|deployment| deployment.api));
                }
                EventKind::PlanChanged => {
                    let Ok(id) = PlanId::parse(&event.subject) else { continue };
                    let found = store::plan::find(tx, id).await?;
                    plans.insert(id, found);
                }
                EventKind::SubscriptionChanged
                | EventKind::ApplicationChanged
                | EventKind::TenantChanged
                | EventKind::UserChanged
                | EventKind::CategoryChanged
                | EventKind::SettingChanged
                | EventKind::ReviewChanged
                | EventKind::VersionSubmitted
                | EventKind::VersionPublished
                | EventKind::VersionRejected
                | EventKind::VersionDeprecated
                | EventKind::VersionRetired
                | EventKind::SubscriptionRequested
                | EventKind::SubscriptionApproved
                | EventKind::SubscriptionRejected
                | EventKind::SubscriptionSuspended
                | EventKind::SubscriptionCancelled
                | EventKind::SubscriptionExpired
                | EventKind::KeyExpiring
                | EventKind::ApiFailing
                | EventKind::UserInvited
                | EventKind::UserLocked => {}
            }
        }
        let mut sources = Sources::default();
        let mut compiled = Vec::new();
        for api in &apis {
            for deployment in store::deployment::list_of_api(tx, *api).await? {
                compiled.extend(market.compile_entry(tx, &mut sources, deployment).await?);
            }
        }
        let mut before: HashMap<_, _> =
            self.deployments.extract_if(.., |_, entry| apis.contains(&entry.api)).collect();
        for entry in compiled {
            let same = before.remove(&entry.id).filter(|before| **before == entry);
            self.deployments.insert(entry.id, same.unwrap_or_else(|| Arc::new(entry)));
        }
        for (id, plan) in plans {
            match plan {
                Some(plan) => {
                    let entry = PlanEntry { id, limits: plan.limits, quota: plan.quota };
                    self.plans.insert(id, entry);
                }
                None => {
                    self.plans.remove(&id);
                }
            }
        }
        Ok(())
    }
}

impl Market {
    /// Compiles a deployment; none when it is not to be called.
    async fn compile_entry(
        &self,
        tx: &mut Tx,
        sources: &mut Sources,
        deployment: Deployment,
    ) -> Result<Option<DeploymentEntry>, MarketError> {
        let validation = deployment.validation;
        let url = &self.settings.gateway_url;
        let Some(mut entry) = compile_deployment(tx, sources, deployment, url).await? else {
            return Ok(None);
        };
        entry.validation = self.validation_entry(tx, sources, &entry, validation).await?;
        Ok(Some(entry))
    }

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
    let tenant = sources.tenant(tx, deployment.tenant).await?.cloned();
    let Some(tenant) = tenant.filter(|tenant| tenant.is_active) else { return Ok(None) };
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
        _ if store::Planted::RoutesAny.is_there() => Audience::Everyone,
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

/// The operations of a version, by which records of usage name them.
pub(crate) async fn read_operations(
    tx: &mut Tx,
    id: VersionId,
) -> Result<Vec<OperationEntry>, MarketError> {
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
