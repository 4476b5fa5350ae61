//! The cookies of the portal, each of which stands for a session.

use jiff::Timestamp;
use model::{SessionId, UserId};

use crate::{StoreError, Tx, row::Columns};

/// Adds the cookie of a session; only its digest is kept.
pub async fn insert(
    tx: &mut Tx,
    session: SessionId,
    cookie_digest: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str =
        "INSERT INTO portal_session (session_id, cookie_digest, seen_at) VALUES ($1, $2, $3)";
    tx.statement("portal_session::insert", SQL)
        .bind_text(session)
        .bind(cookie_digest.to_owned())
        .bind(now.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// Finds the session of a cookie, and when it was last used.
pub async fn find(
    tx: &mut Tx,
    cookie_digest: &str,
) -> Result<Option<(SessionId, Timestamp)>, StoreError> {
    const SQL: &str = "SELECT session_id, seen_at FROM portal_session WHERE cookie_digest = $1";
    let row =
        tx.statement("portal_session::find", SQL).bind(cookie_digest.to_owned()).optional().await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("portal_session::find", &row);
    Ok(Some((columns.parsed("session_id")?, columns.time("seen_at")?)))
}

/// Takes note that a session is in use.
pub async fn note_use(tx: &mut Tx, session: SessionId, now: Timestamp) -> Result<(), StoreError> {
    tx.statement(
        "portal_session::note_use",
        "UPDATE portal_session SET seen_at = $1 WHERE session_id = $2",
    )
    .bind(now.as_microsecond())
    .bind_text(session)
    .execute()
    .await?;
    Ok(())
}

/// Ends the open sessions of a person in the portal but for the newest ones.
pub async fn end_beyond(
    tx: &mut Tx,
    user: UserId,
    kept: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE session SET ended_at = $1
        WHERE id IN (
            SELECT session.id FROM session JOIN portal_session ON portal_session.session_id = session.id
            WHERE session.user_id = $2 AND session.ended_at IS NULL AND session.expires_at > $1
            ORDER BY session.created_at DESC, session.id DESC LIMIT 1000 OFFSET $3)";
    tx.statement("portal_session::end_beyond", SQL)
        .bind(now.as_microsecond())
        .bind_text(user)
        .bind(kept.max(0))
        .execute()
        .await?;
    Ok(())
}

/// Forgets the cookies of sessions that are no more.
pub async fn prune(tx: &mut Tx) -> Result<(), StoreError> {
    const SQL: &str = "
        DELETE FROM portal_session
        WHERE NOT EXISTS (SELECT 1 FROM session WHERE session.id = portal_session.session_id)";
    tx.statement("portal_session::prune", SQL).execute().await?;
    Ok(())
}
