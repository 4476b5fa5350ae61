//! Notices: telling people of what concerns them.
//!
//! What happens is written down as an event in the transaction in which it happens. `follow` turns events into notices,
//! each exactly once, `watch` makes events of what comes with time alone, and `post` hands out the letters in which
//! notices are sent. Here is what people do with their own notices.

mod follow;
mod post;
mod watch;

use authz::{Action, Principal};
use model::{Notice, NoticeId, NoticeSettings, UserId};
use serde_json::json;

use crate::{Begun, Kind, Market, MarketError, Request, viewer};

pub use post::{LetterOutcome, OneTimeInvitation, Outgoing, Queue};

/// A part of one's inbox.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Notices, newest first.
    pub notices: Vec<Notice>,
    /// How many in the whole inbox were not read yet.
    pub unread: u64,
}

impl Market {
    /// Lists the caller's notices that are older than `before`, newest first.
    pub async fn list_notices(
        &self,
        request: &Request,
        before: Option<NoticeId>,
        is_unread: bool,
        limit: u32,
    ) -> Result<Inbox, MarketError> {
        let user = self.require_person(request, Action::ListNotices).await?;
        let limit = i64::from(limit.clamp(1, store::Page::LIMIT_MAX));
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let notices = store::notice::list(&mut tx, user, before, is_unread, limit).await?;
        let unread = store::notice::count_unread(&mut tx, user).await?;
        Ok(Inbox { notices, unread })
    }

    /// Marks one of the caller's notices as read.
    pub async fn mark_notice_read(
        &self,
        request: &Request,
        id: NoticeId,
    ) -> Result<(), MarketError> {
        let user = self.require_person(request, Action::MarkNoticeRead).await?;
        let mut change = match self.begin(request, Action::MarkNoticeRead).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        if !store::notice::mark_read(change.tx(), user, id, self.clock.now()).await? {
            return Err(MarketError::NotFound(Kind::Notice));
        }
        change.finish(()).await
    }

    /// Marks all of the caller's notices as read.
    pub async fn mark_all_notices_read(&self, request: &Request) -> Result<(), MarketError> {
        let user = self.require_person(request, Action::MarkAllNoticesRead).await?;
        let mut change = match self.begin(request, Action::MarkAllNoticesRead).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        store::notice::mark_all_read(change.tx(), user, self.clock.now()).await?;
        change.finish(()).await
    }

    /// What the caller wants to be sent, and its revision; 0 until it is first written.
    pub async fn read_notice_settings(
        &self,
        request: &Request,
    ) -> Result<(NoticeSettings, i64), MarketError> {
        let user = self.require_person(request, Action::ReadNoticeSettings).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::notice::find_settings(&mut tx, user).await?.unwrap_or_default())
    }

    /// Replaces what the caller wants to be sent.
    pub async fn replace_notice_settings(
        &self,
        request: &Request,
        settings: NoticeSettings,
    ) -> Result<(NoticeSettings, i64), MarketError> {
        let user = self.require_person(request, Action::ReplaceNoticeSettings).await?;
        let mut change = match self.begin(request, Action::ReplaceNoticeSettings).await? {
            Begun::Fresh(change) => change,
            Begun::Done(stored) => return Ok(stored),
        };
        let (before, revision) =
            store::notice::find_settings(change.tx(), user).await?.unwrap_or_default();
        request.check_revision(revision)?;
        let (next, now) = (revision + 1, self.clock.now());
        store::notice::put_settings(change.tx(), user, &settings, next, now).await?;
        let details = json!({ "before": before, "after": settings });
        change.audit(request.caller.tenant, user, details).await?;
        change.finish((settings, next)).await
    }

    /// Whether people are written to at all.
    pub const fn sends_mail(&self) -> bool {
        self.settings.mail.is_some()
    }

    /// The person who asks. A program has no inbox, and none of its maker's business.
    async fn require_person(
        &self,
        request: &Request,
        action: Action,
    ) -> Result<UserId, MarketError> {
        self.require(request, action).await?;
        match request.caller.principal {
            Principal::User(user) => Ok(user),
            Principal::Application(..) => Err(authz::Forbidden(action).into()),
        }
    }
}
