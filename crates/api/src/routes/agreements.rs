//! The register of agreements.

use authz::Action;
use market::Registered;
use model::{Classification, Name, SubscriptionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::subscriptions::SubscriptionView;
use crate::{
    call::{self, Call},
    endpoint::{Endpoint, get},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/agreements",
            Action::ListAgreements,
            "Read the register of agreements that are or were in force, newest first",
        )
        .query::<RegisterQuery>()
        .answers::<RegisterView>()
        .run(list),
    ]
}

/// Which agreements.
#[derive(Deserialize, JsonSchema)]
struct RegisterQuery {
    /// `nextCursor` of the page before.
    cursor: Option<SubscriptionId>,
    /// 1 to 200; 50 when absent.
    limit: Option<u32>,
}

/// A part of the register.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RegisterView {
    items: Vec<AgreementView>,
    /// Absent on the last page.
    next_cursor: Option<SubscriptionId>,
}

/// An agreement with the names of what it is about.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AgreementView {
    #[serde(flatten)]
    subscription: SubscriptionView,
    api_name: Option<Name>,
    /// What data the API carries, as its owner says today.
    classification: Option<Classification>,
    version: Option<String>,
    plan_name: Option<Name>,
    application_name: Option<Name>,
    owner_name: Option<Name>,
    consumer_name: Option<Name>,
}

impl From<Registered> for AgreementView {
    fn from(registered: Registered) -> Self {
        Self {
            subscription: registered.subscription.into(),
            api_name: registered.api,
            classification: registered.classification,
            version: registered.version,
            plan_name: registered.plan,
            application_name: registered.application,
            owner_name: registered.owner,
            consumer_name: registered.consumer,
        }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: RegisterQuery = call.query()?;
    let (_, limit, _) = call::page(None, Some(query.limit.unwrap_or(50)))?;
    let found = call.market.list_agreements(call.request(), query.cursor, limit).await?;
    let is_full = found.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = found.last().map(|last| last.subscription.id).filter(|_| is_full);
    let items = found.into_iter().map(Into::into).collect();
    Ok(Reply::ok(&RegisterView { items, next_cursor }))
}
