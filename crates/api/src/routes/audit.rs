//! The audit trail.

use authz::Action;
use jiff::Timestamp;
use market::AuditFilter;
use model::{AuditEntry, AuditId, AuditOutcome, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::{self, Call},
    endpoint::{Endpoint, get},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/audit/events", Action::ListAuditEvents, "Read the audit trail, newest first")
            .query::<AuditQuery>()
            .answers::<AuditView>()
            .run(list),
    ]
}

/// Which entries.
#[derive(Deserialize, JsonSchema)]
struct AuditQuery {
    actor: Option<String>,
    action: Option<String>,
    target: Option<String>,
    /// Not before.
    from: Option<Timestamp>,
    /// Before.
    until: Option<Timestamp>,
    /// `nextCursor` of the page before.
    cursor: Option<AuditId>,
    /// 1 to 200; 50 when absent.
    limit: Option<u32>,
}

/// A part of the trail.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AuditView {
    items: Vec<AuditEntryView>,
    /// Absent on the last page.
    next_cursor: Option<AuditId>,
}

/// One entry.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditEntryView {
    id: AuditId,
    tenant_id: TenantId,
    at: Timestamp,
    /// A user or application id, or `system`.
    actor: String,
    actor_tenant_id: Option<TenantId>,
    action: String,
    target: String,
    outcome: AuditOutcome,
    request_id: String,
    details: serde_json::Value,
}

impl From<AuditEntry> for AuditEntryView {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry {
            id,
            tenant,
            at,
            actor,
            actor_tenant,
            action,
            target,
            outcome,
            request_id,
            details,
        } = entry;
        Self {
            id,
            tenant_id: tenant,
            at,
            actor,
            actor_tenant_id: actor_tenant,
            action,
            target,
            outcome,
            request_id,
            details,
        }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: AuditQuery = call.query()?;
    let (_, limit, _) = call::page(None, Some(query.limit.unwrap_or(50)))?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        target: query.target,
        from: query.from,
        until: query.until,
        before: query.cursor,
    };
    let entries = call.market.list_audit_events(call.request(), &filter, limit).await?;
    let is_full = entries.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = entries.last().map(|entry| entry.id).filter(|_| is_full);
    let items = entries.into_iter().map(AuditEntryView::from).collect();
    Ok(Reply::ok(&AuditView { items, next_cursor }))
}
