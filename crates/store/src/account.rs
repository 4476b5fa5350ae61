//! People's accounts, their passwords and invitations.

use std::time::Duration;

use jiff::Timestamp;
use model::{Email, Roles, User, UserId, UserStatus};
use sqlx::any::AnyRow;

use crate::{Page, PageOf, Planted, StoreError, Tx, Viewer, row::Columns};

/// What is needed to check a password.
#[derive(Debug)]
pub struct SignIn {
    /// The account.
    pub user: User,
    /// The password's hash in PHC form; none before the invitation is accepted.
    pub password_hash: Option<String>,
    /// Wrong passwords since the last right one.
    pub failed_attempts: i64,
    /// Until when no password is looked at.
    pub locked_until: Option<Timestamp>,
}

impl SignIn {
    /// How long no password is looked at any more.
    pub fn locked_for(&self, now: Timestamp) -> Option<Duration> {
        let left = self.locked_until?.duration_since(now).as_secs();
        (left > 0).then(|| Duration::from_secs(left.unsigned_abs()))
    }
}

/// An invitation that was not accepted yet.
#[derive(Debug)]
pub struct Invitation {
    /// The account.
    pub user: User,
    /// Until when it may be accepted.
    pub expires_at: Timestamp,
}

/// Adds an account. Fails as duplicate when the e-mail address is taken.
pub async fn insert(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO account (id, tenant_id, email, name, roles, status, failed_attempts, created_at, updated_at,
                             revision)
        VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9)";
    tx.statement("account::insert", SQL)
        .bind_text(user.id)
        .bind_text(user.tenant)
        .bind_text(&user.email)
        .bind_text(&user.name)
        .bind_text(user.roles)
        .bind_text(user.status.as_str())
        .bind(user.created_at.as_microsecond())
        .bind(user.updated_at.as_microsecond())
        .bind(user.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed account over the revision before it.
pub async fn update(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE account SET name = $1, roles = $2, status = $3, updated_at = $4, revision = $5
        WHERE id = $6 AND tenant_id = $7 AND revision = $5 - 1";
    tx.statement("account::update", SQL)
        .bind_text(&user.name)
        .bind_text(user.roles)
        .bind_text(user.status.as_str())
        .bind(user.updated_at.as_microsecond())
        .bind(user.revision)
        .bind_text(user.id)
        .bind_text(user.tenant)
        .execute_current()
        .await
}

/// Removes an account.
pub async fn delete(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    tx.statement("account::delete", "DELETE FROM account WHERE id = $1 AND tenant_id = $2")
        .bind_text(user.id)
        .bind_text(user.tenant)
        .execute()
        .await?;
    Ok(())
}

/// Finds an account that the viewer may see.
pub async fn find(tx: &mut Tx, viewer: Viewer, id: UserId) -> Result<Option<User>, StoreError> {
    const SQL: &str = "SELECT * FROM account WHERE id = $1 AND ($2 = '*' OR tenant_id = $2)";
    let row =
        tx.statement("account::find", SQL).bind_text(id).bind(viewer.argument()).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Lists accounts by e-mail address.
pub async fn list(tx: &mut Tx, viewer: Viewer, page: Page) -> Result<PageOf<User>, StoreError> {
    const SQL: &str = "
        SELECT * FROM account WHERE ($1 = '*' OR tenant_id = $1) ORDER BY email LIMIT $2 OFFSET $3";
    const COUNT: &str = "SELECT COUNT(*) FROM account WHERE ($1 = '*' OR tenant_id = $1)";
    let rows = tx
        .statement("account::list", SQL)
        .bind(viewer.argument())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let counting = Planted::CountsAll.widen(viewer);
    let total = tx.statement("account::list", COUNT).bind(counting.argument()).number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// Finds what is needed to check a password.
pub async fn find_sign_in(tx: &mut Tx, email: &Email) -> Result<Option<SignIn>, StoreError> {
    const SQL: &str = "SELECT * FROM account WHERE email = $1";
    let row = tx.statement("account::find_sign_in", SQL).bind_text(email).optional().await?;
    row.as_ref().map(read_sign_in).transpose()
}

/// Finds what is needed to check a password, by identifier.
pub async fn find_sign_in_by_id(tx: &mut Tx, id: UserId) -> Result<Option<SignIn>, StoreError> {
    const SQL: &str = "SELECT * FROM account WHERE id = $1";
    let row = tx.statement("account::find_sign_in_by_id", SQL).bind_text(id).optional().await?;
    row.as_ref().map(read_sign_in).transpose()
}

/// Counts a wrong password (or forgets all of them with 0), and locks the account until a time.
pub async fn note_attempts(
    tx: &mut Tx,
    id: UserId,
    failed: i64,
    locked_until: Option<Timestamp>,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE account SET failed_attempts = $1, locked_until = $2 WHERE id = $3";
    tx.statement("account::note_attempts", SQL)
        .bind(failed)
        .bind(locked_until.map(Timestamp::as_microsecond))
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Makes others who judge attempts to sign in to the account wait for the transaction: each sees what the one before counted.
pub async fn hold(tx: &mut Tx, id: UserId) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE account SET failed_attempts = failed_attempts WHERE id = $1";
    tx.statement("account::hold", SQL).bind_text(id).execute().await?;
    Ok(())
}

/// Counts an attempt that failed, and tells how many there were since the last that succeeded.
pub async fn count_attempt(tx: &mut Tx, id: UserId) -> Result<i64, StoreError> {
    const COUNT: &str = "UPDATE account SET failed_attempts = failed_attempts + 1 WHERE id = $1";
    const READ: &str = "SELECT failed_attempts FROM account WHERE id = $1";
    tx.statement("account::count_attempt", COUNT).bind_text(id).execute().await?;
    tx.statement("account::count_attempt", READ).bind_text(id).number().await
}

/// Sets the password's hash and forgets any invitation.
pub async fn set_password(tx: &mut Tx, id: UserId, hash: &str) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE account SET password_hash = $1, invitation_digest = NULL, invitation_expires_at = NULL,
                           sealed_invitation = NULL, failed_attempts = 0, locked_until = NULL
        WHERE id = $2";
    tx.statement("account::set_password", SQL)
        .bind(hash.to_owned())
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Sets the digest of an invitation's one-time token. A password that there was is good no longer.
pub async fn set_invitation(
    tx: &mut Tx,
    id: UserId,
    digest: &str,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE account SET invitation_digest = $1, invitation_expires_at = $2, password_hash = NULL,
                           failed_attempts = 0, locked_until = NULL
        WHERE id = $3";
    tx.statement("account::set_invitation", SQL)
        .bind(digest.to_owned())
        .bind(expires_at.as_microsecond())
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Keeps the one-time token of an invitation, sealed, until it was sent; nothing forgets it.
pub async fn keep_invitation(
    tx: &mut Tx,
    id: UserId,
    sealed: Option<Vec<u8>>,
) -> Result<(), StoreError> {
    tx.statement(
        "account::keep_invitation",
        "UPDATE account SET sealed_invitation = $1 WHERE id = $2",
    )
    .bind(sealed)
    .bind_text(id)
    .execute()
    .await?;
    Ok(())
}

/// Whether a person has not accepted the invitation yet; it cannot be accepted before the transaction has ended.
pub async fn hold_invited(tx: &mut Tx, id: UserId) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE account SET status = status WHERE id = $1 AND status = 'invited'";
    let held = tx.statement("account::hold_invited", SQL).bind_text(id).execute().await?;
    Ok(held == 1)
}

/// Finds an invitation by the digest of its token.
pub async fn find_invitation(tx: &mut Tx, digest: &str) -> Result<Option<Invitation>, StoreError> {
    const SQL: &str = "
        SELECT * FROM account WHERE invitation_digest = $1 AND invitation_expires_at IS NOT NULL";
    let row =
        tx.statement("account::find_invitation", SQL).bind(digest.to_owned()).optional().await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("account::find_invitation", &row);
    Ok(Some(Invitation { user: read(&row)?, expires_at: columns.time("invitation_expires_at")? }))
}

fn read_sign_in(row: &AnyRow) -> Result<SignIn, StoreError> {
    let columns = Columns::of("account::read_sign_in", row);
    Ok(SignIn {
        user: read(row)?,
        password_hash: columns.get("password_hash")?,
        failed_attempts: columns.get("failed_attempts")?,
        locked_until: columns.time_opt("locked_until")?,
    })
}

fn read(row: &AnyRow) -> Result<User, StoreError> {
    let columns = Columns::of("account::read", row);
    Ok(User {
        id: columns.parsed("id")?,
        tenant: columns.parsed("tenant_id")?,
        email: columns.checked("email")?,
        name: columns.checked("name")?,
        roles: columns.named("roles", Roles::parse)?,
        status: columns.named("status", UserStatus::parse)?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
