//! Notices: the inbox of each person, what a person wants to be sent, and how far events have been told.

use jiff::Timestamp;
use model::{
    ApplicationId, LetterId, News, Notice, NoticeId, NoticeSettings, Roles, TenantId, UserId,
    VersionId,
};
use sqlx::any::AnyRow;

use crate::{
    StoreError, Tx,
    row::{Columns, to_json},
};

/// The most notices that a person's inbox holds; older ones make room.
pub const MAX_PER_PERSON: i64 = 1_000;

/// How far events have been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// All events up to this number.
    pub number: u64,
    /// Of the next event that concerns people, everybody up to this person; empty when nobody.
    pub reached: String,
}

/// Who is told. Only people who may sign in are, except whoever is invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// People with one of these roles in a tenant, but not this one.
    Holders(TenantId, Roles, Option<UserId>),
    /// People with one of these roles in any tenant, but not this one.
    HoldersAnywhere(Roles, Option<UserId>),
    /// One person.
    Person(UserId),
    /// One person who has not accepted the invitation yet.
    Invited(UserId),
    /// Whoever registered the application, or its tenant's administrators when that person is gone.
    Owners(ApplicationId),
    /// Those of all applications with a live subscription to a version.
    Subscribers(VersionId),
}

/// One who is told, and what that person wants to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The person.
    pub user: UserId,
    /// What is sent.
    pub settings: NoticeSettings,
}

/// How far events have been told.
pub async fn find_place(tx: &mut Tx) -> Result<Place, StoreError> {
    let row = tx
        .statement("notice::find_place", "SELECT * FROM notice_place WHERE id = 1")
        .optional()
        .await?;
    let Some(row) = row else { return Ok(Place { number: 0, reached: String::new() }) };
    let columns = Columns::of("notice::find_place", &row);
    Ok(Place { number: columns.count("number")?, reached: columns.text("reached")? })
}

/// Moves on how far events have been told, if they were told up to `from`; says whether they were. Of two that try at
/// once only one succeeds.
pub async fn advance(tx: &mut Tx, from: &Place, next: &Place) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE notice_place SET number = $1, reached = $2 WHERE id = 1 AND number = $3 AND reached = $4";
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let moved = tx
        .statement("notice::advance", SQL)
        .bind(number(next.number))
        .bind_text(&next.reached)
        .bind(number(from.number))
        .bind_text(&from.reached)
        .execute()
        .await?;
    Ok(moved == 1)
}

/// Lists who is told, after a person, in a fixed order.
pub async fn list_recipients(
    tx: &mut Tx,
    audience: Audience,
    after: &str,
    limit: i64,
) -> Result<Vec<Recipient>, StoreError> {
    let status = if matches!(audience, Audience::Invited(_)) { "invited" } else { "active" };
    let (condition, [first, second]) = audience.condition();
    let sql = format!(
        "SELECT account.id, notice_settings.content FROM account
         JOIN tenant ON tenant.id = account.tenant_id AND tenant.is_active = 1
         LEFT JOIN notice_settings ON notice_settings.user_id = account.id
         WHERE account.id > $1 AND account.status = $2 AND account.id <> $4 AND ({condition})
         ORDER BY account.id LIMIT $5"
    );
    let rows = tx
        .statement("notice::list_recipients", sqlx::AssertSqlSafe(sql))
        .bind_text(after)
        .bind_text(status)
        .bind(first)
        .bind(second)
        .bind(limit)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("notice::list_recipients", row);
            let settings = columns.json_opt("content")?.unwrap_or_default();
            Ok(Recipient { user: columns.parsed("id")?, settings })
        })
        .collect()
}

impl Audience {
    /// What holds for those who are told: `$3` is the first argument, and the second is the one who is not told.
    fn condition(self) -> (String, [String; 2]) {
        /// Of the applications that are meant, who owns them.
        fn owners(applications: &str) -> String {
            format!(
                "account.id IN (SELECT application.created_by FROM application WHERE {applications})
                 OR ({administrators} AND account.tenant_id IN (
                    SELECT application.tenant_id FROM application WHERE {applications} AND NOT EXISTS (
                        SELECT 1 FROM account AS maker
                        WHERE maker.id = application.created_by AND maker.status = 'active')))",
                administrators = holds(Roles::of(&[model::Role::TenantAdmin])),
            )
        }
        let except = |user: Option<UserId>| user.map_or_else(String::new, |user| user.to_string());
        match self {
            Self::Holders(tenant, roles, but) => (
                format!("account.tenant_id = $3 AND ({})", holds(roles)),
                [tenant.to_string(), except(but)],
            ),
            Self::HoldersAnywhere(roles, but) => {
                (format!("$3 = '' AND ({})", holds(roles)), [String::new(), except(but)])
            }
            Self::Person(user) | Self::Invited(user) => {
                ("account.id = $3".to_owned(), [user.to_string(), String::new()])
            }
            Self::Owners(application) => {
                (owners("application.id = $3"), [application.to_string(), String::new()])
            }
            Self::Subscribers(version) => {
                let subscribed = "application.id IN (
                    SELECT subscription.application_id FROM subscription
                    WHERE subscription.version_id = $3
                      AND subscription.status IN ('pending', 'active', 'suspended'))";
                (owners(subscribed), [version.to_string(), String::new()])
            }
        }
    }
}

/// Whether an account has one of these roles, whose names are words of our own.
fn holds(roles: Roles) -> String {
    let tests: Vec<_> =
        roles.iter().map(|role| format!("' ' || account.roles || ' ' LIKE '% {role} %'")).collect();
    if tests.is_empty() { "1 = 0".to_owned() } else { tests.join(" OR ") }
}

/// Adds a notice to a person's inbox, and forgets the oldest ones where there are too many.
pub async fn insert(
    tx: &mut Tx,
    notice: &Notice,
    letter: Option<LetterId>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO notice (id, user_id, news, at, read_at, letter_id) VALUES ($1, $2, $3, $4, $5, $6)";
    const BOUND: &str = "
        DELETE FROM notice WHERE user_id = $1 AND id <= (
            SELECT id FROM notice WHERE user_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
    tx.statement("notice::insert", SQL)
        .bind_text(notice.id)
        .bind_text(notice.user)
        .bind(to_json("notice::insert", &notice.news)?)
        .bind(notice.at.as_microsecond())
        .bind(notice.read_at.map(Timestamp::as_microsecond))
        .bind_text_opt(letter)
        .execute()
        .await?;
    tx.statement("notice::insert", BOUND)
        .bind_text(notice.user)
        .bind(MAX_PER_PERSON)
        .execute()
        .await?;
    Ok(())
}

/// Lists a person's notices, newest first, older than `before`.
pub async fn list(
    tx: &mut Tx,
    user: UserId,
    before: Option<NoticeId>,
    is_unread: bool,
    limit: i64,
) -> Result<Vec<Notice>, StoreError> {
    const SQL: &str = "
        SELECT * FROM notice
        WHERE user_id = $1 AND ($2 = '' OR id < $2) AND ($3 = 0 OR read_at IS NULL)
        ORDER BY id DESC LIMIT $4";
    let rows = tx
        .statement("notice::list", SQL)
        .bind_text(user)
        .bind(before.map_or_else(String::new, |id| id.to_string()))
        .bind(i64::from(is_unread))
        .bind(limit)
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// How many notices a person has not read yet.
pub async fn count_unread(tx: &mut Tx, user: UserId) -> Result<u64, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM notice WHERE user_id = $1 AND read_at IS NULL";
    let number = tx.statement("notice::count_unread", SQL).bind_text(user).number().await?;
    Ok(number.unsigned_abs())
}

/// Marks a notice of a person as read; false when there is none. One that was read before stays as it was.
pub async fn mark_read(
    tx: &mut Tx,
    user: UserId,
    id: NoticeId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    const SQL: &str =
        "UPDATE notice SET read_at = COALESCE(read_at, $1) WHERE id = $2 AND user_id = $3";
    let marked = tx
        .statement("notice::mark_read", SQL)
        .bind(now.as_microsecond())
        .bind_text(id)
        .bind_text(user)
        .execute()
        .await?;
    Ok(marked == 1)
}

/// Marks all notices of a person as read.
pub async fn mark_all_read(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<u64, StoreError> {
    const SQL: &str = "UPDATE notice SET read_at = $1 WHERE user_id = $2 AND read_at IS NULL";
    tx.statement("notice::mark_all_read", SQL)
        .bind(now.as_microsecond())
        .bind_text(user)
        .execute()
        .await
}

/// What a person wants to be sent, and its revision; none until the person has said so.
pub async fn find_settings(
    tx: &mut Tx,
    user: UserId,
) -> Result<Option<(NoticeSettings, i64)>, StoreError> {
    let row = tx
        .statement("notice::find_settings", "SELECT * FROM notice_settings WHERE user_id = $1")
        .bind_text(user)
        .optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("notice::find_settings", &row);
    Ok(Some((columns.json("content")?, columns.get("revision")?)))
}

/// Writes what a person wants to be sent over the revision before it; revision 1 adds it.
pub async fn put_settings(
    tx: &mut Tx,
    user: UserId,
    settings: &NoticeSettings,
    revision: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO notice_settings (user_id, content, updated_at, revision) VALUES ($1, $2, $3, $4)
        ON CONFLICT (user_id) DO UPDATE
        SET content = excluded.content, updated_at = excluded.updated_at, revision = excluded.revision
        WHERE notice_settings.revision = excluded.revision - 1";
    tx.statement("notice::put_settings", SQL)
        .bind_text(user)
        .bind(to_json("notice::put_settings", settings)?)
        .bind(now.as_microsecond())
        .bind(revision)
        .execute_current()
        .await
}

/// Notes that the failing of an API is spoken of, unless that was done since `since`; says whether it is to be.
pub async fn raise_alarm(
    tx: &mut Tx,
    api: model::ApiId,
    now: Timestamp,
    since: Timestamp,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO alarm (api_id, at) VALUES ($1, $2)
        ON CONFLICT (api_id) DO UPDATE SET at = excluded.at WHERE alarm.at <= $3";
    let raised = tx
        .statement("notice::raise_alarm", SQL)
        .bind_text(api)
        .bind(now.as_microsecond())
        .bind(since.as_microsecond())
        .execute()
        .await?;
    Ok(raised == 1)
}

/// Forgets notices from before a time.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    tx.statement("notice::prune", "DELETE FROM notice WHERE at < $1")
        .bind(before.as_microsecond())
        .execute()
        .await?;
    Ok(())
}

pub(crate) fn read(row: &AnyRow) -> Result<Notice, StoreError> {
    let columns = Columns::of("notice::read", row);
    Ok(Notice {
        id: columns.parsed("id")?,
        user: columns.parsed("user_id")?,
        news: columns.json::<News>("news")?,
        at: columns.time("at")?,
        read_at: columns.time_opt("read_at")?,
    })
}
