//! What waits for a decision at the caller's tenant.

use authz::Action;
use model::{Api, ApiVersion, Subscription, SubscriptionStatus};
use store::{Page, PageOf};

use crate::{Market, MarketError, Request, viewer};

/// What waits for a decision.
#[derive(Debug, Clone)]
pub struct Approvals {
    /// Versions that wait for a reviewer, with their APIs.
    pub versions: PageOf<(Api, ApiVersion)>,
    /// Subscriptions that wait for the owner.
    pub subscriptions: PageOf<Subscription>,
}

impl Market {
    /// Lists what waits for a decision, oldest versions and newest subscriptions first.
    pub async fn list_approvals(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<Approvals, MarketError> {
        self.require(request, Action::ListApprovals).await?;
        let viewer = viewer(&request.caller);
        let mut tx = self.db.read(viewer).await?;
        let pending = store::version::list_pending(&mut tx, viewer, page).await?;
        let mut versions = Vec::with_capacity(pending.items.len());
        for version in pending.items {
            if let Some(api) = store::api::find_visible(&mut tx, viewer, version.api).await? {
                versions.push((api, version));
            }
        }
        let filter = store::subscription::Filter {
            status: Some(SubscriptionStatus::Pending),
            as_owner: true,
            ..store::subscription::Filter::default()
        };
        let subscriptions = store::subscription::list(&mut tx, viewer, &filter, page).await?;
        Ok(Approvals { versions: PageOf { items: versions, total: pending.total }, subscriptions })
    }
}
