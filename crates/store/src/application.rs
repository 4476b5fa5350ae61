//! Applications of consumers. Only their own tenant sees them.

use jiff::Timestamp;
use model::{Application, ApplicationId, TenantId};
use sqlx::any::AnyRow;

use crate::{Page, PageOf, Planted, StoreError, Tx, Viewer, roster, row::Columns};

/// Adds an application. Fails as duplicate when the tenant has one of that name.
pub async fn insert(tx: &mut Tx, application: &Application) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO application (id, tenant_id, name, description, created_by, created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    tx.statement("application::insert", SQL)
        .bind_text(application.id)
        .bind_text(application.tenant)
        .bind_text(&application.name)
        .bind_text(&application.description)
        .bind_text(application.created_by)
        .bind(application.created_at.as_microsecond())
        .bind(application.updated_at.as_microsecond())
        .bind(application.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed application over the revision before it.
pub async fn update(tx: &mut Tx, application: &Application) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE application SET name = $1, description = $2, updated_at = $3, revision = $4
        WHERE id = $5 AND tenant_id = $6 AND revision = $4 - 1";
    tx.statement("application::update", SQL)
        .bind_text(&application.name)
        .bind_text(&application.description)
        .bind(application.updated_at.as_microsecond())
        .bind(application.revision)
        .bind_text(application.id)
        .bind_text(application.tenant)
        .execute_current()
        .await
}

/// Removes an application with its credentials and subscriptions.
pub async fn delete(
    tx: &mut Tx,
    application: &Application,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.statement("application::delete", "DELETE FROM application WHERE id = $1 AND tenant_id = $2")
        .bind_text(application.id)
        .bind_text(application.tenant)
        .execute()
        .await?;
    roster::remove_of(tx, application.id, now).await
}

/// Finds an application that the viewer owns.
pub async fn find(
    tx: &mut Tx,
    viewer: Viewer,
    id: ApplicationId,
) -> Result<Option<Application>, StoreError> {
    const SQL: &str = "SELECT * FROM application WHERE id = $1 AND ($2 = '*' OR tenant_id = $2)";
    let row = tx
        .statement("application::find", SQL)
        .bind_text(id)
        .bind(Planted::ReadsAny.widen(viewer).argument())
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// The tenant of an application, for attributing usage.
pub async fn find_tenant(tx: &mut Tx, id: ApplicationId) -> Result<Option<TenantId>, StoreError> {
    Ok(find(tx, Viewer::Installation, id).await?.map(|application| application.tenant))
}

/// Lists applications by name.
pub async fn list(
    tx: &mut Tx,
    viewer: Viewer,
    page: Page,
) -> Result<PageOf<Application>, StoreError> {
    const SQL: &str = "
        SELECT * FROM application WHERE ($1 = '*' OR tenant_id = $1) ORDER BY name, id LIMIT $2 OFFSET $3";
    const COUNT: &str = "SELECT COUNT(*) FROM application WHERE ($1 = '*' OR tenant_id = $1)";
    let rows = tx
        .statement("application::list", SQL)
        .bind(viewer.argument())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total = tx.statement("application::list", COUNT).bind(viewer.argument()).number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

fn read(row: &AnyRow) -> Result<Application, StoreError> {
    let columns = Columns::of("application::read", row);
    Ok(Application {
        id: columns.parsed("id")?,
        tenant: columns.parsed("tenant_id")?,
        name: columns.checked("name")?,
        description: columns.text("description")?,
        created_by: columns.parsed("created_by")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
