//! Subscriptions.

use authz::Action;
use jiff::Timestamp;
use market::{Kind, SignatureDraft, SubscriptionDraft, SubscriptionFilter, SubscriptionMove};
use model::{
    ApiId, ApplicationId, FirstApproval, Name, PlanId, Signature, Slug, Subscription,
    SubscriptionId, SubscriptionStatus, TenantId, UserId, VersionId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Listing;
use crate::{
    call::{self, Call},
    endpoint::{Endpoint, get, post},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/subscriptions", Action::ListSubscriptions, "List subscriptions, on either side")
            .query::<SubscriptionQuery>()
            .answers::<Listing<SubscriptionView>>()
            .run(list),
        post("/subscriptions", Action::RequestSubscription, "Ask for a subscription")
            .creates::<SubscriptionView>()
            .body(request),
        get("/subscriptions/{id}", Action::ReadSubscription, "Read a subscription")
            .answers::<SubscriptionView>()
            .run(read),
        post("/subscriptions/{id}/approve", Action::ApproveSubscription, "Approve a subscription")
            .with_revision()
            .answers::<SubscriptionView>()
            .body(approve),
        post("/subscriptions/{id}/reject", Action::RejectSubscription, "Reject a subscription")
            .with_revision()
            .answers::<SubscriptionView>()
            .body(|call, body| step(call, body, SubscriptionMove::Reject)),
        post("/subscriptions/{id}/suspend", Action::SuspendSubscription, "Suspend a subscription")
            .with_revision()
            .answers::<SubscriptionView>()
            .body(|call, body| step(call, body, SubscriptionMove::Suspend)),
        post(
            "/subscriptions/{id}/cancel",
            Action::CancelSubscription,
            "End a subscription, on either side",
        )
        .with_revision()
        .answers::<SubscriptionView>()
        .body(|call, body| step(call, body, SubscriptionMove::Cancel)),
    ]
}

/// A subscription that is asked for.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubscriptionBody {
    application_id: ApplicationId,
    api_id: ApiId,
    /// The newest active one, when absent.
    version: Option<semver::Version>,
    plan_id: PlanId,
    /// Why the data is used, such as `TREAT`.
    purpose_of_use: Option<Name>,
    /// Kinds of data, of those that the API's classification names; all of them when absent.
    data_categories: Option<Vec<Slug>>,
    /// SHA-256 of the signed agreement, in hex.
    agreement_sha256: Option<String>,
    expires_at: Option<Timestamp>,
}

/// A subscription.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubscriptionView {
    id: SubscriptionId,
    status: SubscriptionStatus,
    application_id: ApplicationId,
    consumer_tenant_id: TenantId,
    api_id: ApiId,
    owner_tenant_id: TenantId,
    version_id: VersionId,
    plan_id: PlanId,
    purpose_of_use: Option<Name>,
    /// Kinds of data that it is about.
    data_categories: Vec<Slug>,
    agreement_sha256: Option<String>,
    expires_at: Option<Timestamp>,
    requested_by: UserId,
    /// The first of two people who have to approve, under a plan that asks for two.
    first_approval: Option<FirstApprovalView>,
    decided_by: Option<UserId>,
    /// Signatures of those who approved, oldest first, for the owner's tenant.
    signatures: Vec<SignatureView>,
    /// What was said with the latest decision.
    comments: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

/// The first of two approvals.
#[derive(Serialize, JsonSchema)]
struct FirstApprovalView {
    by: UserId,
    at: Timestamp,
}

/// An electronic signature.
#[derive(Serialize, JsonSchema)]
struct SignatureView {
    by: UserId,
    /// The name of the person at the time.
    name: Name,
    at: Timestamp,
    meaning: Name,
    /// SHA-256 over what was signed, in hex.
    sha256: String,
}

impl From<Signature> for SignatureView {
    fn from(signature: Signature) -> Self {
        let Signature { by, name, at, meaning, sha256 } = signature;
        Self { by, name, at, meaning, sha256 }
    }
}

impl From<Subscription> for SubscriptionView {
    fn from(subscription: Subscription) -> Self {
        Self {
            id: subscription.id,
            status: subscription.status,
            application_id: subscription.application,
            consumer_tenant_id: subscription.consumer,
            api_id: subscription.api,
            owner_tenant_id: subscription.owner,
            version_id: subscription.version,
            plan_id: subscription.plan,
            purpose_of_use: subscription.purpose_of_use,
            data_categories: subscription.data_categories,
            agreement_sha256: subscription.agreement_sha256,
            expires_at: subscription.expires_at,
            requested_by: subscription.requested_by,
            first_approval: subscription
                .first_approval
                .map(|FirstApproval { by, at }| FirstApprovalView { by, at }),
            decided_by: subscription.decided_by,
            signatures: subscription.signatures.into_iter().map(Into::into).collect(),
            comments: subscription.comments,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
            revision: subscription.revision,
        }
    }
}

async fn request(call: Call, body: SubscriptionBody) -> Result<Reply, Problem> {
    let draft = SubscriptionDraft {
        application: body.application_id,
        api: body.api_id,
        number: body.version,
        plan: body.plan_id,
        purpose_of_use: body.purpose_of_use,
        data_categories: body.data_categories,
        agreement_sha256: body.agreement_sha256,
        expires_at: body.expires_at,
    };
    let subscription = call.market.request_subscription(call.request(), draft).await?;
    let (id, revision) = (subscription.id, subscription.revision);
    Ok(Reply::created(&SubscriptionView::from(subscription))
        .revision(revision)
        .location(&format!("/subscriptions/{id}")))
}

/// A word with a decision.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepBody {
    #[serde(default)]
    comments: String,
}

/// An approval.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApprovalBody {
    #[serde(default)]
    comments: String,
    /// Needed under a plan that is `signed`.
    #[serde(default)]
    signature: Option<SignatureBody>,
}

/// What it takes to sign.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignatureBody {
    /// What is meant by it.
    meaning: Name,
    #[schemars(extend("format" = "password"))]
    current_password: String,
    /// A code of the authenticator app or for recovery, for accounts with a second factor.
    #[serde(default)]
    code: Option<String>,
}

async fn approve(call: Call, body: ApprovalBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Subscription)?;
    let signature = body.signature.map(|body| SignatureDraft {
        meaning: body.meaning,
        password: body.current_password,
        code: body.code,
    });
    let approved =
        call.market.approve_subscription(call.request(), id, body.comments, signature).await?;
    Ok(shown(approved))
}

async fn step(call: Call, body: StepBody, step: SubscriptionMove) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Subscription)?;
    let moved = call.market.move_subscription(call.request(), id, step, body.comments).await?;
    Ok(shown(moved))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Subscription)?;
    Ok(shown(call.market.read_subscription(call.request(), id).await?))
}

/// Which subscriptions are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SubscriptionQuery {
    status: Option<SubscriptionStatus>,
    api_id: Option<ApiId>,
    application_id: Option<ApplicationId>,
    /// From 1.
    page: Option<u32>,
    /// Items in a page, 1 to 200.
    limit: Option<u32>,
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: SubscriptionQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let filter = SubscriptionFilter {
        status: query.status,
        api: query.api_id,
        application: query.application_id,
        as_owner: false,
    };
    let found = call.market.list_subscriptions(call.request(), &filter, page).await?;
    Ok(Reply::ok(&Listing::of(number, limit, found, SubscriptionView::from)))
}

fn shown(subscription: Subscription) -> Reply {
    let revision = subscription.revision;
    Reply::ok(&SubscriptionView::from(subscription)).revision(revision)
}
