//! Plans that APIs offer.

use authz::Action;
use jiff::Timestamp;
use market::{Kind, PlanDraft};
use model::{ApiId, Approval, Name, Plan, PlanId, Quota};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Listing, limits::LimitBody};
use crate::{
    body,
    call::{self, Call},
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/plans", Action::ListPlans, "List the plans of an API, or of all of one's own")
            .query::<PlanQuery>()
            .answers::<Listing<PlanView>>()
            .run(list),
        post("/plans", Action::CreatePlan, "Offer a plan").creates::<PlanView>().body(create),
        get("/plans/{id}", Action::ReadPlan, "Read a plan").answers::<PlanView>().run(read),
        put("/plans/{id}", Action::ReplacePlan, "Replace a plan")
            .answers::<PlanView>()
            .body(replace),
        patch("/plans/{id}", Action::ChangePlan, "Change a plan")
            .answers::<PlanView>()
            .body(change),
        delete("/plans/{id}", Action::RemovePlan, "Remove a plan that nobody uses").run(remove),
    ]
}

/// Whose plans are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PlanQuery {
    /// All of one's own APIs, when absent.
    api_id: Option<ApiId>,
    /// From 1.
    page: Option<u32>,
    /// Items in a page, 1 to 200.
    limit: Option<u32>,
}

/// A plan.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlanBody {
    /// The API that offers it; never changes.
    api_id: ApiId,
    name: Name,
    #[serde(default)]
    description: String,
    /// Limits of each subscriber.
    #[serde(default)]
    limits: Vec<LimitBody>,
    /// Calls in a calendar day or month (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
    #[serde(default = "owner_approves")]
    approval: Approval,
    /// Whether whoever approves has to sign, with the password and a stated meaning.
    #[serde(default)]
    signed: bool,
    /// Whether it takes new subscribers.
    #[serde(default = "is_open")]
    open: bool,
}

const fn owner_approves() -> Approval {
    Approval::Owner
}

const fn is_open() -> bool {
    true
}

/// A plan.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PlanView {
    id: PlanId,
    #[serde(flatten)]
    body: PlanBody,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

impl From<PlanBody> for PlanDraft {
    fn from(body: PlanBody) -> Self {
        Self {
            name: body.name,
            description: body.description,
            limits: body.limits.into_iter().map(Into::into).collect(),
            quota: body.quota,
            approval: body.approval,
            is_signed: body.signed,
            is_open: body.open,
        }
    }
}

impl From<Plan> for PlanBody {
    fn from(plan: Plan) -> Self {
        Self {
            api_id: plan.api,
            name: plan.name,
            description: plan.description,
            limits: plan.limits.into_iter().map(LimitBody::from).collect(),
            quota: plan.quota,
            approval: plan.approval,
            signed: plan.is_signed,
            open: plan.is_open,
        }
    }
}

impl From<Plan> for PlanView {
    fn from(plan: Plan) -> Self {
        Self {
            id: plan.id,
            created_at: plan.created_at,
            updated_at: plan.updated_at,
            revision: plan.revision,
            body: plan.into(),
        }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: PlanQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = match query.api_id {
        Some(api) => page.of(call.market.list_plans(call.request(), api).await?),
        None => call.market.list_own_plans(call.request(), page).await?,
    };
    Ok(Reply::ok(&Listing::of(number, limit, found, PlanView::from)))
}

async fn create(call: Call, body: PlanBody) -> Result<Reply, Problem> {
    let api = body.api_id;
    let plan = call.market.create_plan(call.request(), api, body.into()).await?;
    let (id, revision) = (plan.id, plan.revision);
    Ok(Reply::created(&PlanView::from(plan)).revision(revision).location(&format!("/plans/{id}")))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Plan)?;
    let plan = call.market.read_plan(call.request(), id).await?;
    Ok(shown(plan))
}

async fn replace(call: Call, body: PlanBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Plan)?;
    let current = call.market.read_plan(call.request(), id).await?;
    store(&call, call.request(), Action::ReplacePlan, &current, body).await
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Plan)?;
    let current = call.market.read_plan(call.request(), id).await?;
    let request = call.request_for(current.revision);
    let body = body::patched(PlanBody::from(current.clone()), patch)?;
    store(&call, &request, Action::ChangePlan, &current, body).await
}

async fn store(
    call: &Call,
    request: &market::Request,
    action: Action,
    current: &Plan,
    body: PlanBody,
) -> Result<Reply, Problem> {
    if body.api_id != current.api {
        return Err(Problem::invalid("apiId", "cannot be changed"));
    }
    let plan = call.market.replace_plan(request, action, current.id, body.into()).await?;
    Ok(shown(plan))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Plan)?;
    call.market.remove_plan(call.request(), id).await?;
    Ok(Reply::no_content())
}

fn shown(plan: Plan) -> Reply {
    let revision = plan.revision;
    Reply::ok(&PlanView::from(plan)).revision(revision)
}
