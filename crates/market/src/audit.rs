//! Reading the audit trail.

use std::collections::HashMap;

use authz::Action;
use model::{ApplicationId, AuditEntry, UserId};

use crate::{Market, MarketError, Request, viewer};

/// An entry with the name of whoever acted.
#[derive(Debug, Clone)]
pub struct NamedAuditEntry {
    /// The entry.
    pub entry: AuditEntry,
    /// The person or application, when the caller may know it and it is still there.
    pub actor: Option<String>,
}

impl Market {
    /// Lists entries as [`list_audit_events`](Self::list_audit_events) does, with the names of those who acted.
    pub async fn list_audit_trail(
        &self,
        request: &Request,
        filter: &store::audit::Filter,
        limit: u32,
    ) -> Result<Vec<NamedAuditEntry>, MarketError> {
        let entries = self.list_audit_events(request, filter, limit).await?;
        let viewer = viewer(&request.caller);
        let mut tx = self.db.read(viewer).await?;
        let mut names: HashMap<String, Option<String>> = HashMap::new();
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries {
            if !names.contains_key(&entry.actor) {
                let name = if let Ok(id) = entry.actor.parse::<UserId>() {
                    let user = store::account::find(&mut tx, viewer, id).await?;
                    user.map(|user| user.name.to_string())
                } else if let Ok(id) = entry.actor.parse::<ApplicationId>() {
                    let application = store::application::find(&mut tx, viewer, id).await?;
                    application.map(|application| application.name.to_string())
                } else {
                    None
                };
                names.insert(entry.actor.clone(), name);
            }
            let actor = names.get(&entry.actor).cloned().flatten();
            named.push(NamedAuditEntry { entry, actor });
        }
        Ok(named)
    }

    /// Lists entries of the caller's tenant, newest first; of all tenants for platform administrators.
    pub async fn list_audit_events(
        &self,
        request: &Request,
        filter: &store::audit::Filter,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, MarketError> {
        self.require(request, Action::ListAuditEvents).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let limit = i64::from(limit.clamp(1, store::Page::LIMIT_MAX));
        Ok(store::audit::list(&mut tx, viewer(&request.caller), filter, limit).await?)
    }
}
