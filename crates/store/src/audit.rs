//! The audit trail. Rows are only ever added, and removed when they are older than the installation keeps them.

use jiff::Timestamp;
use model::{AuditEntry, AuditId, AuditOutcome};
use sqlx::any::AnyRow;

use crate::{
    Planted, StoreError, Tx, Viewer,
    row::{Columns, to_json},
};

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this actor only.
    pub actor: Option<String>,
    /// Of this action only.
    pub action: Option<String>,
    /// About this target only.
    pub target: Option<String>,
    /// Not before this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Older than this entry.
    pub before: Option<AuditId>,
}

/// Adds an entry.
pub async fn insert(tx: &mut Tx, entry: &AuditEntry) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO audit_event (id, tenant_id, at, actor, actor_tenant, action, target, outcome, request_id, details)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    tx.statement("audit::insert", SQL)
        .bind_text(entry.id)
        .bind_text(entry.tenant)
        .bind(entry.at.as_microsecond())
        .bind_text(&entry.actor)
        .bind_text_opt(entry.actor_tenant)
        .bind_text(&entry.action)
        .bind_text(&entry.target)
        .bind_text(entry.outcome.as_str())
        .bind_text(&entry.request_id)
        .bind(to_json("audit::insert", &entry.details)?)
        .execute()
        .await?;
    Ok(())
}

/// Lists entries, newest first.
pub async fn list(
    tx: &mut Tx,
    viewer: Viewer,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<AuditEntry>, StoreError> {
    const SQL: &str = "
        SELECT * FROM audit_event
        WHERE ($1 = '*' OR tenant_id = $1) AND ($2 = '' OR actor = $2) AND ($3 = '' OR action = $3)
          AND ($4 = '' OR target = $4) AND at >= $5 AND at < $6 AND ($7 = '' OR id < $7)
        ORDER BY id DESC LIMIT $8";
    let rows = tx
        .statement("audit::list", SQL)
        .bind(Planted::ListsAll.widen(viewer).argument())
        .bind(filter.actor.clone().unwrap_or_default())
        .bind(filter.action.clone().unwrap_or_default())
        .bind(filter.target.clone().unwrap_or_default())
        .bind(filter.from.map_or(i64::MIN, Timestamp::as_microsecond))
        .bind(filter.until.map_or(i64::MAX, Timestamp::as_microsecond))
        .bind(filter.before.map_or_else(String::new, |id| id.to_string()))
        .bind(limit)
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Removes entries from before a time, oldest first, so many at most.
pub async fn prune(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<(), StoreError> {
    const SQL: &str = "
        DELETE FROM audit_event
        WHERE id IN (SELECT id FROM audit_event WHERE at < $1 ORDER BY id LIMIT $2)";
    tx.statement("audit::prune", SQL).bind(before.as_microsecond()).bind(limit).execute().await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<AuditEntry, StoreError> {
    let columns = Columns::of("audit::read", row);
    Ok(AuditEntry {
        id: columns.parsed("id")?,
        tenant: columns.parsed("tenant_id")?,
        at: columns.time("at")?,
        actor: columns.text("actor")?,
        actor_tenant: columns.parsed_opt("actor_tenant")?,
        action: columns.text("action")?,
        target: columns.text("target")?,
        outcome: columns.named("outcome", AuditOutcome::parse)?,
        request_id: columns.text("request_id")?,
        details: columns.json("details")?,
    })
}
