//! What I was told, and what I want to be sent of it.

use askama::Template;
use axum::extract::{Path, Query};
use model::{Mailing, NoticeKind, NoticeSettings};
use serde::Deserialize;

use super::{id, page};
use crate::{
    failure::Answer,
    format::Moment,
    frame::{Flash, Frame, Section},
    visit::{Submission, Visit},
};

const IN_A_PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "inbox.html")]
struct Inbox {
    frame: Frame,
    notices: Vec<Line>,
    unread: u64,
    older: Option<String>,
    kinds: Vec<Kind>,
    revision: i64,
    sends_mail: bool,
}

struct Line {
    id: String,
    text: String,
    place: String,
    at: Moment,
    is_unread: bool,
}

/// A kind of notice, and when it is sent.
struct Kind {
    id: &'static str,
    words: &'static str,
    mailing: &'static str,
}

/// What the address says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Shown {
    before: String,
}

const fn mailing_id(mailing: Mailing) -> &'static str {
    match mailing {
        Mailing::Immediately => "immediately",
        Mailing::Daily => "daily",
        Mailing::Off => "off",
    }
}

/// Kinds that somebody who has an account may be sent.
fn kinds() -> impl Iterator<Item = NoticeKind> {
    NoticeKind::ALL.into_iter().filter(|kind| *kind != NoticeKind::Invitation)
}

pub(crate) async fn show(visit: Visit, Query(shown): Query<Shown>) -> Answer {
    let market = visit.market();
    let before = shown.before.parse().ok();
    let inbox = market.list_notices(&visit.request, before, false, IN_A_PAGE).await?;
    let (settings, revision) = market.read_notice_settings(&visit.request).await?;
    let frame = visit.frame(Section::Inbox, "Inbox").await?;
    let last = inbox.notices.last().map(|last| last.id);
    let is_full = inbox.notices.len() >= IN_A_PAGE as usize;
    page(&Inbox {
        notices: inbox
            .notices
            .iter()
            .map(|notice| Line {
                id: notice.id.to_string(),
                text: notice.news.text(),
                place: notice.news.place(),
                at: visit.moment(notice.at),
                is_unread: notice.read_at.is_none(),
            })
            .collect(),
        unread: inbox.unread,
        older: last.filter(|_| is_full).map(|last| format!("/inbox?before={last}")),
        kinds: kinds()
            .map(|kind| Kind {
                id: kind.as_str(),
                words: kind.subject(),
                mailing: mailing_id(settings.mailing(kind)),
            })
            .collect(),
        sends_mail: market.sends_mail(),
        revision,
        frame,
    })
}

/// Opens what a notice is about, and marks it as read.
pub(crate) async fn open(Path(notice): Path<String>, submission: Submission) -> Answer {
    let visit = &submission.visit;
    visit.market().mark_notice_read(&visit.request, id(&notice)?).await?;
    let place = submission.form.text("place");
    let place = if place.starts_with('/') && !place.starts_with("//") { place } else { "/inbox" };
    Ok(crate::failure::redirect(place))
}

pub(crate) async fn read_all(submission: Submission) -> Answer {
    let visit = &submission.visit;
    visit.market().mark_all_notices_read(&visit.request).await?;
    Ok(visit.done(Flash::Saved, "/inbox"))
}

pub(crate) async fn change_settings(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let settings: NoticeSettings = kinds()
        .map(|kind| {
            let mailing = match form.text(kind.as_str()) {
                "off" => Mailing::Off,
                "daily" => Mailing::Daily,
                _ => Mailing::Immediately,
            };
            (kind, mailing)
        })
        .collect();
    visit.market().replace_notice_settings(&visit.request, settings).await?;
    Ok(visit.done(Flash::Saved, "/inbox"))
}
