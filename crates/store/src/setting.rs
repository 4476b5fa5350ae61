//! Settings of the installation, each a named JSON value.

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    StoreError, Tx,
    row::{Columns, to_json},
};

/// Finds a setting and its revision.
pub async fn find<T: DeserializeOwned>(
    tx: &mut Tx,
    name: &str,
) -> Result<Option<(T, i64)>, StoreError> {
    let row = tx
        .statement("setting::find", "SELECT * FROM setting WHERE name = $1")
        .bind(name.to_owned())
        .optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("setting::find", &row);
    Ok(Some((columns.json("content")?, columns.get("revision")?)))
}

/// Writes a setting over the revision before it; revision 1 adds it.
pub async fn put(
    tx: &mut Tx,
    name: &str,
    content: &impl Serialize,
    revision: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO setting (name, content, updated_at, revision) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE
        SET content = excluded.content, updated_at = excluded.updated_at, revision = excluded.revision
        WHERE setting.revision = excluded.revision - 1";
    tx.statement("setting::put", SQL)
        .bind(name.to_owned())
        .bind(to_json("setting::put", content)?)
        .bind(now.as_microsecond())
        .bind(revision)
        .execute_current()
        .await
}
