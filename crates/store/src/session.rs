//! Signed-in sessions.

use jiff::Timestamp;
use model::{ApplicationId, CredentialId, Roles, SessionId, TenantId, UserId};
use sqlx::any::AnyRow;

use crate::{Page, PageOf, StoreError, Tx, Viewer, row::Columns};

/// A signed-in session of a person or program.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Session {
    /// Identifier, carried by the token.
    pub id: SessionId,
    /// The tenant.
    pub tenant: TenantId,
    /// The person, or whoever made the program's credential.
    pub user: UserId,
    /// The program and its credential, when it is one.
    pub application: Option<(ApplicationId, CredentialId)>,
    /// The roles that the token carries.
    pub roles: Roles,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
}

/// What decides whether a token is still good.
#[derive(Debug)]
pub struct Standing {
    /// The session.
    pub session: Session,
    /// The roles that the account has now; none when it may not sign in any more.
    pub current_roles: Option<Roles>,
}

/// Adds a session.
pub async fn insert(tx: &mut Tx, session: &Session) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO session (id, tenant_id, user_id, application_id, credential_id, roles, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    tx.statement("session::insert", SQL)
        .bind_text(session.id)
        .bind_text(session.tenant)
        .bind_text(session.user)
        .bind_text_opt(session.application.map(|(application, _)| application))
        .bind_text_opt(session.application.map(|(_, credential)| credential))
        .bind_text(session.roles)
        .bind(session.created_at.as_microsecond())
        .bind(session.expires_at.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

/// Finds a session and what has become of its account, tenant and credential since.
pub async fn find_standing(
    tx: &mut Tx,
    id: SessionId,
    now: Timestamp,
) -> Result<Option<Standing>, StoreError> {
    const SQL: &str = "
        SELECT session.*,
               CASE WHEN tenant.is_active = 0 THEN NULL
                    WHEN session.application_id IS NULL AND account.status = 'active' THEN account.roles
                    WHEN credential.status = 'active' AND (credential.expires_at IS NULL OR credential.expires_at > $2)
                        THEN session.roles
               END AS current_roles
        FROM session
        JOIN tenant ON tenant.id = session.tenant_id
        LEFT JOIN account ON account.id = session.user_id
        LEFT JOIN credential ON credential.id = session.credential_id
        WHERE session.id = $1";
    let row = tx
        .statement("session::find_standing", SQL)
        .bind_text(id)
        .bind(now.as_microsecond())
        .optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("session::find_standing", &row);
    let current: Option<String> = columns.get("current_roles")?;
    Ok(Some(Standing {
        session: read(&row)?,
        current_roles: current.as_deref().and_then(Roles::parse),
    }))
}

/// Finds a session that the viewer may see.
pub async fn find(
    tx: &mut Tx,
    viewer: Viewer,
    id: SessionId,
) -> Result<Option<Session>, StoreError> {
    const SQL: &str = "SELECT * FROM session WHERE id = $1 AND ($2 = '*' OR tenant_id = $2)";
    let row =
        tx.statement("session::find", SQL).bind_text(id).bind(viewer.argument()).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Lists sessions that have not ended, newest first; of one person only, when one is given.
pub async fn list_open(
    tx: &mut Tx,
    viewer: Viewer,
    user: Option<UserId>,
    now: Timestamp,
    page: Page,
) -> Result<PageOf<Session>, StoreError> {
    const SQL: &str = "
        SELECT * FROM session
        WHERE ($1 = '*' OR tenant_id = $1) AND ($2 = '*' OR user_id = $2) AND ended_at IS NULL AND expires_at > $3
        ORDER BY id DESC LIMIT $4 OFFSET $5";
    const COUNT: &str = "
        SELECT COUNT(*) FROM session
        WHERE ($1 = '*' OR tenant_id = $1) AND ($2 = '*' OR user_id = $2) AND ended_at IS NULL AND expires_at > $3";
    let whose = user.map_or_else(|| "*".to_owned(), |user| user.to_string());
    let rows = tx
        .statement("session::list_open", SQL)
        .bind(viewer.argument())
        .bind(whose.clone())
        .bind(now.as_microsecond())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total = tx
        .statement("session::list_open", COUNT)
        .bind(viewer.argument())
        .bind(whose)
        .bind(now.as_microsecond())
        .number()
        .await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// Ends a session.
pub async fn end(tx: &mut Tx, session: &Session, now: Timestamp) -> Result<(), StoreError> {
    const SQL: &str =
        "UPDATE session SET ended_at = $1 WHERE id = $2 AND tenant_id = $3 AND ended_at IS NULL";
    tx.statement("session::end", SQL)
        .bind(now.as_microsecond())
        .bind_text(session.id)
        .bind_text(session.tenant)
        .execute()
        .await?;
    Ok(())
}

/// Ends every session of a person, but for one that may be kept.
pub async fn end_all_of(
    tx: &mut Tx,
    user: UserId,
    keep: Option<SessionId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE session SET ended_at = $1
        WHERE user_id = $2 AND application_id IS NULL AND id <> $3 AND ended_at IS NULL";
    tx.statement("session::end_all_of", SQL)
        .bind(now.as_microsecond())
        .bind_text(user)
        .bind(keep.map_or_else(String::new, |id| id.to_string()))
        .execute()
        .await?;
    Ok(())
}

/// Forgets sessions that expired before a time.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    tx.statement("session::prune", "DELETE FROM session WHERE expires_at < $1")
        .bind(before.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Session, StoreError> {
    let columns = Columns::of("session::read", row);
    let application = columns.parsed_opt("application_id")?;
    let credential = columns.parsed_opt("credential_id")?;
    Ok(Session {
        id: columns.parsed("id")?,
        tenant: columns.parsed("tenant_id")?,
        user: columns.parsed("user_id")?,
        application: application.zip(credential),
        roles: columns.named("roles", Roles::parse)?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time("expires_at")?,
        ended_at: columns.time_opt("ended_at")?,
    })
}
