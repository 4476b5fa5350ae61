//! Subscriptions: asked for by consumers, decided at the owner's tenant.

use authz::{Action, Caller};
use jiff::Timestamp;
use model::{
    ApiId, ApplicationId, Approval, EventKind, FirstApproval, Name, PlanId, Quota, Subscription,
    SubscriptionId, SubscriptionStatus,
};
use serde_json::json;
use store::{Page, PageOf, Viewer};

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, Violation, apis, applications, versions,
    viewer,
};

/// A subscription that is asked for.
#[derive(Debug, Clone)]
pub struct SubscriptionDraft {
    /// The application that will call.
    pub application: ApplicationId,
    /// The API.
    pub api: ApiId,
    /// Its version; the newest active one, when absent.
    pub number: Option<semver::Version>,
    /// The plan.
    pub plan: PlanId,
    /// Why the data is used.
    pub purpose_of_use: Option<Name>,
    /// SHA-256 of the signed agreement, in hex.
    pub agreement_sha256: Option<String>,
    /// When the right ends.
    pub expires_at: Option<Timestamp>,
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// Calls in this period that were counted so far.
    pub used: u64,
    /// What is allowed.
    pub quota: Quota,
    /// When the next period begins.
    pub resets_at: Timestamp,
}

/// A step in the life of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionMove {
    /// The owner agrees, or lifts a suspension.
    Approve,
    /// The owner refuses.
    Reject,
    /// The owner stops it for now.
    Suspend,
    /// Either side ends it.
    Cancel,
}

impl SubscriptionMove {
    const fn action(self) -> Action {
        match self {
            Self::Approve => Action::ApproveSubscription,
            Self::Reject => Action::RejectSubscription,
            Self::Suspend => Action::SuspendSubscription,
            Self::Cancel => Action::CancelSubscription,
        }
    }

    const fn event(self) -> EventKind {
        match self {
            Self::Approve => EventKind::SubscriptionApproved,
            Self::Reject => EventKind::SubscriptionRejected,
            Self::Suspend => EventKind::SubscriptionSuspended,
            Self::Cancel => EventKind::SubscriptionCancelled,
        }
    }

    const fn status(self) -> SubscriptionStatus {
        match self {
            Self::Approve => SubscriptionStatus::Active,
            Self::Reject => SubscriptionStatus::Rejected,
            Self::Suspend => SubscriptionStatus::Suspended,
            Self::Cancel => SubscriptionStatus::Cancelled,
        }
    }
}

impl Market {
    /// Asks for a subscription; under an automatic plan it is active at once.
    pub async fn request_subscription(
        &self,
        request: &Request,
        draft: SubscriptionDraft,
    ) -> Result<Subscription, MarketError> {
        let mut change = match self.begin(request, Action::RequestSubscription).await? {
            Begun::Fresh(change) => change,
            Begun::Done(subscription) => return Ok(subscription),
        };
        let now = self.clock.now();
        check(&draft, now)?;
        let application = applications::find_own(request, &mut change, draft.application).await?;
        let api = apis::find_visible(change.tx(), request, draft.api).await?;
        if !api.visibility.admits(api.tenant, application.tenant) {
            return Err(MarketError::NotFound(Kind::Api));
        }
        let visible = store::version::list_of(change.tx(), viewer(&request.caller), api.id).await?;
        let version = versions::pick(&visible, draft.number.as_ref())?;
        if !version.status.is_open() {
            return Err(Conflict::VersionNotActive(version.number.clone()).into());
        }
        let plan = store::plan::find(change.tx(), draft.plan)
            .await?
            .filter(|plan| plan.api == api.id)
            .ok_or(MarketError::NotFound(Kind::Plan))?;
        if !plan.is_open {
            return Err(Conflict::PlanClosed.into());
        }
        let status = match plan.approval {
            Approval::Automatic => SubscriptionStatus::Active,
            Approval::Owner | Approval::TwoPerson => SubscriptionStatus::Pending,
        };
        let subscription = Subscription {
            id: self.ids.next(),
            application: application.id,
            consumer: application.tenant,
            api: api.id,
            owner: api.tenant,
            version: version.id,
            plan: plan.id,
            status,
            purpose_of_use: draft.purpose_of_use,
            agreement_sha256: draft.agreement_sha256.map(|hash| hash.to_ascii_lowercase()),
            expires_at: draft.expires_at,
            requested_by: request.caller.user(),
            first_approval: None,
            decided_by: None,
            comments: String::new(),
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::subscription::insert(change.tx(), &subscription).await.map_err(
            MarketError::duplicate_as(Conflict::Taken(
                Kind::Subscription,
                "application and version",
            )),
        )?;
        let details = json!({
            "api": api.id, "version": version.number, "plan": plan.id, "application": application.id,
            "consumer": application.tenant, "status": status,
        });
        change.audit(api.tenant, subscription.id, details.clone()).await?;
        if application.tenant != api.tenant {
            change.audit(application.tenant, subscription.id, details).await?;
        }
        change.announce(api.tenant, EventKind::SubscriptionChanged, &subscription.id);
        if status == SubscriptionStatus::Pending {
            let kind = EventKind::SubscriptionRequested;
            change.announce(api.tenant, kind, &subscription.id);
        }
        change.finish(subscription).await
    }

    /// Moves a subscription. The owner's tenant approves, rejects and suspends; either side cancels. Under a plan that takes
    /// two people, the first approval is noted and leaves it where it is.
    pub async fn move_subscription(
        &self,
        request: &Request,
        id: SubscriptionId,
        step: SubscriptionMove,
        comments: String,
    ) -> Result<Subscription, MarketError> {
        versions::check_words("comments", &comments)?;
        let mut change = match self.begin(request, step.action()).await? {
            Begun::Fresh(change) => change,
            Begun::Done(subscription) => return Ok(subscription),
        };
        let mut subscription = store::subscription::find(change.tx(), viewer(&request.caller), id)
            .await?
            .ok_or(MarketError::NotFound(Kind::Subscription))?;
        if !may_move(&request.caller, &subscription, step) {
            return Err(change.forbidden());
        }
        request.check_revision(subscription.revision)?;
        let before = subscription.status;
        let now = self.clock.now();
        if !before.may_become(step.status())
            || subscription.expires_at.is_some_and(|end| end <= now)
        {
            return Err(Conflict::SubscriptionState(before.as_str(), step.status().as_str()).into());
        }
        let approver = request.caller.user();
        let is_first = match (step, subscription.first_approval) {
            (SubscriptionMove::Approve, None) => {
                let plan = store::plan::find(change.tx(), subscription.plan).await?;
                plan.is_some_and(|plan| plan.approval == Approval::TwoPerson)
            }
            (SubscriptionMove::Approve, Some(first)) if first.by == approver => {
                return Err(Conflict::OwnApproval.into());
            }
            // Whoever lets it go on later has to be two people again.
            (SubscriptionMove::Suspend, _) => {
                subscription.first_approval = None;
                false
            }
            _ => false,
        };
        if is_first {
            subscription.first_approval = Some(FirstApproval { by: approver, at: now });
        } else {
            subscription.status = step.status();
            subscription.decided_by = Some(approver);
        }
        subscription.comments = comments;
        subscription.updated_at = now;
        subscription.revision += 1;
        store::subscription::update(change.tx(), &subscription).await?;
        let mut details = json!({ "before": before, "after": subscription.status, "comments": subscription.comments });
        if subscription.first_approval.is_some() && step == SubscriptionMove::Approve {
            details["approval"] = json!(if is_first { "first" } else { "second" });
        }
        change.audit(subscription.owner, id, details.clone()).await?;
        if subscription.consumer != subscription.owner {
            change.audit(subscription.consumer, id, details).await?;
        }
        change.announce(subscription.owner, EventKind::SubscriptionChanged, &id);
        if !is_first {
            change.announce(subscription.owner, step.event(), &id);
        }
        change.finish(subscription).await
    }

    /// Reads a subscription on either side.
    pub async fn read_subscription(
        &self,
        request: &Request,
        id: SubscriptionId,
    ) -> Result<Subscription, MarketError> {
        self.require(request, Action::ReadSubscription).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        store::subscription::find(&mut tx, viewer(&request.caller), id)
            .await?
            .ok_or(MarketError::NotFound(Kind::Subscription))
    }

    /// The name of the first of two people who approved, for the owner's tenant; none when the account was removed.
    pub async fn read_first_approver(
        &self,
        request: &Request,
        id: SubscriptionId,
    ) -> Result<Option<Name>, MarketError> {
        let subscription = self.read_subscription(request, id).await?;
        let owner = subscription.owner;
        let Some(first) = subscription.first_approval.filter(|_| request.caller.acts_for(owner))
        else {
            return Ok(None);
        };
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let account = store::account::find(&mut tx, Viewer::Tenant(owner), first.by).await?;
        Ok(account.map(|account| account.name))
    }

    /// How much of the plan's quota a subscription has used, for either side; none when the plan has no quota.
    pub async fn read_quota_use(
        &self,
        request: &Request,
        id: SubscriptionId,
    ) -> Result<Option<QuotaUse>, MarketError> {
        let subscription = self.read_subscription(request, id).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let plan = store::plan::find(&mut tx, subscription.plan).await?;
        let Some(quota) = plan.and_then(|plan| plan.quota) else { return Ok(None) };
        let (start, end) = quota.period.bounds(self.clock.now());
        let used = store::usage::count_under(&mut tx, id, start).await?;
        Ok(Some(QuotaUse { used, quota, resets_at: end }))
    }

    /// The names of the application and the tenant that ask for a subscription or hold it, for either side.
    pub async fn read_requester(
        &self,
        request: &Request,
        id: SubscriptionId,
    ) -> Result<(Name, Name), MarketError> {
        let subscription = self.read_subscription(request, id).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let everything = Viewer::Installation;
        let application = store::application::find(&mut tx, everything, subscription.application);
        let application = application.await?.ok_or(MarketError::NotFound(Kind::Application))?;
        let tenant = store::tenant::find(&mut tx, subscription.consumer).await?;
        let tenant = tenant.ok_or(MarketError::NotFound(Kind::Tenant))?;
        Ok((application.name, tenant.name))
    }

    /// Lists subscriptions on either side, newest first.
    pub async fn list_subscriptions(
        &self,
        request: &Request,
        filter: &store::subscription::Filter,
        page: Page,
    ) -> Result<PageOf<Subscription>, MarketError> {
        self.require(request, Action::ListSubscriptions).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::subscription::list(&mut tx, viewer(&request.caller), filter, page).await?)
    }
}

/// Decisions belong to the owner's side; giving up also to the consumer's.
fn may_move(caller: &Caller, subscription: &Subscription, step: SubscriptionMove) -> bool {
    let decides =
        caller.acts_for(subscription.owner) && caller.require(Action::ApproveSubscription).is_ok();
    let consumes = caller.acts_for(subscription.consumer)
        && caller.require(Action::RequestSubscription).is_ok();
    decides || (step == SubscriptionMove::Cancel && consumes)
}

fn check(draft: &SubscriptionDraft, now: Timestamp) -> Result<(), MarketError> {
    let mut violations = Vec::new();
    if draft.expires_at.is_some_and(|end| end <= now) {
        violations.push(Violation::new("expiresAt", "must be in the future"));
    }
    let is_hash =
        |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if draft.agreement_sha256.as_ref().is_some_and(|hash| !is_hash(hash)) {
        violations.push(Violation::new("agreementSha256", "must be 64 hexadecimal digits"));
    }
    if violations.is_empty() { Ok(()) } else { Err(MarketError::Invalid(violations)) }
}
