//! Tenants of the installation.

use authz::Action;
use model::{EventKind, Name, Slug, Tenant, TenantId};
use serde_json::json;
use store::{Page, PageOf};

use crate::{Begun, Conflict, Kind, Market, MarketError, Request, change::Change, viewer};

/// A tenant to add.
#[derive(Debug, Clone)]
pub struct TenantDraft {
    /// Unique name for machines.
    pub slug: Slug,
    /// Name for people.
    pub name: Name,
}

/// What may be changed about a tenant.
#[derive(Debug, Clone)]
pub struct TenantChange {
    /// Unique name for machines.
    pub slug: Slug,
    /// Name for people.
    pub name: Name,
    /// Whether its people may sign in and its applications may call.
    pub is_active: bool,
}

impl Market {
    /// Lists tenants: all for platform administrators, otherwise the caller's own.
    pub async fn list_tenants(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<PageOf<Tenant>, MarketError> {
        self.require(request, Action::ListTenants).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::tenant::list(&mut tx, viewer(&request.caller), page).await?)
    }

    /// Reads a tenant.
    pub async fn read_tenant(
        &self,
        request: &Request,
        id: TenantId,
    ) -> Result<Tenant, MarketError> {
        self.require(request, Action::ReadTenant).await?;
        if !request.caller.acts_for(id) {
            return Err(MarketError::NotFound(Kind::Tenant));
        }
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        store::tenant::find(&mut tx, id).await?.ok_or(MarketError::NotFound(Kind::Tenant))
    }

    /// Adds a tenant.
    pub async fn create_tenant(
        &self,
        request: &Request,
        draft: TenantDraft,
    ) -> Result<Tenant, MarketError> {
        let mut change = match self.begin(request, Action::CreateTenant).await? {
            Begun::Fresh(change) => change,
            Begun::Done(tenant) => return Ok(tenant),
        };
        let now = self.clock.now();
        let tenant = Tenant {
            id: self.ids.next(),
            slug: draft.slug,
            name: draft.name,
            is_active: true,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::tenant::insert(change.tx(), &tenant)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Tenant, "slug")))?;
        change.audit(tenant.id, tenant.id, json!({ "slug": tenant.slug })).await?;
        change.announce(tenant.id, EventKind::TenantChanged, &tenant.id);
        change.finish(tenant).await
    }

    /// Changes a tenant. While it is not active nobody of it signs in, and none of its applications calls.
    pub async fn change_tenant(
        &self,
        request: &Request,
        action: Action,
        id: TenantId,
        wanted: TenantChange,
    ) -> Result<Tenant, MarketError> {
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(tenant) => return Ok(tenant),
        };
        let before = find(request, &mut change, id).await?;
        if id == request.caller.tenant && !wanted.is_active {
            return Err(Conflict::InUse(Kind::Tenant, "it is your own").into());
        }
        let tenant = Tenant {
            slug: wanted.slug,
            name: wanted.name,
            is_active: wanted.is_active,
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            ..before
        };
        store::tenant::update(change.tx(), &tenant)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Tenant, "slug")))?;
        change.audit(id, id, json!({ "slug": tenant.slug, "isActive": tenant.is_active })).await?;
        change.announce(id, EventKind::TenantChanged, &id);
        change.finish(tenant).await
    }

    /// Removes a tenant to which nothing belongs any more.
    pub async fn remove_tenant(&self, request: &Request, id: TenantId) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveTenant).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let tenant = find(request, &mut change, id).await?;
        let in_use = Conflict::InUse(
            Kind::Tenant,
            "people, APIs or applications belong to it; deactivate it instead",
        );
        store::tenant::delete(change.tx(), id).await.map_err(MarketError::referenced_as(in_use))?;
        change.audit(request.caller.tenant, id, json!({ "slug": tenant.slug })).await?;
        change.announce(id, EventKind::TenantChanged, &id);
        change.finish(()).await
    }
}

/// The tenant that something new belongs to: the caller's own, or another one that the caller acts for.
pub(crate) async fn acting_for(
    request: &Request,
    change: &mut Change<'_>,
    wanted: Option<TenantId>,
) -> Result<TenantId, MarketError> {
    let own = request.caller.tenant;
    let Some(tenant) = wanted.filter(|tenant| *tenant != own) else { return Ok(own) };
    if !request.caller.acts_for(tenant) {
        return Err(change.forbidden());
    }
    store::tenant::find(change.tx(), tenant).await?.ok_or(MarketError::NotFound(Kind::Tenant))?;
    Ok(tenant)
}

async fn find(
    request: &Request,
    change: &mut Change<'_>,
    id: TenantId,
) -> Result<Tenant, MarketError> {
    let tenant =
        store::tenant::find(change.tx(), id).await?.ok_or(MarketError::NotFound(Kind::Tenant))?;
    request.check_revision(tenant.revision)?;
    Ok(tenant)
}
