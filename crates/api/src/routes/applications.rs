//! Applications of consumers.

use authz::Action;
use jiff::Timestamp;
use market::{ApplicationDraft, Kind};
use model::{Application, ApplicationId, Name, TenantId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Listing;
use crate::{
    body,
    call::{self, Call},
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/applications", Action::ListApplications, "List applications")
            .query::<PageQuery>()
            .answers::<Listing<ApplicationView>>()
            .run(list),
        post("/applications", Action::CreateApplication, "Register an application")
            .creates::<ApplicationView>()
            .body(create),
        get("/applications/{id}", Action::ReadApplication, "Read an application")
            .answers::<ApplicationView>()
            .run(read),
        put("/applications/{id}", Action::ReplaceApplication, "Replace an application")
            .answers::<ApplicationView>()
            .body(replace),
        patch("/applications/{id}", Action::ChangeApplication, "Change an application")
            .answers::<ApplicationView>()
            .body(change),
        delete(
            "/applications/{id}",
            Action::RemoveApplication,
            "Remove an application with its credentials and subscriptions",
        )
        .run(remove),
    ]
}

/// Which part of a list.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PageQuery {
    /// From 1.
    pub(super) page: Option<u32>,
    /// Items in a page, 1 to 200.
    pub(super) limit: Option<u32>,
}

/// What is said about an application.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApplicationBody {
    name: Name,
    #[serde(default)]
    description: String,
}

/// An application to register.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewApplicationBody {
    name: Name,
    #[serde(default)]
    description: String,
    /// The tenant that it belongs to; one's own, when absent.
    tenant_id: Option<TenantId>,
}

/// An application.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationView {
    id: ApplicationId,
    tenant_id: TenantId,
    name: Name,
    description: String,
    created_by: UserId,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

impl From<ApplicationBody> for ApplicationDraft {
    fn from(body: ApplicationBody) -> Self {
        let ApplicationBody { name, description } = body;
        Self { name, description }
    }
}

impl From<Application> for ApplicationView {
    fn from(application: Application) -> Self {
        let Application {
            id,
            tenant,
            name,
            description,
            created_by,
            created_at,
            updated_at,
            revision,
        } = application;
        Self {
            id,
            tenant_id: tenant,
            name,
            description,
            created_by,
            created_at,
            updated_at,
            revision,
        }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: PageQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = call.market.list_applications(call.request(), page).await?;
    Ok(Reply::ok(&Listing::of(number, limit, found, ApplicationView::from)))
}

async fn create(call: Call, body: NewApplicationBody) -> Result<Reply, Problem> {
    let NewApplicationBody { name, description, tenant_id } = body;
    let draft = ApplicationDraft { name, description };
    let application = call.market.create_application(call.request(), tenant_id, draft).await?;
    let (id, revision) = (application.id, application.revision);
    Ok(Reply::created(&ApplicationView::from(application))
        .revision(revision)
        .location(&format!("/applications/{id}")))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Application)?;
    Ok(shown(call.market.read_application(call.request(), id).await?))
}

async fn replace(call: Call, body: ApplicationBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Application)?;
    let action = Action::ReplaceApplication;
    Ok(shown(call.market.replace_application(call.request(), action, id, body.into()).await?))
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Application)?;
    let current = call.market.read_application(call.request(), id).await?;
    let request = call.request_for(current.revision);
    let body = ApplicationBody { name: current.name, description: current.description };
    let body = body::patched(body, patch)?;
    let action = Action::ChangeApplication;
    Ok(shown(call.market.replace_application(&request, action, id, body.into()).await?))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Application)?;
    call.market.remove_application(call.request(), id).await?;
    Ok(Reply::no_content())
}

fn shown(application: Application) -> Reply {
    let revision = application.revision;
    Reply::ok(&ApplicationView::from(application)).revision(revision)
}
