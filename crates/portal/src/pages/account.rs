//! One's own account: password, second factor and sessions.

use std::fmt;

use askama::Template;
use axum::{extract::Path, response::IntoResponse};
use http::{StatusCode, header};
use market::{MarketError, Page, SessionListing};

use super::{id, page, sign_in::told};
use crate::{
    failure::{Answer, Failure, sentence},
    format::Moment,
    frame::{Flash, Frame, Section},
    serve::append,
    visit::{Submission, Visit},
};

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    sessions: Vec<Line>,
    /// Since when a code is asked for; none when it is not.
    factor_since: Option<Moment>,
    recovery_codes_left: u64,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "second_factor.html")]
struct Begun {
    frame: Frame,
    secret: String,
    code: Option<QrCode>,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct RecoveryCodes {
    frame: Frame,
    codes: Vec<String>,
    is_new: bool,
}

/// A picture that authenticator apps read.
struct QrCode(qrcodegen::QrCode);

struct Line {
    id: String,
    began: Moment,
    ends: Moment,
    is_this: bool,
}

pub(crate) async fn show(visit: Visit) -> Answer {
    show_with(&visit, None).await
}

/// Everything that is stored of the visitor, as a file.
pub(crate) async fn personal_data(visit: Visit) -> Answer {
    let data = visit.market().read_own_data(&visit.request).await?;
    let text = serde_json::to_string_pretty(&data).map_err(|_unwritable| Failure::Unreadable)?;
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    append(headers, header::CONTENT_TYPE, "application/json");
    let name = "attachment; filename=\"personal-data.json\"";
    append(headers, header::CONTENT_DISPOSITION, name);
    Ok(response)
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
    let factor = visit.market().read_second_factor(&visit.request).await?;
    let mut response = page(&Account {
        sessions: sessions.collect(),
        factor_since: factor.since.map(|since| visit.moment(since)),
        recovery_codes_left: factor.recovery_codes_left,
        frame,
        problem,
    })?;
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

pub(crate) async fn begin_second_factor(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let password = form.raw("current-password");
    match visit.market().begin_second_factor(&visit.request, password).await {
        Ok(secret) => begun(visit, &secret.secret, &secret.uri, None).await,
        Err(error) => show_with(visit, Some(explained(error)?)).await,
    }
}

async fn begun(visit: &Visit, secret: &str, uri: &str, problem: Option<String>) -> Answer {
    let frame = visit.frame(Section::Account, "Second factor").await?;
    let code = Some(uri)
        .filter(|uri| !uri.is_empty())
        .and_then(|uri| qrcodegen::QrCode::encode_text(uri, qrcodegen::QrCodeEcc::Medium).ok());
    // In fours it is easier to type.
    let fours: Vec<String> =
        secret.chars().collect::<Vec<_>>().chunks(4).map(|four| four.iter().collect()).collect();
    let is_wrong = problem.is_some();
    let secret = fours.join(" ");
    let mut response = page(&Begun { frame, secret, code: code.map(QrCode), problem })?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

pub(crate) async fn confirm_second_factor(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    match visit.market().confirm_second_factor(&visit.request, form.text("code")).await {
        Ok(codes) => recovery_codes(visit, codes, true).await,
        // The secret was shown once: the app has it, and another code can be tried.
        Err(MarketError::Invalid(violations)) => {
            begun(visit, "", "", Some(told(&violations))).await
        }
        Err(error) => show_with(visit, Some(explained(error)?)).await,
    }
}

pub(crate) async fn renew_recovery_codes(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let password = form.raw("current-password");
    match visit.market().renew_recovery_codes(&visit.request, password).await {
        Ok(codes) => recovery_codes(visit, codes, false).await,
        Err(error) => show_with(visit, Some(explained(error)?)).await,
    }
}

async fn recovery_codes(visit: &Visit, codes: Vec<String>, is_new: bool) -> Answer {
    let frame = visit.frame(Section::Account, "Recovery codes").await?;
    page(&RecoveryCodes { frame, codes, is_new })
}

pub(crate) async fn remove_second_factor(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let password = form.raw("current-password");
    match visit.market().remove_second_factor(&visit.request, password).await {
        Ok(()) => Ok(visit.done(Flash::SecondFactorRemoved, "/account")),
        Err(error) => show_with(visit, Some(explained(error)?)).await,
    }
}

/// What is wrong with a form, for whoever filled it in; other failures are passed on.
fn explained(error: MarketError) -> Result<String, Failure> {
    match error {
        MarketError::Invalid(violations) => Ok(told(&violations)),
        MarketError::Conflict(conflict) => Ok(sentence(&conflict.to_string())),
        MarketError::TooManyAttempts(wait) => {
            Ok(format!("Too many attempts. Try again in {} seconds.", wait.as_secs().max(1)))
        }
        other => Err(other.into()),
    }
}

impl fmt::Display for QrCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BORDER: i32 = 4;
        let size = self.0.size() + 2 * BORDER;
        write!(
            out,
            "<svg class=\"qr\" viewBox=\"0 0 {size} {size}\" role=\"img\" \
             aria-label=\"QR code with the secret that is written below\"><path d=\""
        )?;
        let places = 0..self.0.size();
        for (x, y) in places.clone().flat_map(|y| places.clone().map(move |x| (x, y))) {
            if self.0.get_module(x, y) {
                write!(out, "M{},{}h1v1h-1z", x + BORDER, y + BORDER)?;
            }
        }
        out.write_str("\"/></svg>")
    }
}

impl askama::filters::HtmlSafe for QrCode {}
