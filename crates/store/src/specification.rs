//! Specifications, kept byte for byte, with what was read out of them.

use aws_lc_rs::digest;
use model::{TenantId, VersionId};

use crate::{StoreError, Tx, row::Columns};

/// A specification as it was handed in.
#[derive(Debug, Clone)]
pub struct StoredSpecification {
    /// The version that it describes.
    pub version: VersionId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// `application/json` or `application/yaml`.
    pub media_type: String,
    /// The document, byte for byte.
    pub content: Vec<u8>,
    /// What was read out of it, as JSON.
    pub summary: String,
}

/// What a document is told apart by: SHA-256 in lower-case hex.
pub fn digest(content: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the specification of a version, over an earlier one if there is one.
pub async fn put(tx: &mut Tx, specification: &StoredSpecification) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO specification (version_id, tenant_id, media_type, content, summary)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (version_id) DO UPDATE
        SET media_type = excluded.media_type, content = excluded.content, summary = excluded.summary";
    tx.statement("specification::put", SQL)
        .bind_text(specification.version)
        .bind_text(specification.tenant)
        .bind(specification.media_type.clone())
        .bind(specification.content.clone())
        .bind(specification.summary.clone())
        .execute()
        .await?;
    Ok(())
}

/// Finds the specification of a version that the caller was found to see.
pub async fn find(
    tx: &mut Tx,
    version: VersionId,
) -> Result<Option<StoredSpecification>, StoreError> {
    const SQL: &str = "SELECT * FROM specification WHERE version_id = $1";
    let row = tx.statement("specification::find", SQL).bind_text(version).optional().await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("specification::find", &row);
    Ok(Some(StoredSpecification {
        version,
        tenant: columns.parsed("tenant_id")?,
        media_type: columns.text("media_type")?,
        content: columns.get("content")?,
        summary: columns.text("summary")?,
    }))
}

/// Finds what was read out of the specification of a version, as JSON.
pub async fn find_summary(tx: &mut Tx, version: VersionId) -> Result<Option<String>, StoreError> {
    const SQL: &str = "SELECT summary FROM specification WHERE version_id = $1";
    let row =
        tx.statement("specification::find_summary", SQL).bind_text(version).optional().await?;
    row.map(|row| Columns::of("specification::find_summary", &row).text("summary")).transpose()
}
