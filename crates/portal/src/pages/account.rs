//! One's own account: password and sessions.

use askama::Template;
use axum::extract::Path;
use http::StatusCode;
use market::{MarketError, Page, SessionListing};

use super::{id, page, sign_in::told};
use crate::{
    failure::Answer,
    format::Moment,
    frame::{Flash, Frame, Section},
    visit::{Submission, Visit},
};

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    sessions: Vec<Line>,
    problem: Option<String>,
}

struct Line {
    id: String,
    began: Moment,
    ends: Moment,
    is_this: bool,
}

pub(crate) async fn show(visit: Visit) -> Answer {
    show_with(&visit, None).await
}

async fn show_with(visit: &Visit, problem: Option<String>) -> Answer {
    let frame = visit.frame(Section::Account, "My account").await?;
    let page_of = Page::numbered(1, 50);
    let found = visit.market().list_sessions(&visit.request, SessionListing::Own, page_of).await?;
    let sessions = found.items.iter().map(|session| Line {
        id: session.id.to_string(),
        began: visit.moment(session.created_at),
        ends: visit.moment(session.expires_at),
        is_this: session.id == visit.request.caller.session,
    });
    let is_wrong = problem.is_some();
    let mut response = page(&Account { sessions: sessions.collect(), frame, problem })?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

pub(crate) async fn change_password(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let new = form.raw("new-password");
    if new != form.raw("new-password-again") {
        return show_with(visit, Some("The two new passwords are not the same.".to_owned())).await;
    }
    match visit.market().change_password(&visit.request, form.raw("current-password"), new).await {
        Ok(()) => Ok(visit.done(Flash::PasswordChanged, "/account")),
        Err(MarketError::Invalid(violations)) => show_with(visit, Some(told(&violations))).await,
        Err(other) => Err(other.into()),
    }
}

pub(crate) async fn end_session(Path(session): Path<String>, submission: Submission) -> Answer {
    let visit = &submission.visit;
    visit.market().end_session(&visit.request, id(&session)?).await?;
    Ok(visit.done(Flash::SessionEnded, "/account"))
}
