//! Answers to writes that were made under an `Idempotency-Key`.

use jiff::Timestamp;
use model::TenantId;

use crate::{StoreError, Tx, row::Columns};

/// An earlier write under the same key.
#[derive(Debug)]
pub struct Earlier {
    /// Fingerprint of the earlier request.
    pub fingerprint: String,
    /// Its sealed outcome.
    pub outcome: Option<Vec<u8>>,
}

/// Takes a key for a write. Another transaction that takes the same key at the same time waits for this one. Returns
/// the earlier write when the key was taken before.
pub async fn claim(
    tx: &mut Tx,
    tenant: TenantId,
    subject: &str,
    key: &str,
    fingerprint: &str,
    now: Timestamp,
) -> Result<Option<Earlier>, StoreError> {
    const CLAIM: &str = "
        INSERT INTO idempotency (subject, idempotency_key, tenant_id, fingerprint, created_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subject, idempotency_key) DO NOTHING";
    const FIND: &str =
        "SELECT fingerprint, outcome FROM idempotency WHERE subject = $1 AND idempotency_key = $2";
    let claimed = tx
        .statement("idempotency::claim", CLAIM)
        .bind(subject.to_owned())
        .bind(key.to_owned())
        .bind_text(tenant)
        .bind(fingerprint.to_owned())
        .bind(now.as_microsecond())
        .execute()
        .await?;
    if claimed > 0 {
        return Ok(None);
    }
    let row = tx
        .statement("idempotency::claim", FIND)
        .bind(subject.to_owned())
        .bind(key.to_owned())
        .optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("idempotency::claim", &row);
    Ok(Some(Earlier {
        fingerprint: columns.text("fingerprint")?,
        outcome: columns.get("outcome")?,
    }))
}

/// Keeps the sealed outcome of a write whose key was taken in the same transaction.
pub async fn keep(
    tx: &mut Tx,
    subject: &str,
    key: &str,
    outcome: Vec<u8>,
) -> Result<(), StoreError> {
    const SQL: &str =
        "UPDATE idempotency SET outcome = $1 WHERE subject = $2 AND idempotency_key = $3";
    tx.statement("idempotency::keep", SQL)
        .bind(outcome)
        .bind(subject.to_owned())
        .bind(key.to_owned())
        .execute()
        .await?;
    Ok(())
}

/// Forgets keys that were taken before a time.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    tx.statement("idempotency::prune", "DELETE FROM idempotency WHERE created_at < $1")
        .bind(before.as_microsecond())
        .execute()
        .await?;
    Ok(())
}
