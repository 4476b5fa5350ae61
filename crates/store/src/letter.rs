//! Letters: the e-mails that are to be sent, kept until they were. One process sends at a time, by a lease.

use jiff::{SignedDuration, Timestamp};
use model::{Email, Letter, LetterId, Name, Notice, UserId, UserStatus};
use sqlx::any::AnyRow;

use crate::{StoreError, Tx, notice, row::Columns};

/// A letter, and whom it is for.
#[derive(Debug, Clone)]
pub struct Addressed {
    /// The letter.
    pub letter: Letter,
    /// The e-mail address.
    pub email: Email,
    /// The person's name.
    pub name: Name,
    /// Whether the account may sign in.
    pub status: UserStatus,
    /// The one-time token of an invitation, sealed.
    pub sealed_invitation: Option<Vec<u8>>,
    /// Until when the invitation may be accepted.
    pub invitation_expires_at: Option<Timestamp>,
}

/// How many letters there are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// Those that were not sent yet, with those that wait for another attempt.
    pub waiting: u64,
    /// Those that may be sent now.
    pub due: u64,
}

/// How a letter ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A server took it.
    Sent,
    /// There was nothing left to write, or nobody to write to.
    Dropped,
    /// It was given up.
    Failed,
}

impl Ending {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Adds a letter that is to be sent at once.
pub async fn insert(
    tx: &mut Tx,
    id: LetterId,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO letter (id, user_id, status, due_at, tried_since, attempts)
        VALUES ($1, $2, 'waiting', $3, $3, 0)";
    tx.statement("letter::insert", SQL)
        .bind_text(id)
        .bind_text(user)
        .bind(now.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// The letter in which notices for a person are gathered: `id`, when there was none yet. It is due no later than
/// `due_at`.
pub async fn gather(
    tx: &mut Tx,
    id: LetterId,
    user: UserId,
    due_at: Timestamp,
) -> Result<LetterId, StoreError> {
    const SQL: &str = "
        INSERT INTO letter (id, user_id, status, due_at, tried_since, attempts)
        VALUES ($1, $2, 'gathering', $3, $3, 0)
        ON CONFLICT (user_id) WHERE status = 'gathering' DO UPDATE
        SET due_at = CASE WHEN letter.due_at < excluded.due_at THEN letter.due_at ELSE excluded.due_at END
        RETURNING id";
    let row = tx
        .statement("letter::gather", SQL)
        .bind_text(id)
        .bind_text(user)
        .bind(due_at.as_microsecond())
        .optional()
        .await?;
    row.map_or(Ok(id), |row| Columns::of("letter::gather", &row).parsed("id"))
}

/// How many letters of their own a person was written since a time.
pub async fn count_since(tx: &mut Tx, user: UserId, since: Timestamp) -> Result<i64, StoreError> {
    const SQL: &str = "
        SELECT COUNT(*) FROM letter WHERE user_id = $1 AND tried_since > $2 AND status <> 'gathering'";
    tx.statement("letter::count_since", SQL)
        .bind_text(user)
        .bind(since.as_microsecond())
        .number()
        .await
}

/// Takes up to `limit` letters that are due, oldest first: each has one more attempt, and is due again after the pause
/// that follows it. So one whose sender dies is tried again.
pub async fn take_due(
    tx: &mut Tx,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Addressed>, StoreError> {
    const DUE: &str = "
        SELECT letter.id, letter.user_id, letter.attempts, letter.tried_since, account.email, account.name,
               account.status, account.sealed_invitation, account.invitation_expires_at
        FROM letter JOIN account ON account.id = letter.user_id
        WHERE letter.status IN ('gathering', 'waiting') AND letter.due_at <= $1
        ORDER BY letter.due_at, letter.id LIMIT $2";
    const TAKE: &str = "
        UPDATE letter
        SET status = 'waiting', attempts = $1, due_at = $2,
            tried_since = CASE WHEN status = 'gathering' THEN $3 ELSE tried_since END
        WHERE id = $4 AND status IN ('gathering', 'waiting') AND attempts = $1 - 1";
    let rows =
        tx.statement("letter::take_due", DUE).bind(now.as_microsecond()).bind(limit).all().await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut addressed = read(row)?;
        let letter = &mut addressed.letter;
        letter.attempts += 1;
        let pause = SignedDuration::from_secs(Letter::pause_seconds(letter.attempts));
        let changed = tx
            .statement("letter::take_due", TAKE)
            .bind(letter.attempts)
            .bind((now + pause).as_microsecond())
            .bind(now.as_microsecond())
            .bind_text(letter.id)
            .execute()
            .await?;
        if changed == 1 {
            taken.push(addressed);
        }
    }
    Ok(taken)
}

/// Lists the notices of a letter that were not read in the inbox meanwhile, oldest first, and says how many there are
/// beyond `limit`.
pub async fn list_notices(
    tx: &mut Tx,
    id: LetterId,
    limit: i64,
) -> Result<(Vec<Notice>, u64), StoreError> {
    const SQL: &str =
        "SELECT * FROM notice WHERE letter_id = $1 AND read_at IS NULL ORDER BY id LIMIT $2";
    const COUNT: &str = "SELECT COUNT(*) FROM notice WHERE letter_id = $1 AND read_at IS NULL";
    let rows = tx.statement("letter::list_notices", SQL).bind_text(id).bind(limit).all().await?;
    let all = tx.statement("letter::list_notices", COUNT).bind_text(id).number().await?;
    let notices = rows.iter().map(notice::read).collect::<Result<Vec<_>, _>>()?;
    let more = all.unsigned_abs().saturating_sub(notices.len() as u64);
    Ok((notices, more))
}

/// Ends a letter.
pub async fn end(
    tx: &mut Tx,
    letter: &Letter,
    ending: Ending,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE letter SET status = $1, reason = $2, ended_at = $3
        WHERE id = $4 AND status IN ('gathering', 'waiting')";
    tx.statement("letter::end", SQL)
        .bind_text(ending.as_str())
        .bind_text_opt(reason)
        .bind(now.as_microsecond())
        .bind_text(letter.id)
        .execute()
        .await?;
    Ok(())
}

/// Keeps why the latest attempt failed.
pub async fn note_failure(tx: &mut Tx, letter: &Letter, reason: &str) -> Result<(), StoreError> {
    tx.statement("letter::note_failure", "UPDATE letter SET reason = $1 WHERE id = $2")
        .bind_text(reason)
        .bind_text(letter.id)
        .execute()
        .await?;
    Ok(())
}

/// How many letters there are to be sent.
pub async fn find_queue(tx: &mut Tx, now: Timestamp) -> Result<Queue, StoreError> {
    const SQL: &str = "
        SELECT CAST(COALESCE(SUM(CASE WHEN status = 'waiting' OR due_at <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT)
                   AS waiting,
               CAST(COALESCE(SUM(CASE WHEN due_at <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS due
        FROM letter WHERE status IN ('gathering', 'waiting')";
    let row = tx.statement("letter::find_queue", SQL).bind(now.as_microsecond()).optional().await?;
    let Some(row) = row else { return Ok(Queue::default()) };
    let columns = Columns::of("letter::find_queue", &row);
    Ok(Queue { waiting: columns.count("waiting")?, due: columns.count("due")? })
}

/// Forgets letters that ended before a time.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    tx.statement(
        "letter::prune",
        "DELETE FROM letter WHERE ended_at IS NOT NULL AND ended_at < $1",
    )
    .bind(before.as_microsecond())
    .execute()
    .await?;
    Ok(())
}

/// Takes or renews the right to do a piece of work until a time; false when another one has it.
pub async fn take_lease(
    tx: &mut Tx,
    work: &str,
    holder: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO lease (name, holder, ends_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at
        WHERE lease.holder = excluded.holder OR lease.ends_at <= $4";
    let taken = tx
        .statement("letter::take_lease", SQL)
        .bind_text(work)
        .bind_text(holder)
        .bind(until.as_microsecond())
        .bind(now.as_microsecond())
        .execute()
        .await?;
    Ok(taken == 1)
}

fn read(row: &AnyRow) -> Result<Addressed, StoreError> {
    let columns = Columns::of("letter::read", row);
    Ok(Addressed {
        letter: Letter {
            id: columns.parsed("id")?,
            user: columns.parsed("user_id")?,
            tried_since: columns.time("tried_since")?,
            attempts: columns.get("attempts")?,
        },
        email: columns.checked("email")?,
        name: columns.checked("name")?,
        status: columns.named("status", UserStatus::parse)?,
        sealed_invitation: columns.get("sealed_invitation")?,
        invitation_expires_at: columns.time_opt("invitation_expires_at")?,
    })
}
