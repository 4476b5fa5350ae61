//! One's own notices, and what one wants to be sent of them.

use authz::Action;
use jiff::Timestamp;
use market::Kind;
use model::{Mailing, Notice, NoticeId, NoticeKind, NoticeSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::{self, Call},
    endpoint::{Endpoint, get, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/me/notices", Action::ListNotices, "Read one's own notices, newest first")
            .query::<NoticeQuery>()
            .answers::<InboxView>()
            .run(list),
        post(
            "/me/notices/{id}/read",
            Action::MarkNoticeRead,
            "Mark one of one's own notices as read",
        )
        .run(mark_read),
        post(
            "/me/notices/read-all",
            Action::MarkAllNoticesRead,
            "Mark all of one's own notices as read",
        )
        .run(mark_all_read),
        get("/me/notice-settings", Action::ReadNoticeSettings, "Read what one is sent by e-mail")
            .answers::<NoticeSettingsView>()
            .run(read_settings),
        put(
            "/me/notice-settings",
            Action::ReplaceNoticeSettings,
            "Decide what one is sent by e-mail; kinds that are not named are sent at once",
        )
        .answers::<NoticeSettingsView>()
        .body(replace_settings),
    ]
}

/// Which notices.
#[derive(Deserialize, JsonSchema)]
struct NoticeQuery {
    /// Only those that were not read yet.
    unread: Option<bool>,
    /// `nextCursor` of the page before.
    cursor: Option<NoticeId>,
    /// 1 to 200; 50 when absent.
    limit: Option<u32>,
}

/// A part of one's inbox.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InboxView {
    items: Vec<NoticeView>,
    /// Absent on the last page.
    next_cursor: Option<NoticeId>,
    /// How many in the whole inbox were not read yet.
    unread_count: u64,
}

/// A notice.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NoticeView {
    id: NoticeId,
    kind: NoticeKind,
    /// What has happened, in one or two sentences.
    text: String,
    /// The place in the portal where one can act.
    place: String,
    at: Timestamp,
    read_at: Option<Timestamp>,
}

impl From<Notice> for NoticeView {
    fn from(notice: Notice) -> Self {
        let Notice { id, user: _, news, at, read_at } = notice;
        Self { id, kind: news.kind(), text: news.text(), place: news.place(), at, read_at }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: NoticeQuery = call.query()?;
    let (_, limit, _) = call::page(None, Some(query.limit.unwrap_or(50)))?;
    let is_unread = query.unread.unwrap_or(false);
    let inbox = call.market.list_notices(call.request(), query.cursor, is_unread, limit).await?;
    let is_full = inbox.notices.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = inbox.notices.last().map(|notice| notice.id).filter(|_| is_full);
    let items = inbox.notices.into_iter().map(NoticeView::from).collect();
    Ok(Reply::ok(&InboxView { items, next_cursor, unread_count: inbox.unread }))
}

async fn mark_read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Notice)?;
    call.market.mark_notice_read(call.request(), id).await?;
    Ok(Reply::no_content())
}

async fn mark_all_read(call: Call) -> Result<Reply, Problem> {
    call.market.mark_all_notices_read(call.request()).await?;
    Ok(Reply::no_content())
}

/// What one wants to be sent, by kind.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Mailings {
    access_requested: Mailing,
    access_decided: Mailing,
    version_submitted: Mailing,
    version_decided: Mailing,
    key_expiring: Mailing,
    version_deprecated: Mailing,
    version_retired: Mailing,
    error_spike: Mailing,
    account_locked: Mailing,
}

/// What one wants to be sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoticeSettingsBody {
    mailings: Mailings,
}

/// What one is sent.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NoticeSettingsView {
    mailings: Mailings,
    /// Whether this installation sends e-mail at all.
    sends_mail: bool,
}

impl From<Mailings> for NoticeSettings {
    fn from(mailings: Mailings) -> Self {
        let Mailings {
            access_requested,
            access_decided,
            version_submitted,
            version_decided,
            key_expiring,
            version_deprecated,
            version_retired,
            error_spike,
            account_locked,
        } = mailings;
        [
            (NoticeKind::AccessRequested, access_requested),
            (NoticeKind::AccessDecided, access_decided),
            (NoticeKind::VersionSubmitted, version_submitted),
            (NoticeKind::VersionDecided, version_decided),
            (NoticeKind::KeyExpiring, key_expiring),
            (NoticeKind::VersionDeprecated, version_deprecated),
            (NoticeKind::VersionRetired, version_retired),
            (NoticeKind::ErrorSpike, error_spike),
            (NoticeKind::AccountLocked, account_locked),
        ]
        .into_iter()
        .collect()
    }
}

impl From<NoticeSettings> for Mailings {
    fn from(settings: NoticeSettings) -> Self {
        Self {
            access_requested: settings.mailing(NoticeKind::AccessRequested),
            access_decided: settings.mailing(NoticeKind::AccessDecided),
            version_submitted: settings.mailing(NoticeKind::VersionSubmitted),
            version_decided: settings.mailing(NoticeKind::VersionDecided),
            key_expiring: settings.mailing(NoticeKind::KeyExpiring),
            version_deprecated: settings.mailing(NoticeKind::VersionDeprecated),
            version_retired: settings.mailing(NoticeKind::VersionRetired),
            error_spike: settings.mailing(NoticeKind::ErrorSpike),
            account_locked: settings.mailing(NoticeKind::AccountLocked),
        }
    }
}

async fn read_settings(call: Call) -> Result<Reply, Problem> {
    let stored = call.market.read_notice_settings(call.request()).await?;
    Ok(shown(&call, stored))
}

async fn replace_settings(call: Call, body: NoticeSettingsBody) -> Result<Reply, Problem> {
    let settings = body.mailings.into();
    let stored = call.market.replace_notice_settings(call.request(), settings).await?;
    Ok(shown(&call, stored))
}

fn shown(call: &Call, (settings, revision): (NoticeSettings, i64)) -> Reply {
    let (mailings, sends_mail) = (settings.into(), call.market.sends_mail());
    Reply::ok(&NoticeSettingsView { mailings, sends_mail }).revision(revision)
}
