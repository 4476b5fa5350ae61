//! Reading the audit trail.

use authz::Action;
use model::AuditEntry;

use crate::{Market, MarketError, Request, viewer};

impl Market {
    /// Lists entries of the caller's tenant, newest first; of all tenants for platform administrators.
    pub async fn list_audit_events(
        &self,
        request: &Request,
        filter: &store::audit::Filter,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, MarketError> {
        self.require(request, Action::ListAuditEvents).await?;
        let mut tx = self.db.read().await?;
        let limit = i64::from(limit.clamp(1, store::Page::LIMIT_MAX));
        Ok(store::audit::list(&mut tx, viewer(&request.caller), filter, limit).await?)
    }
}
