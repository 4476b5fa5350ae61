//! Versions of APIs. Whether the API itself may be seen is asked first, in `api`.

use std::collections::HashMap;

use model::{ApiId, ApiVersion, SpecificationFormat, TenantId, VersionId, VersionStatus};
use sqlx::any::AnyRow;

use crate::{
    Page, PageOf, StoreError, Tx, Viewer,
    row::{Columns, joined, to_json_opt},
    specification,
};

/// The most versions that one API has.
pub const MAX_PER_API: i64 = 500;

/// Adds a version. Fails as duplicate when the API has one of that number.
pub async fn insert(tx: &mut Tx, version: &ApiVersion) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO api_version (id, api_id, tenant_id, number, status, submitted_by, format, specification_sha256,
                                 created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    tx.statement("version::insert", SQL)
        .bind_text(version.id)
        .bind_text(version.api)
        .bind_text(version.tenant)
        .bind_text(&version.number)
        .bind_text(version.status.as_str())
        .bind_text(version.submitted_by)
        .bind_text(version.format.as_str())
        .bind_text(&version.specification_sha256)
        .bind(version.created_at.as_microsecond())
        .bind(version.updated_at.as_microsecond())
        .bind(version.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed version over the revision before it.
pub async fn update(tx: &mut Tx, version: &ApiVersion) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE api_version
        SET status = $1, submitted_by = $2, decision = $3, deprecated_at = $4, sunset_at = $5, successor_id = $6,
            updated_at = $7, revision = $8, specification_sha256 = $11
        WHERE id = $9 AND tenant_id = $10 AND revision = $8 - 1";
    tx.statement("version::update", SQL)
        .bind_text(version.status.as_str())
        .bind_text(version.submitted_by)
        .bind(to_json_opt("version::update", version.decision.as_ref())?)
        .bind(version.deprecated_at.map(jiff::Timestamp::as_microsecond))
        .bind(version.sunset_at.map(jiff::Timestamp::as_microsecond))
        .bind_text_opt(version.successor)
        .bind(version.updated_at.as_microsecond())
        .bind(version.revision)
        .bind_text(version.id)
        .bind_text(version.tenant)
        .bind_text(&version.specification_sha256)
        .execute_current()
        .await
}

const SHOWN: &str = "($2 = '*' OR tenant_id = $2 OR status IN ('active', 'deprecated', 'retired'))";

/// Lists the versions of an API that the viewer may see.
pub async fn list_of(
    tx: &mut Tx,
    viewer: Viewer,
    api: ApiId,
) -> Result<Vec<ApiVersion>, StoreError> {
    let sql = format!(
        "SELECT * FROM api_version WHERE api_id = $1 AND {SHOWN} ORDER BY id LIMIT {MAX_PER_API}"
    );
    let rows = tx
        .statement("version::list_of", sqlx::AssertSqlSafe(sql))
        .bind_text(api)
        .bind(viewer.argument())
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Lists the versions of several APIs that the viewer may see, by API.
pub async fn list_of_all(
    tx: &mut Tx,
    viewer: Viewer,
    apis: &[ApiId],
) -> Result<HashMap<ApiId, Vec<ApiVersion>>, StoreError> {
    let is_wanted = tx.engine().is_one_of("api_id", "$1");
    let sql = format!("SELECT * FROM api_version WHERE {is_wanted} AND {SHOWN} ORDER BY id");
    let rows = tx
        .statement("version::list_of_all", sqlx::AssertSqlSafe(sql))
        .bind(joined(apis))
        .bind(viewer.argument())
        .all()
        .await?;
    let mut versions: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows {
        let version = read(row)?;
        versions.entry(version.api).or_default().push(version);
    }
    Ok(versions)
}

/// Finds a version of an API by its number.
pub async fn find_numbered(
    tx: &mut Tx,
    viewer: Viewer,
    api: ApiId,
    number: &semver::Version,
) -> Result<Option<ApiVersion>, StoreError> {
    let sql = format!("SELECT * FROM api_version WHERE api_id = $1 AND {SHOWN} AND number = $3");
    let row = tx
        .statement("version::find_numbered", sqlx::AssertSqlSafe(sql))
        .bind_text(api)
        .bind(viewer.argument())
        .bind_text(number)
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Finds a version by its identifier.
pub async fn find(
    tx: &mut Tx,
    viewer: Viewer,
    id: VersionId,
) -> Result<Option<ApiVersion>, StoreError> {
    let sql = format!("SELECT * FROM api_version WHERE id = $1 AND {SHOWN}");
    let row = tx
        .statement("version::find", sqlx::AssertSqlSafe(sql))
        .bind_text(id)
        .bind(viewer.argument())
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists versions of the viewer's own APIs that wait for a reviewer, oldest first.
pub async fn list_pending(
    tx: &mut Tx,
    viewer: Viewer,
    page: Page,
) -> Result<PageOf<ApiVersion>, StoreError> {
    const SQL: &str = "
        SELECT * FROM api_version WHERE status = 'pending_approval' AND ($1 = '*' OR tenant_id = $1)
        ORDER BY id LIMIT $2 OFFSET $3";
    const COUNT: &str = "
        SELECT COUNT(*) FROM api_version WHERE status = 'pending_approval' AND ($1 = '*' OR tenant_id = $1)";
    let rows = tx
        .statement("version::list_pending", SQL)
        .bind(viewer.argument())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total =
        tx.statement("version::list_pending", COUNT).bind(viewer.argument()).number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// The owner of a version's API, for attributing usage.
pub async fn find_owner(
    tx: &mut Tx,
    id: VersionId,
) -> Result<Option<(ApiId, TenantId)>, StoreError> {
    const SQL: &str = "SELECT api_id, tenant_id FROM api_version WHERE id = $1";
    let row = tx.statement("version::find_owner", SQL).bind_text(id).optional().await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("version::find_owner", &row);
    Ok(Some((columns.parsed("api_id")?, columns.parsed("tenant_id")?)))
}

/// Works out the digests of versions from before they were kept.
pub(crate) async fn backfill_digests(tx: &mut Tx) -> Result<(), StoreError> {
    const UNKNOWN: &str = "SELECT id FROM api_version WHERE specification_sha256 = '' ORDER BY id";
    const NOTE: &str = "UPDATE api_version SET specification_sha256 = $1 WHERE id = $2";
    let rows = tx.statement("version::without_digest", UNKNOWN).all().await?;
    for row in rows {
        let id: VersionId = Columns::of("version::without_digest", &row).parsed("id")?;
        let Some(specification) = specification::find(tx, id).await? else { continue };
        tx.statement("version::note_digest", NOTE)
            .bind(specification::digest(&specification.content))
            .bind_text(id)
            .execute()
            .await?;
    }
    Ok(())
}

fn read(row: &AnyRow) -> Result<ApiVersion, StoreError> {
    let columns = Columns::of("version::read", row);
    Ok(ApiVersion {
        id: columns.parsed("id")?,
        api: columns.parsed("api_id")?,
        tenant: columns.parsed("tenant_id")?,
        number: columns.parsed("number")?,
        status: columns.named("status", VersionStatus::parse)?,
        submitted_by: columns.parsed("submitted_by")?,
        decision: columns.json_opt("decision")?,
        deprecated_at: columns.time_opt("deprecated_at")?,
        sunset_at: columns.time_opt("sunset_at")?,
        successor: columns.parsed_opt("successor_id")?,
        format: columns
            .named("format", |name| (name == "openapi").then_some(SpecificationFormat::Openapi))?,
        specification_sha256: columns.text("specification_sha256")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
