//! Tenants.

use model::{Tenant, TenantId};
use sqlx::any::AnyRow;

use crate::{Page, PageOf, StoreError, Tx, Viewer, row::Columns};

/// Adds a tenant. Fails as duplicate when the slug is taken.
pub async fn insert(tx: &mut Tx, tenant: &Tenant) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO tenant (id, slug, name, is_active, created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    tx.statement("tenant::insert", SQL)
        .bind_text(tenant.id)
        .bind_text(&tenant.slug)
        .bind_text(&tenant.name)
        .bind(i64::from(tenant.is_active))
        .bind(tenant.created_at.as_microsecond())
        .bind(tenant.updated_at.as_microsecond())
        .bind(tenant.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed tenant over the revision before it.
pub async fn update(tx: &mut Tx, tenant: &Tenant) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE tenant SET slug = $1, name = $2, is_active = $3, updated_at = $4, revision = $5
        WHERE id = $6 AND revision = $5 - 1";
    tx.statement("tenant::update", SQL)
        .bind_text(&tenant.slug)
        .bind_text(&tenant.name)
        .bind(i64::from(tenant.is_active))
        .bind(tenant.updated_at.as_microsecond())
        .bind(tenant.revision)
        .bind_text(tenant.id)
        .execute_current()
        .await
}

/// Removes a tenant. Fails as referenced while anything belongs to it.
pub async fn delete(tx: &mut Tx, id: TenantId) -> Result<(), StoreError> {
    tx.statement("tenant::delete", "DELETE FROM tenant WHERE id = $1")
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Finds a tenant.
pub async fn find(tx: &mut Tx, id: TenantId) -> Result<Option<Tenant>, StoreError> {
    const SQL: &str = "SELECT * FROM tenant WHERE id = $1";
    let row = tx.statement("tenant::find", SQL).bind_text(id).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Lists tenants by name: all of them for the installation, otherwise the viewer's own.
pub async fn list(tx: &mut Tx, viewer: Viewer, page: Page) -> Result<PageOf<Tenant>, StoreError> {
    const SQL: &str = "
        SELECT * FROM tenant WHERE ($1 = '*' OR id = $1) ORDER BY slug LIMIT $2 OFFSET $3";
    const COUNT: &str = "SELECT COUNT(*) FROM tenant WHERE ($1 = '*' OR id = $1)";
    let rows = tx
        .statement("tenant::list", SQL)
        .bind(viewer.argument())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total = tx.statement("tenant::list", COUNT).bind(viewer.argument()).number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// Whether there is any tenant at all; without one the installation has not been set up.
pub async fn exists_any(tx: &mut Tx) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM tenant LIMIT 1) AS some_tenant";
    Ok(tx.statement("tenant::exists_any", SQL).number().await? > 0)
}

/// Lists the tenants whose people may not sign in and whose applications may not call.
pub async fn list_inactive(tx: &mut Tx) -> Result<Vec<TenantId>, StoreError> {
    let rows = tx
        .statement("tenant::list_inactive", "SELECT id FROM tenant WHERE is_active = 0 ORDER BY id")
        .all()
        .await?;
    rows.iter().map(|row| Columns::of("tenant::list_inactive", row).parsed("id")).collect()
}

fn read(row: &AnyRow) -> Result<Tenant, StoreError> {
    let columns = Columns::of("tenant::read", row);
    Ok(Tenant {
        id: columns.parsed("id")?,
        slug: columns.checked("slug")?,
        name: columns.checked("name")?,
        is_active: columns.flag("is_active")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
