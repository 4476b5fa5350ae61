//! Calls that failed lately.

use jiff::Timestamp;
use model::{ApiId, ApplicationId, FailedCall, FailedCallId, Fault, TenantId};
use sqlx::any::AnyRow;

use crate::{StoreError, Tx, row::Columns};

/// Whose failures are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// Of an API; of one consumer's tenant only, when one is given.
    Api(ApiId, Option<TenantId>),
    /// Of an application.
    Application(ApplicationId),
}

/// Adds a failure.
pub async fn insert(tx: &mut Tx, call: &FailedCall) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO failed_call (id, api_id, owner_id, version_id, operation, application_id, consumer_id, request_id,
                                 status, fault, duration_micros, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    tx.statement("failed_call::insert", SQL)
        .bind_text(call.id)
        .bind_text(call.api)
        .bind_text(call.owner)
        .bind_text(call.version)
        .bind(call.operation.map_or(-1, i64::from))
        .bind_text(call.application)
        .bind_text(call.consumer)
        .bind_text(&call.request_id)
        .bind(i64::from(call.status))
        .bind_text(call.fault.as_str())
        .bind(i64::from(call.duration_micros))
        .bind(call.at.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// Lists failures, newest first.
pub async fn list(
    tx: &mut Tx,
    scope: Scope,
    before: Option<FailedCallId>,
    limit: u32,
) -> Result<Vec<FailedCall>, StoreError> {
    const SQL: &str = "
        SELECT * FROM failed_call
        WHERE ($1 = '' OR api_id = $1) AND ($2 = '' OR consumer_id = $2) AND ($3 = '' OR application_id = $3)
          AND ($4 = '' OR id < $4)
        ORDER BY id DESC LIMIT $5";
    let none = String::new;
    let (api, consumer, application) = match scope {
        Scope::Api(api, consumer) => {
            (api.to_string(), consumer.map_or_else(none, |id| id.to_string()), none())
        }
        Scope::Application(application) => (none(), none(), application.to_string()),
    };
    let rows = tx
        .statement("failed_call::list", SQL)
        .bind(api)
        .bind(consumer)
        .bind(application)
        .bind(before.map_or_else(none, |id| id.to_string()))
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Forgets failures from before a time, and all but the newest `most` of each API.
pub async fn prune(tx: &mut Tx, before: Timestamp, most: i64) -> Result<(), StoreError> {
    const OLD: &str = "DELETE FROM failed_call WHERE at < $1";
    const FULL: &str =
        "SELECT api_id FROM failed_call GROUP BY api_id HAVING COUNT(*) > $1 ORDER BY api_id";
    const SURPLUS: &str = "
        DELETE FROM failed_call WHERE api_id = $1 AND id <= (
            SELECT id FROM failed_call WHERE api_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
    tx.statement("failed_call::prune", OLD).bind(before.as_microsecond()).execute().await?;
    let full = tx.statement("failed_call::full", FULL).bind(most).all().await?;
    for row in full {
        let api = Columns::of("failed_call::full", &row).text("api_id")?;
        tx.statement("failed_call::surplus", SURPLUS).bind(api).bind(most).execute().await?;
    }
    Ok(())
}

fn read(row: &AnyRow) -> Result<FailedCall, StoreError> {
    let columns = Columns::of("failed_call::read", row);
    let operation: i64 = columns.get("operation")?;
    Ok(FailedCall {
        id: columns.parsed("id")?,
        api: columns.parsed("api_id")?,
        owner: columns.parsed("owner_id")?,
        version: columns.parsed("version_id")?,
        operation: u16::try_from(operation).ok(),
        application: columns.parsed("application_id")?,
        consumer: columns.parsed("consumer_id")?,
        request_id: columns.text("request_id")?,
        status: u16::try_from(columns.count("status")?).unwrap_or(0),
        fault: columns.named("fault", Fault::parse)?,
        duration_micros: u32::try_from(columns.count("duration_micros")?).unwrap_or(u32::MAX),
        at: columns.time("at")?,
    })
}
