//! What waits for a decision.

use authz::Action;
use model::{ApiId, Name};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Listing, applications::PageQuery, subscriptions::SubscriptionView, versions::VersionView,
};
use crate::{
    call::{self, Call},
    endpoint::{Endpoint, get},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/approvals", Action::ListApprovals, "See what waits for a decision")
            .query::<PageQuery>()
            .answers::<ApprovalsView>()
            .run(list),
    ]
}

/// What waits for a decision.
#[derive(Serialize, JsonSchema)]
struct ApprovalsView {
    /// Versions that wait for a reviewer.
    versions: Listing<PendingVersionView>,
    /// Subscriptions that wait for the owner.
    subscriptions: Listing<SubscriptionView>,
}

/// A version that waits for a reviewer.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PendingVersionView {
    api_id: ApiId,
    api_name: Name,
    version: VersionView,
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: PageQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = call.market.list_approvals(call.request(), page).await?;
    let caller = &call.request().caller;
    let versions =
        Listing::of(number, limit, found.versions, |(api, version)| PendingVersionView {
            api_id: api.id,
            api_name: api.name,
            version: VersionView::of(version, caller),
        });
    let subscriptions = Listing::of(number, limit, found.subscriptions, SubscriptionView::from);
    Ok(Reply::ok(&ApprovalsView { versions, subscriptions }))
}
