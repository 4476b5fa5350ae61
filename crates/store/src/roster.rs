//! The roster that gateways are told. Whoever changes a credential or an agreement leaves the entry with the
//! transaction; it is numbered when the transaction commits, so that numbers follow commits.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{ApplicationId, RosterDigest, RosterEntry, RosterPage};

use crate::{StoreError, Tx, row::Columns};

/// The most entries of each kind in a page.
const PAGE: i64 = 16_000;
const BACKFILL: i64 = 5_000;

/// How far the roster has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterHead {
    /// Names the sequence of numbers.
    pub epoch: u64,
    /// The last change.
    pub number: u64,
    /// Whoever knows less than this begins anew.
    pub floor: u64,
    /// The digest over all entries.
    pub digest: RosterDigest,
}

/// What a transaction does to the roster, by the identifier of the entry.
pub(crate) type Pending = BTreeMap<String, PendingEntry>;

/// What becomes of one entry.
pub(crate) struct PendingEntry {
    entry: RosterEntry,
    is_live: bool,
    at: Timestamp,
}

/// How far the roster has come.
pub async fn head(tx: &mut Tx) -> Result<RosterHead, StoreError> {
    const SQL: &str = "SELECT * FROM roster_head WHERE id = 1";
    let row = tx.statement("roster::head", SQL).optional().await?;
    let Some(row) = row else {
        return Ok(RosterHead { epoch: 0, number: 0, floor: 0, digest: RosterDigest::default() });
    };
    let columns = Columns::of("roster::head", &row);
    Ok(RosterHead {
        epoch: columns.count("epoch")?,
        number: columns.count("number")?,
        floor: columns.count("floor_number")?,
        digest: RosterDigest(columns.parsed("digest")?),
    })
}

/// The changes after a number: what is no more first, and a bounded number of entries that are.
pub async fn page(
    tx: &mut Tx,
    head: &RosterHead,
    after: u64,
    renews: bool,
) -> Result<RosterPage, StoreError> {
    // Whoever begins has nothing that could be taken away.
    let removed =
        if renews && after == 0 { Vec::new() } else { list(tx, after, false, PAGE).await? };
    let present = list(tx, after, true, PAGE).await?;
    // A list that is full may have been cut off: what comes after its end is for the next page.
    let end = |list: &[(u64, RosterEntry)]| match i64::try_from(list.len()) {
        Ok(length) if length < PAGE => u64::MAX,
        _ => list.last().map_or(u64::MAX, |(number, _)| *number),
    };
    let to = head.number.min(end(&removed)).min(end(&present));
    let until = |list: Vec<(u64, RosterEntry)>| {
        list.into_iter().filter(|(number, _)| *number <= to).map(|(_, entry)| entry).collect()
    };
    Ok(RosterPage {
        epoch: head.epoch,
        renews,
        after,
        removed: until(removed),
        present: until(present),
        to,
        digest: (to == head.number).then_some(head.digest),
    })
}

async fn list(
    tx: &mut Tx,
    after: u64,
    is_live: bool,
    limit: i64,
) -> Result<Vec<(u64, RosterEntry)>, StoreError> {
    const LIVE: &str = "
        SELECT number, entry FROM roster WHERE number > $1 AND is_live = 1 ORDER BY number LIMIT $2";
    const GONE: &str = "
        SELECT number, entry FROM roster WHERE number > $1 AND is_live = 0 ORDER BY number LIMIT $2";
    let rows = tx
        .statement("roster::list", if is_live { LIVE } else { GONE })
        .bind(number(after))
        .bind(limit)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("roster::list", row);
            Ok((columns.count("number")?, read_entry(&columns)?))
        })
        .collect()
}

/// Takes entries off the roster whose end has come; answers how many.
pub async fn expire(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<usize, StoreError> {
    const SQL: &str = "
        SELECT entry FROM roster WHERE is_live = 1 AND expires_at <= $1 ORDER BY expires_at LIMIT $2";
    let rows =
        tx.statement("roster::expire", SQL).bind(now.as_microsecond()).bind(limit).all().await?;
    for row in &rows {
        let entry = read_entry(&Columns::of("roster::expire", row))?;
        set(tx, entry, false, now);
    }
    Ok(rows.len())
}

/// Forgets what was taken off before a time. Whoever has not heard of it begins anew.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    const NEWEST: &str = "SELECT MAX(number) FROM roster WHERE is_live = 0 AND changed_at < $1";
    const DELETE: &str = "DELETE FROM roster WHERE is_live = 0 AND changed_at < $1";
    const FLOOR: &str = "UPDATE roster_head SET floor_number = $1 WHERE floor_number < $1";
    let before = before.as_microsecond();
    let newest = tx.statement("roster::prune", NEWEST).bind(before).number().await?;
    if newest == 0 {
        return Ok(());
    }
    tx.statement("roster::prune", DELETE).bind(before).execute().await?;
    tx.statement("roster::prune", FLOOR).bind(newest).execute().await?;
    Ok(())
}

/// Takes everything of an application off the roster.
pub(crate) async fn remove_of(
    tx: &mut Tx,
    application: ApplicationId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "SELECT entry FROM roster WHERE application_id = $1 AND is_live = 1";
    let rows = tx.statement("roster::remove_of", SQL).bind_text(application).all().await?;
    for row in &rows {
        let entry = read_entry(&Columns::of("roster::remove_of", row))?;
        set(tx, entry, false, now);
    }
    Ok(())
}

/// Leaves an entry with the transaction, to be written when it commits.
pub(crate) fn set(tx: &mut Tx, entry: RosterEntry, is_live: bool, at: Timestamp) {
    tx.pending().insert(entry.subject(), PendingEntry { entry, is_live, at });
}

/// Numbers and writes what a transaction does to the roster, at its end.
pub(crate) async fn flush(tx: &mut Tx, pending: Pending) -> Result<(), StoreError> {
    const FIND: &str = "SELECT is_live, entry FROM roster WHERE subject = $1";
    const HEAD: &str = "UPDATE roster_head SET number = $1, digest = $2 WHERE id = 1";
    if pending.is_empty() {
        return Ok(());
    }
    let mut head = head(tx).await?;
    for (subject, PendingEntry { entry, is_live, at }) in pending {
        let row = tx.statement("roster::flush", FIND).bind(subject.clone()).optional().await?;
        let before = row
            .map(|row| {
                let columns = Columns::of("roster::flush", &row);
                Ok::<_, StoreError>((read_entry(&columns)?, columns.flag("is_live")?))
            })
            .transpose()?;
        let was_live = matches!(before, Some((_, true)));
        if before == Some((entry, is_live)) || (!was_live && !is_live) {
            continue;
        }
        if let Some((before, true)) = &before {
            head.digest = head.digest.without(before);
        }
        if is_live {
            head.digest = head.digest.with(&entry);
        }
        head.number += 1;
        let number = head.number;
        put(tx, Row { subject, entry: &entry, is_live, number, changed_at: at.as_microsecond() })
            .await?;
    }
    tx.statement("roster::flush", HEAD)
        .bind(number(head.number))
        .bind_text(head.digest.0)
        .execute()
        .await?;
    Ok(())
}

/// A row of the table.
struct Row<'entry> {
    subject: String,
    entry: &'entry RosterEntry,
    is_live: bool,
    number: u64,
    changed_at: i64,
}

async fn put(tx: &mut Tx, row: Row<'_>) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO roster (subject, application_id, number, is_live, expires_at, changed_at, entry)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (subject) DO UPDATE
        SET number = excluded.number, is_live = excluded.is_live, expires_at = excluded.expires_at,
            changed_at = excluded.changed_at, entry = excluded.entry";
    let application = match row.entry {
        RosterEntry::Credential(entry) => entry.application,
        RosterEntry::Agreement(entry) => entry.application,
    };
    tx.statement("roster::put", SQL)
        .bind(row.subject)
        .bind_text(application)
        .bind(number(row.number))
        .bind(i64::from(row.is_live))
        .bind(row.entry.expires_at().map(Timestamp::as_microsecond))
        .bind(row.changed_at)
        .bind(row.entry.to_bytes())
        .execute()
        .await?;
    Ok(())
}

/// Fills the roster of a database that had none.
pub(crate) async fn backfill(tx: &mut Tx) -> Result<(), StoreError> {
    const HEAD: &str = "
        INSERT INTO roster_head (id, epoch, number, floor_number, digest) VALUES (1, $1, $2, 0, $3)";
    let epoch = tx.statement("roster::epoch", tx.engine().random_number()).number().await?;
    let epoch = epoch.unsigned_abs().max(1);
    let mut head = RosterHead { epoch, number: 0, floor: 0, digest: RosterDigest::default() };
    let mut last = String::new();
    loop {
        let entries = crate::credential::list_accepted(tx, &last, BACKFILL).await?;
        let Some(newest) = entries.last() else { break };
        last = newest.subject();
        append(tx, &mut head, &entries).await?;
    }
    last.clear();
    loop {
        let entries = crate::subscription::list_agreements(tx, &last, BACKFILL).await?;
        let Some(newest) = entries.last() else { break };
        last = newest.subject();
        append(tx, &mut head, &entries).await?;
    }
    tx.statement("roster::backfill", HEAD)
        .bind(number(head.epoch))
        .bind(number(head.number))
        .bind_text(head.digest.0)
        .execute()
        .await?;
    Ok(())
}

async fn append(
    tx: &mut Tx,
    head: &mut RosterHead,
    entries: &[RosterEntry],
) -> Result<(), StoreError> {
    for entry in entries {
        head.number += 1;
        head.digest = head.digest.with(entry);
        let (subject, number) = (entry.subject(), head.number);
        put(tx, Row { subject, entry, is_live: true, number, changed_at: 0 }).await?;
    }
    Ok(())
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn read_entry(columns: &Columns<'_>) -> Result<RosterEntry, StoreError> {
    let bytes: Vec<u8> = columns.get("entry")?;
    RosterEntry::from_bytes(&bytes).ok_or_else(|| columns.corrupt("entry", "another form"))
}
