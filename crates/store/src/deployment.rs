//! Deployments. Only their own tenant sees them.

use model::{ApiId, Deployment, DeploymentId, Route};
use sqlx::any::AnyRow;

use crate::{
    Page, PageOf, StoreError, Tx, Viewer,
    row::{Columns, to_json},
};

/// Adds a deployment. Fails as duplicate when the route is taken.
pub async fn insert(tx: &mut Tx, deployment: &Deployment) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO deployment (id, api_id, version_id, tenant_id, host, path_prefix, strip_prefix, upstream, limits,
                                max_body_bytes, created_at, updated_at, revision, delivery, validation)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    tx.statement("deployment::insert", SQL)
        .bind_text(deployment.id)
        .bind_text(deployment.api)
        .bind_text(deployment.version)
        .bind_text(deployment.tenant)
        .bind_text(deployment.route.host().unwrap_or_default())
        .bind_text(deployment.route.path_prefix())
        .bind(i64::from(deployment.route.strip_prefix()))
        .bind(to_json("deployment::insert", &deployment.upstream)?)
        .bind(to_json("deployment::insert", &deployment.limits)?)
        .bind(i64::try_from(deployment.max_body_bytes).unwrap_or(i64::MAX))
        .bind(deployment.created_at.as_microsecond())
        .bind(deployment.updated_at.as_microsecond())
        .bind(deployment.revision)
        .bind(to_json("deployment::insert", &deployment.delivery)?)
        .bind_text(deployment.validation)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed deployment over the revision before it. Fails as duplicate when the new route is taken.
pub async fn update(tx: &mut Tx, deployment: &Deployment) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE deployment
        SET version_id = $1, host = $2, path_prefix = $3, strip_prefix = $4, upstream = $5, limits = $6,
            max_body_bytes = $7, updated_at = $8, revision = $9, delivery = $12, validation = $13
        WHERE id = $10 AND tenant_id = $11 AND revision = $9 - 1";
    tx.statement("deployment::update", SQL)
        .bind_text(deployment.version)
        .bind_text(deployment.route.host().unwrap_or_default())
        .bind_text(deployment.route.path_prefix())
        .bind(i64::from(deployment.route.strip_prefix()))
        .bind(to_json("deployment::update", &deployment.upstream)?)
        .bind(to_json("deployment::update", &deployment.limits)?)
        .bind(i64::try_from(deployment.max_body_bytes).unwrap_or(i64::MAX))
        .bind(deployment.updated_at.as_microsecond())
        .bind(deployment.revision)
        .bind_text(deployment.id)
        .bind_text(deployment.tenant)
        .bind(to_json("deployment::update", &deployment.delivery)?)
        .bind_text(deployment.validation)
        .execute_current()
        .await
}

/// Removes a deployment.
pub async fn delete(tx: &mut Tx, deployment: &Deployment) -> Result<(), StoreError> {
    tx.statement("deployment::delete", "DELETE FROM deployment WHERE id = $1 AND tenant_id = $2")
        .bind_text(deployment.id)
        .bind_text(deployment.tenant)
        .execute()
        .await?;
    Ok(())
}

/// Finds a deployment of the viewer.
pub async fn find(
    tx: &mut Tx,
    viewer: Viewer,
    id: DeploymentId,
) -> Result<Option<Deployment>, StoreError> {
    const SQL: &str = "SELECT * FROM deployment WHERE id = $1 AND ($2 = '*' OR tenant_id = $2)";
    let row = tx
        .statement("deployment::find", SQL)
        .bind_text(id)
        .bind(viewer.argument())
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists deployments of the viewer, of one API only when one is given.
pub async fn list(
    tx: &mut Tx,
    viewer: Viewer,
    api: Option<ApiId>,
    page: Page,
) -> Result<PageOf<Deployment>, StoreError> {
    const SQL: &str = "
        SELECT * FROM deployment WHERE ($1 = '*' OR tenant_id = $1) AND ($2 = '' OR api_id = $2)
        ORDER BY id LIMIT $3 OFFSET $4";
    const COUNT: &str = "
        SELECT COUNT(*) FROM deployment WHERE ($1 = '*' OR tenant_id = $1) AND ($2 = '' OR api_id = $2)";
    let api = api.map_or_else(String::new, |id| id.to_string());
    let rows = tx
        .statement("deployment::list", SQL)
        .bind(viewer.argument())
        .bind(api.clone())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total =
        tx.statement("deployment::list", COUNT).bind(viewer.argument()).bind(api).number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// Lists the deployments of active tenants, for the gateway.
pub async fn list_for_gateway(tx: &mut Tx) -> Result<Vec<Deployment>, StoreError> {
    const SQL: &str = "
        SELECT deployment.* FROM deployment JOIN tenant ON tenant.id = deployment.tenant_id
        WHERE tenant.is_active = 1 ORDER BY deployment.id";
    let rows = tx.statement("deployment::list_for_gateway", SQL).all().await?;
    rows.iter().map(read).collect()
}

/// Lists the deployments of an API, for the gateway.
pub async fn list_of_api(tx: &mut Tx, api: ApiId) -> Result<Vec<Deployment>, StoreError> {
    const SQL: &str = "SELECT * FROM deployment WHERE api_id = $1 ORDER BY id";
    let rows = tx.statement("deployment::list_of_api", SQL).bind_text(api).all().await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Deployment, StoreError> {
    let columns = Columns::of("deployment::read", row);
    let host = columns.text("host")?;
    let route = Route::new(
        Some(host.as_str()).filter(|host| !host.is_empty()),
        &columns.text("path_prefix")?,
        columns.flag("strip_prefix")?,
    )
    .map_err(|error| columns.corrupt("path_prefix", error))?;
    Ok(Deployment {
        id: columns.parsed("id")?,
        api: columns.parsed("api_id")?,
        version: columns.parsed("version_id")?,
        tenant: columns.parsed("tenant_id")?,
        route,
        upstream: columns.json("upstream")?,
        limits: columns.json("limits")?,
        max_body_bytes: columns.count("max_body_bytes")?,
        delivery: columns.json("delivery")?,
        validation: columns.parsed("validation")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
