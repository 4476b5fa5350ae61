//! Plans of APIs. Whether the API itself may be seen is asked first, in `api`.

use model::{ApiId, Approval, Plan, PlanEntry, PlanId};
use sqlx::any::AnyRow;

use crate::{
    Page, PageOf, StoreError, Tx, Viewer,
    row::{Columns, to_json, to_json_opt},
};

/// The most plans that one API offers.
pub const MAX_PER_API: i64 = 100;

/// Adds a plan. Fails as duplicate when the API has one of that name.
pub async fn insert(tx: &mut Tx, plan: &Plan) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO plan (id, api_id, tenant_id, name, description, limits, quota, approval, is_signed, is_open, created_at,
                          updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    tx.statement("plan::insert", SQL)
        .bind_text(plan.id)
        .bind_text(plan.api)
        .bind_text(plan.tenant)
        .bind_text(&plan.name)
        .bind_text(&plan.description)
        .bind(to_json("plan::insert", &plan.limits)?)
        .bind(to_json_opt("plan::insert", plan.quota.as_ref())?)
        .bind_text(approval_name(plan.approval))
        .bind(i64::from(plan.is_signed))
        .bind(i64::from(plan.is_open))
        .bind(plan.created_at.as_microsecond())
        .bind(plan.updated_at.as_microsecond())
        .bind(plan.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed plan over the revision before it.
pub async fn update(tx: &mut Tx, plan: &Plan) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE plan
        SET name = $1, description = $2, limits = $3, quota = $4, approval = $5, is_open = $6, updated_at = $7,
            revision = $8, is_signed = $11
        WHERE id = $9 AND tenant_id = $10 AND revision = $8 - 1";
    tx.statement("plan::update", SQL)
        .bind_text(&plan.name)
        .bind_text(&plan.description)
        .bind(to_json("plan::update", &plan.limits)?)
        .bind(to_json_opt("plan::update", plan.quota.as_ref())?)
        .bind_text(approval_name(plan.approval))
        .bind(i64::from(plan.is_open))
        .bind(plan.updated_at.as_microsecond())
        .bind(plan.revision)
        .bind_text(plan.id)
        .bind_text(plan.tenant)
        .bind(i64::from(plan.is_signed))
        .execute_current()
        .await
}

/// Removes a plan. Fails as referenced while a subscription runs, or ever ran, under it.
pub async fn delete(tx: &mut Tx, plan: &Plan) -> Result<(), StoreError> {
    tx.statement("plan::delete", "DELETE FROM plan WHERE id = $1 AND tenant_id = $2")
        .bind_text(plan.id)
        .bind_text(plan.tenant)
        .execute()
        .await?;
    Ok(())
}

/// Finds a plan.
pub async fn find(tx: &mut Tx, id: PlanId) -> Result<Option<Plan>, StoreError> {
    let row = tx
        .statement("plan::find", "SELECT * FROM plan WHERE id = $1")
        .bind_text(id)
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists the plans of an API.
pub async fn list_of(tx: &mut Tx, api: ApiId) -> Result<Vec<Plan>, StoreError> {
    let rows = tx
        .statement("plan::list_of", "SELECT * FROM plan WHERE api_id = $1 ORDER BY id LIMIT $2")
        .bind_text(api)
        .bind(MAX_PER_API)
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Lists the plans of all of the viewer's own APIs, oldest first.
pub async fn list_own(tx: &mut Tx, viewer: Viewer, page: Page) -> Result<PageOf<Plan>, StoreError> {
    const SQL: &str = "
        SELECT * FROM plan WHERE ($1 = '*' OR tenant_id = $1) ORDER BY id LIMIT $2 OFFSET $3";
    const COUNT: &str = "SELECT COUNT(*) FROM plan WHERE ($1 = '*' OR tenant_id = $1)";
    let rows = tx
        .statement("plan::list_own", SQL)
        .bind(viewer.argument())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total = tx.statement("plan::list_own", COUNT).bind(viewer.argument()).number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

const fn approval_name(approval: Approval) -> &'static str {
    match approval {
        Approval::Automatic => "automatic",
        Approval::Owner => "owner",
        Approval::TwoPerson => "two_person",
    }
}

/// Lists all plans, as the gateway is to know them.
pub async fn list_for_gateway(tx: &mut Tx) -> Result<Vec<PlanEntry>, StoreError> {
    let rows = tx
        .statement("plan::list_for_gateway", "SELECT id, limits, quota FROM plan ORDER BY id")
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("plan::list_for_gateway", row);
            Ok(PlanEntry {
                id: columns.parsed("id")?,
                limits: columns.json("limits")?,
                quota: columns.json_opt("quota")?,
            })
        })
        .collect()
}

fn read(row: &AnyRow) -> Result<Plan, StoreError> {
    let columns = Columns::of("plan::read", row);
    Ok(Plan {
        id: columns.parsed("id")?,
        api: columns.parsed("api_id")?,
        tenant: columns.parsed("tenant_id")?,
        name: columns.checked("name")?,
        description: columns.text("description")?,
        limits: columns.json("limits")?,
        quota: columns.json_opt("quota")?,
        approval: columns.named("approval", |name| match name {
            "automatic" => Some(Approval::Automatic),
            "owner" => Some(Approval::Owner),
            "two_person" => Some(Approval::TwoPerson),
            _ => None,
        })?,
        is_signed: columns.flag("is_signed")?,
        is_open: columns.flag("is_open")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
