//! The routes, by subject.

mod agreements;
mod apis;
mod applications;
mod approvals;
mod audit;
mod auth;
mod categories;
mod credentials;
mod delivery;
mod deployments;
mod limits;
mod metrics;
mod nodes;
mod notices;
mod personal_data;
mod plans;
mod reviews;
mod sessions;
mod settings;
mod specifications;
mod subscriptions;
mod tenants;
mod users;
mod versions;

pub use apis::VisibilityName;
pub use delivery::{CorsBody, ProtocolsBody};
pub use deployments::{RouteBody, UpstreamBody};
pub use limits::LimitBody;
use market::PageOf;
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use specifications::ValidationResults;

use crate::endpoint::Endpoint;

/// Every route of the control API.
pub(crate) fn all() -> Vec<Endpoint> {
    let groups: [(&'static str, Vec<Endpoint>); 22] = [
        ("Signing in", auth::endpoints()),
        ("Sessions", sessions::endpoints()),
        ("Notices", notices::endpoints()),
        ("Catalogue", apis::endpoints()),
        ("Versions", versions::endpoints()),
        ("Reviews", reviews::endpoints()),
        ("Specifications", specifications::endpoints()),
        ("Approvals", approvals::endpoints()),
        ("Deployments", deployments::endpoints()),
        ("Plans", plans::endpoints()),
        ("Applications", applications::endpoints()),
        ("Credentials", credentials::endpoints()),
        ("Subscriptions", subscriptions::endpoints()),
        ("Analytics", metrics::endpoints()),
        ("Tenants", tenants::endpoints()),
        ("People", users::endpoints()),
        ("Personal data", personal_data::endpoints()),
        ("Categories", categories::endpoints()),
        ("Installation", settings::endpoints()),
        ("Gateways", nodes::endpoints()),
        ("Agreements", agreements::endpoints()),
        ("Audit", audit::endpoints()),
    ];
    groups
        .into_iter()
        .flat_map(|(tag, endpoints)| {
            endpoints.into_iter().map(move |endpoint| endpoint.tagged(tag))
        })
        .collect()
}

/// A page of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(crate) struct Listing<T> {
    /// What is on this page.
    items: Vec<T>,
    /// Where this page stands.
    pagination: Pagination,
}

/// Where a page stands.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pagination {
    /// This page, from 1.
    page: u32,
    /// Items in a page.
    limit: u32,
    /// Items on all pages.
    total_items: u64,
    /// Pages.
    total_pages: u64,
}

/// A list that comes whole.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub(crate) struct Items<T> {
    /// All items.
    items: Vec<T>,
}

impl<T> Listing<T> {
    fn of<M>(page: u32, limit: u32, found: PageOf<M>, view: impl FnMut(M) -> T) -> Self {
        let total_items = found.total;
        let pagination = Pagination {
            page,
            limit,
            total_items,
            total_pages: total_items.div_ceil(u64::from(limit)),
        };
        Self { items: found.items.into_iter().map(view).collect(), pagination }
    }
}
