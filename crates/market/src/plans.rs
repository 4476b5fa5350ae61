//! Plans that APIs offer.

use authz::Action;
use model::{ApiId, Approval, EventKind, Name, Plan, PlanId, Quota};
use serde_json::json;
use store::{Page, PageOf};

use crate::{
    Begun, Conflict, Kind, LimitDraft, Market, MarketError, Request, Violation, apis,
    change::Change, limits, viewer,
};

/// What is said about a plan.
#[derive(Debug, Clone)]
pub struct PlanDraft {
    /// Unique within the API.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// Limits of each subscriber.
    pub limits: Vec<LimitDraft>,
    /// Calls in a day or month.
    pub quota: Option<Quota>,
    /// Who has to agree to a subscription.
    pub approval: Approval,
    /// Whether whoever approves has to sign.
    pub is_signed: bool,
    /// Whether it takes new subscribers.
    pub is_open: bool,
}

const DESCRIPTION_MAX: usize = 4_000;

impl Market {
    /// Offers a plan.
    pub async fn create_plan(
        &self,
        request: &Request,
        api: ApiId,
        draft: PlanDraft,
    ) -> Result<Plan, MarketError> {
        let mut change = match self.begin(request, Action::CreatePlan).await? {
            Begun::Fresh(change) => change,
            Begun::Done(plan) => return Ok(plan),
        };
        let api = apis::find_own(request, &mut change, api).await?;
        let count = store::plan::list_of(change.tx(), api.id).await?.len();
        if i64::try_from(count).unwrap_or(i64::MAX) >= store::plan::MAX_PER_API {
            return Err(Conflict::TooMany(store::plan::MAX_PER_API).into());
        }
        let now = self.clock.now();
        let checked = check(draft)?;
        let plan = Plan {
            id: self.ids.next(),
            api: api.id,
            tenant: api.tenant,
            created_at: now,
            updated_at: now,
            revision: 1,
            name: checked.name,
            description: checked.description,
            limits: checked.limits,
            quota: checked.quota,
            approval: checked.approval,
            is_signed: checked.is_signed,
            is_open: checked.is_open,
        };
        store::plan::insert(change.tx(), &plan)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Plan, "name")))?;
        change.audit(plan.tenant, plan.id, json!({ "api": plan.api, "name": plan.name })).await?;
        change.announce(plan.tenant, EventKind::PlanChanged, &plan.id);
        change.finish(plan).await
    }

    /// Replaces what is said about a plan; its subscribers are held to it at once.
    pub async fn replace_plan(
        &self,
        request: &Request,
        action: Action,
        id: PlanId,
        draft: PlanDraft,
    ) -> Result<Plan, MarketError> {
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(plan) => return Ok(plan),
        };
        let before = find_own(request, &mut change, id).await?;
        let checked = check(draft)?;
        let plan = Plan {
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            name: checked.name,
            description: checked.description,
            limits: checked.limits,
            quota: checked.quota,
            approval: checked.approval,
            is_signed: checked.is_signed,
            is_open: checked.is_open,
            ..before
        };
        store::plan::update(change.tx(), &plan)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Plan, "name")))?;
        let details = json!({ "limits": plan.limits, "quota": plan.quota, "isOpen": plan.is_open });
        change.audit(plan.tenant, plan.id, details).await?;
        change.announce(plan.tenant, EventKind::PlanChanged, &plan.id);
        change.finish(plan).await
    }

    /// Removes a plan under which there never was a subscription.
    pub async fn remove_plan(&self, request: &Request, id: PlanId) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemovePlan).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let plan = find_own(request, &mut change, id).await?;
        let in_use =
            Conflict::InUse(Kind::Plan, "there are subscriptions under it; close it instead");
        store::plan::delete(change.tx(), &plan)
            .await
            .map_err(MarketError::referenced_as(in_use))?;
        change.audit(plan.tenant, plan.id, json!({ "name": plan.name })).await?;
        change.announce(plan.tenant, EventKind::PlanChanged, &plan.id);
        change.finish(()).await
    }

    /// Reads a plan of an API that the caller may see.
    pub async fn read_plan(&self, request: &Request, id: PlanId) -> Result<Plan, MarketError> {
        self.require(request, Action::ReadPlan).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let plan =
            store::plan::find(&mut tx, id).await?.ok_or(MarketError::NotFound(Kind::Plan))?;
        match apis::find_visible(&mut tx, request, plan.api).await {
            Ok(_) => Ok(plan),
            Err(MarketError::NotFound(_)) => Err(MarketError::NotFound(Kind::Plan)),
            Err(error) => Err(error),
        }
    }

    /// Lists the plans of an API that the caller may see.
    pub async fn list_plans(
        &self,
        request: &Request,
        api: ApiId,
    ) -> Result<Vec<Plan>, MarketError> {
        self.require(request, Action::ListPlans).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        apis::find_visible(&mut tx, request, api).await?;
        Ok(store::plan::list_of(&mut tx, api).await?)
    }

    /// Lists the plans of all of the caller's own APIs.
    pub async fn list_own_plans(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<PageOf<Plan>, MarketError> {
        self.require(request, Action::ListPlans).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::plan::list_own(&mut tx, viewer(&request.caller), page).await?)
    }
}

async fn find_own(
    request: &Request,
    change: &mut Change<'_>,
    id: PlanId,
) -> Result<Plan, MarketError> {
    let plan =
        store::plan::find(change.tx(), id).await?.ok_or(MarketError::NotFound(Kind::Plan))?;
    match apis::find_own(request, change, plan.api).await {
        Ok(_) => {}
        Err(MarketError::NotFound(_)) => return Err(MarketError::NotFound(Kind::Plan)),
        Err(error) => return Err(error),
    }
    request.check_revision(plan.revision)?;
    Ok(plan)
}

struct CheckedPlan {
    name: Name,
    description: String,
    limits: Vec<model::Limit>,
    quota: Option<Quota>,
    approval: Approval,
    is_signed: bool,
    is_open: bool,
}

fn check(draft: PlanDraft) -> Result<CheckedPlan, MarketError> {
    let PlanDraft { name, description, limits, quota, approval, is_signed, is_open } = draft;
    let mut violations = Vec::new();
    if description.len() > DESCRIPTION_MAX {
        violations.push(Violation::new(
            "description",
            format!("must have at most {DESCRIPTION_MAX} bytes"),
        ));
    }
    if quota.is_some_and(|quota| quota.requests == 0) {
        violations.push(Violation::new("quota.requests", "must be at least 1"));
    }
    if is_signed && approval == Approval::Automatic {
        let message = "needs somebody who approves: approval is automatic";
        violations.push(Violation::new("signed", message));
    }
    let limits = limits::parse("limits", limits, &mut violations);
    if violations.is_empty() {
        Ok(CheckedPlan { name, description, limits, quota, approval, is_signed, is_open })
    } else {
        Err(MarketError::Invalid(violations))
    }
}
