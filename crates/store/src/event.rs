//! The sequence of events: numbered in the order in which they are committed.

use jiff::Timestamp;
use model::{Event, EventKind, TenantId};

use crate::{StoreError, Tx, row::Columns};

/// An event that a transaction announces.
pub(crate) struct PendingEvent {
    tenant: TenantId,
    kind: EventKind,
    subject: String,
    at: Timestamp,
}

/// Leaves an event with the transaction, which numbers and writes it when it commits.
pub fn announce(tx: &mut Tx, tenant: TenantId, kind: EventKind, subject: &str, at: Timestamp) {
    tx.events().push(PendingEvent { tenant, kind, subject: subject.to_owned(), at });
}

/// Numbers and writes what a transaction announces, at its end.
pub(crate) async fn flush(tx: &mut Tx, pending: Vec<PendingEvent>) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO event (number, tenant_id, kind, subject, at)
        SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3, $4 FROM event";
    for PendingEvent { tenant, kind, subject, at } in pending {
        tx.statement("event::flush", SQL)
            .bind_text(tenant)
            .bind_text(kind.as_str())
            .bind(subject)
            .bind(at.as_microsecond())
            .execute()
            .await?;
    }
    Ok(())
}

/// The number of the last event; 0 when there is none.
pub async fn last_number(tx: &mut Tx) -> Result<u64, StoreError> {
    let number = tx
        .statement("event::last_number", "SELECT COALESCE(MAX(number), 0) FROM event")
        .number()
        .await?;
    Ok(number.unsigned_abs())
}

/// Lists events after a number, oldest first.
pub async fn list_after(tx: &mut Tx, number: u64, limit: i64) -> Result<Vec<Event>, StoreError> {
    const SQL: &str = "SELECT * FROM event WHERE number > $1 ORDER BY number LIMIT $2";
    let rows = tx
        .statement("event::list_after", SQL)
        .bind(i64::try_from(number).unwrap_or(i64::MAX))
        .bind(limit)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("event::list_after", row);
            Ok(Event {
                number: columns.count("number")?,
                tenant: columns.parsed("tenant_id")?,
                kind: columns.named("kind", EventKind::parse)?,
                subject: columns.text("subject")?,
                at: columns.time("at")?,
            })
        })
        .collect()
}
