//! Tenants of the installation.

use authz::Action;
use jiff::Timestamp;
use market::{Kind, TenantChange, TenantDraft};
use model::{Name, Slug, Tenant, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Listing, applications::PageQuery};
use crate::{
    body,
    call::{self, Call},
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/admin/tenants",
            Action::ListTenants,
            "List tenants: all for platform administrators, else one's own",
        )
        .query::<PageQuery>()
        .answers::<Listing<TenantView>>()
        .run(list),
        post("/admin/tenants", Action::CreateTenant, "Add a tenant")
            .creates::<TenantView>()
            .body(create),
        get("/admin/tenants/{id}", Action::ReadTenant, "Read a tenant")
            .answers::<TenantView>()
            .run(read),
        put("/admin/tenants/{id}", Action::ReplaceTenant, "Replace a tenant")
            .answers::<TenantView>()
            .body(replace),
        patch("/admin/tenants/{id}", Action::ChangeTenant, "Change a tenant")
            .answers::<TenantView>()
            .body(change),
        delete("/admin/tenants/{id}", Action::RemoveTenant, "Remove an empty tenant").run(remove),
    ]
}

/// A tenant to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewTenantBody {
    slug: Slug,
    name: Name,
}

/// What may be changed about a tenant.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TenantBody {
    slug: Slug,
    name: Name,
    /// Whether its people may sign in and its applications may call.
    active: bool,
}

/// A tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TenantView {
    id: TenantId,
    slug: Slug,
    name: Name,
    active: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let Tenant { id, slug, name, is_active, created_at, updated_at, revision } = tenant;
        Self { id, slug, name, active: is_active, created_at, updated_at, revision }
    }
}

impl From<TenantBody> for TenantChange {
    fn from(body: TenantBody) -> Self {
        let TenantBody { slug, name, active } = body;
        Self { slug, name, is_active: active }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: PageQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = call.market.list_tenants(call.request(), page).await?;
    Ok(Reply::ok(&Listing::of(number, limit, found, TenantView::from)))
}

async fn create(call: Call, body: NewTenantBody) -> Result<Reply, Problem> {
    let draft = TenantDraft { slug: body.slug, name: body.name };
    let tenant = call.market.create_tenant(call.request(), draft).await?;
    let (id, revision) = (tenant.id, tenant.revision);
    Ok(Reply::created(&TenantView::from(tenant))
        .revision(revision)
        .location(&format!("/admin/tenants/{id}")))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Tenant)?;
    Ok(shown(call.market.read_tenant(call.request(), id).await?))
}

async fn replace(call: Call, body: TenantBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Tenant)?;
    let action = Action::ReplaceTenant;
    Ok(shown(call.market.change_tenant(call.request(), action, id, body.into()).await?))
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Tenant)?;
    let current = call.market.read_tenant(call.request(), id).await?;
    let request = call.request_for(current.revision);
    let body = TenantBody { slug: current.slug, name: current.name, active: current.is_active };
    let body = body::patched(body, patch)?;
    let action = Action::ChangeTenant;
    Ok(shown(call.market.change_tenant(&request, action, id, body.into()).await?))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Tenant)?;
    call.market.remove_tenant(call.request(), id).await?;
    Ok(Reply::no_content())
}

fn shown(tenant: Tenant) -> Reply {
    let revision = tenant.revision;
    Reply::ok(&TenantView::from(tenant)).revision(revision)
}
