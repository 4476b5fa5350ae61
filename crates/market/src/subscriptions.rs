//! Subscriptions: asked for by consumers, decided at the owner's tenant.

use authz::{Action, Caller};
use jiff::Timestamp;
use model::{
    Api, ApiId, ApplicationId, Approval, EventKind, FirstApproval, Name, PlanId, Quota, Signature,
    Slug, Subscription, SubscriptionId, SubscriptionStatus,
};
use serde_json::json;
use store::{Page, PageOf, Viewer, subscription::Registered};

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, Violation, apis, applications,
    change::Change, secrets, versions, viewer,
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
    /// Kinds of data, of those that the API names; all of them when absent.
    pub data_categories: Option<Vec<Slug>>,
    /// SHA-256 of the signed agreement, in hex.
    pub agreement_sha256: Option<String>,
    /// When the right ends.
    pub expires_at: Option<Timestamp>,
}

/// What it takes to sign an approval.
pub struct SignatureDraft {
    /// What is meant by it.
    pub meaning: Name,
    /// The password of the one who signs.
    pub password: String,
    /// A code, for accounts with a second factor.
    pub code: Option<String>,
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
        let data_categories = data_categories(&api, draft.data_categories)?;
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
            data_categories,
            agreement_sha256: draft.agreement_sha256.map(|hash| hash.to_ascii_lowercase()),
            expires_at: draft.expires_at,
            requested_by: request.caller.user(),
            first_approval: None,
            decided_by: None,
            signatures: Vec::new(),
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
            "consumer": application.tenant, "status": status, "purposeOfUse": subscription.purpose_of_use,
            "dataCategories": subscription.data_categories,
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

    /// Approves a subscription, as [`move_subscription`](Self::move_subscription) does, and signs the approval: the one who
    /// signs proves anew who that is, and says what is meant (21 CFR 11.50 and 11.200). Plans may ask for it.
    pub async fn approve_subscription(
        &self,
        request: &Request,
        id: SubscriptionId,
        comments: String,
        signature: Option<SignatureDraft>,
    ) -> Result<Subscription, MarketError> {
        // Before the transaction, because comparing passwords takes long.
        if let Some(signature) = &signature {
            self.require(request, Action::ApproveSubscription).await?;
            let field = "signature.currentPassword";
            self.prove_self(request, &signature.password, field).await?;
        }
        self.advance(request, id, SubscriptionMove::Approve, comments, signature).await
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
        self.advance(request, id, step, comments, None).await
    }

    async fn advance(
        &self,
        request: &Request,
        id: SubscriptionId,
        step: SubscriptionMove,
        comments: String,
        signature: Option<SignatureDraft>,
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
        let plan = store::plan::find(change.tx(), subscription.plan).await?;
        let plan = plan.ok_or(MarketError::NotFound(Kind::Plan))?;
        let is_first = match (step, subscription.first_approval) {
            (SubscriptionMove::Approve, None) => plan.approval == Approval::TwoPerson,
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
        let signed = match signature {
            Some(signature) => {
                Some(self.sign_approval(&mut change, &subscription, signature).await?)
            }
            None if step == SubscriptionMove::Approve && plan.is_signed => {
                let needed = "is needed: the plan asks those who approve to sign";
                return Err(MarketError::invalid("signature", needed));
            }
            None => None,
        };
        if is_first {
            subscription.first_approval = Some(FirstApproval { by: approver, at: now });
        } else {
            subscription.status = step.status();
            subscription.decided_by = Some(approver);
        }
        subscription.signatures.extend(signed.clone());
        subscription.comments = comments;
        subscription.updated_at = now;
        subscription.revision += 1;
        store::subscription::update(change.tx(), &subscription).await?;
        let mut details = json!({ "before": before, "after": subscription.status, "comments": subscription.comments });
        if subscription.first_approval.is_some() && step == SubscriptionMove::Approve {
            details["approval"] = json!(if is_first { "first" } else { "second" });
        }
        if let Some(Signature { name, meaning, sha256, .. }) = signed {
            details["signature"] = json!({ "name": name, "meaning": meaning, "sha256": sha256 });
        }
        change.audit(subscription.owner, id, details.clone()).await?;
        if subscription.consumer != subscription.owner {
            change.audit(subscription.consumer, id, details).await?;
        }
        change.announce(subscription.owner, EventKind::SubscriptionChanged, &id);
        if !is_first {
            change.announce(subscription.owner, step.event(), &id);
        }
        change.finish(shown_to(&request.caller, subscription)).await
    }

    /// Signs what is agreed to, in the name of the one who asks.
    async fn sign_approval(
        &self,
        change: &mut Change<'_>,
        subscription: &Subscription,
        draft: SignatureDraft,
    ) -> Result<Signature, MarketError> {
        let user = self.prove_code(change, draft.code.as_deref()).await?;
        let terms = json!({
            "subscription": subscription.id, "application": subscription.application,
            "consumer": subscription.consumer, "api": subscription.api, "version": subscription.version,
            "plan": subscription.plan, "purposeOfUse": subscription.purpose_of_use,
            "dataCategories": subscription.data_categories, "agreementSha256": subscription.agreement_sha256, "expiresAt": subscription.expires_at,
        });
        Ok(Signature {
            by: user.id,
            name: user.name,
            at: self.clock.now(),
            meaning: draft.meaning,
            sha256: secrets::sha256_hex(&[terms.to_string().as_bytes()]),
        })
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
            .map(|subscription| shown_to(&request.caller, subscription))
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
        let viewer = viewer(&request.caller);
        let mut found = store::subscription::list(&mut tx, viewer, filter, page).await?;
        let items = found.items.into_iter();
        found.items = items.map(|item| shown_to(&request.caller, item)).collect();
        Ok(found)
    }

    /// Lists agreements that are or were in force, on either side, newest first: the register of who uses whose data for
    /// what (GDPR Art. 30).
    pub async fn list_agreements(
        &self,
        request: &Request,
        before: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<Registered>, MarketError> {
        self.require(request, Action::ListAgreements).await?;
        let viewer = viewer(&request.caller);
        let mut tx = self.db.read(viewer).await?;
        let mut found =
            store::subscription::register(&mut tx, viewer, before, limit.into()).await?;
        for agreement in &mut found {
            agreement.subscription = shown_to(&request.caller, agreement.subscription.clone());
        }
        Ok(found)
    }
}

/// What an agreement is about: what was asked for, as far as the API has it.
fn data_categories(api: &Api, asked: Option<Vec<Slug>>) -> Result<Vec<Slug>, MarketError> {
    let known = &api.classification.data_categories;
    let Some(mut asked) = asked else { return Ok(known.clone()) };
    asked.sort_unstable();
    asked.dedup();
    let violations: Vec<_> = asked
        .iter()
        .filter(|category| !known.contains(category))
        .map(|category| {
            let message = format!("{category} is no kind of data that the API names");
            Violation::new("dataCategories", message)
        })
        .collect();
    if violations.is_empty() { Ok(asked) } else { Err(MarketError::Invalid(violations)) }
}

/// A subscription as the caller may see it: who signed is known to the owner's tenant alone.
fn shown_to(caller: &Caller, mut subscription: Subscription) -> Subscription {
    if !caller.acts_for(subscription.owner) {
        subscription.signatures.clear();
    }
    subscription
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
