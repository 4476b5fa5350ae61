//! Signing in and out, and accepting an invitation.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, Request, State},
    response::{Html, IntoResponse, Response},
};
use http::{StatusCode, header};
use market::{MarketError, SignInStep, SignedIn, Violation};
use serde::Deserialize;

use crate::{
    failure::{Answer, Failure, redirect, sentence},
    form::{Form, LARGEST_OF_STRANGERS},
    frame::Flash,
    serve::{Portal, RequestId, append, cookie},
    visit::{FLASH, SESSION, Submission, address},
};

/// The cookie between a right password and the code, and how long a browser keeps it, in seconds.
const PENDING: &str = "caduceus-pending";
const PENDING_SECONDS: i64 = 300;
/// How long a browser keeps the cookie, in seconds: as long as the session may last.
const COOKIE_SECONDS: i64 = 12 * 3_600;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'page> {
    style: &'page str,
    icon: &'page str,
    installation: String,
    support: Option<String>,
    next: &'page str,
    email: &'page str,
    problem: Option<String>,
    /// A form whose session had ended, to be sent after signing in.
    kept: String,
}

#[derive(Template)]
#[template(path = "sign_in_code.html")]
struct Code<'page> {
    style: &'page str,
    icon: &'page str,
    next: &'page str,
    problem: Option<String>,
    kept: &'page str,
}

#[derive(Template)]
#[template(path = "resume.html")]
struct Resume<'page> {
    style: &'page str,
    icon: &'page str,
    to: &'page str,
    csrf: String,
    fields: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "invitation.html")]
struct Invitation<'page> {
    style: &'page str,
    icon: &'page str,
    token: &'page str,
    problem: Option<String>,
}

/// Where to go afterwards.
#[derive(Deserialize)]
pub(crate) struct Destination {
    #[serde(default)]
    next: String,
}

/// The form.
pub(crate) async fn show(
    State(portal): State<Arc<Portal>>,
    Query(to): Query<Destination>,
) -> Answer {
    if !portal.market.is_set_up().await? {
        return Ok(redirect("/set-up"));
    }
    form(&portal, StatusCode::OK, &to.next, "", None, String::new()).await
}

async fn form(
    portal: &Portal,
    status: StatusCode,
    next: &str,
    email: &str,
    problem: Option<String>,
    kept: String,
) -> Answer {
    let settings = portal.market.installation().await?;
    let page = SignIn {
        style: &portal.assets.style.path,
        icon: &portal.assets.icon.path,
        installation: settings.name.to_string(),
        support: settings.support_email.map(|email| email.to_string()),
        next: local(next),
        email,
        problem,
        kept,
    };
    Ok((status, Html(page.render()?)).into_response())
}

/// The form again for somebody whose session had ended; what they had typed is kept in it.
pub(crate) fn again(portal: &Portal, next: &str, kept: &[(String, String)]) -> Response {
    let page = SignIn {
        style: &portal.assets.style.path,
        icon: &portal.assets.icon.path,
        installation: String::new(),
        support: None,
        next: local(next),
        email: "",
        problem: Some("Your session has ended. Sign in again: what you typed is kept.".to_owned()),
        kept: Form::encoded(kept),
    };
    match page.render() {
        Ok(page) => (StatusCode::UNAUTHORIZED, Html(page)).into_response(),
        Err(error) => Failure::from(error).into_response(),
    }
}

/// Checks e-mail address and password.
pub(crate) async fn submit(State(portal): State<Arc<Portal>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let (address, id) = (address(&parts), parts.extensions.get::<RequestId>().cloned());
    let request_id = id.map_or_else(String::new, |id| id.0);
    let sent = Form::read(Request::from_parts(parts, body), LARGEST_OF_STRANGERS).await?;
    let (email, next, kept) = (sent.text("email"), sent.text("next"), sent.raw("kept"));
    let signed_in = portal.market.sign_in(email, sent.raw("password"), &address, &request_id).await;
    let (status, problem) = match signed_in {
        Ok(SignInStep::Done(signed_in)) => return enter(&portal, &signed_in, next, kept),
        Ok(SignInStep::NeedsCode(pending)) => {
            let mut response = code_form(&portal, StatusCode::OK, next, kept, None)?;
            let line = portal.cookie(PENDING, &pending, PENDING_SECONDS);
            append(response.headers_mut(), header::SET_COOKIE, &line);
            return Ok(response);
        }
        Err(MarketError::Unauthenticated) => (
            StatusCode::UNAUTHORIZED,
            "E-mail address or password is wrong, or the account is not active.".to_owned(),
        ),
        Err(MarketError::TooManyAttempts(wait)) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("Too many attempts. Try again in {} seconds.", wait.as_secs().max(1)),
        ),
        Err(other) => return Err(other.into()),
    };
    form(&portal, status, next, email, Some(problem), kept.to_owned()).await
}

/// Checks the code of somebody whose password was right.
pub(crate) async fn submit_code(State(portal): State<Arc<Portal>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let (address, id) = (address(&parts), parts.extensions.get::<RequestId>().cloned());
    let request_id = id.map_or_else(String::new, |id| id.0);
    let sent = Form::read(Request::from_parts(parts.clone(), body), LARGEST_OF_STRANGERS).await?;
    let (next, kept) = (sent.text("next"), sent.raw("kept"));
    let pending = cookie(&parts.headers, PENDING).unwrap_or_default();
    let market = &portal.market;
    match market.finish_sign_in(pending, sent.text("code"), &address, &request_id).await {
        Ok(signed_in) => {
            let mut response = enter(&portal, &signed_in, next, kept)?;
            append(response.headers_mut(), header::SET_COOKIE, &portal.cookie(PENDING, "", 0));
            Ok(response)
        }
        Err(MarketError::Unauthenticated) => {
            let problem = "The code is wrong, was used before, or came too late.".to_owned();
            code_form(&portal, StatusCode::UNAUTHORIZED, next, kept, Some(problem))
        }
        Err(MarketError::TooManyAttempts(wait)) => {
            let problem =
                format!("Too many attempts. Try again in {} seconds.", wait.as_secs().max(1));
            code_form(&portal, StatusCode::TOO_MANY_REQUESTS, next, kept, Some(problem))
        }
        Err(other) => Err(other.into()),
    }
}

fn code_form(
    portal: &Portal,
    status: StatusCode,
    next: &str,
    kept: &str,
    problem: Option<String>,
) -> Answer {
    let page = Code {
        style: &portal.assets.style.path,
        icon: &portal.assets.icon.path,
        next: local(next),
        problem,
        kept,
    };
    Ok((status, Html(page.render()?)).into_response())
}

/// To where somebody who has just signed in wanted to go.
fn enter(portal: &Portal, signed_in: &SignedIn, next: &str, kept: &str) -> Answer {
    let mut response = if kept.is_empty() {
        redirect(local(next))
    } else {
        resume(portal, &signed_in.cookie, local(next), kept)?
    };
    let line = portal.cookie(SESSION, &signed_in.cookie, COOKIE_SECONDS);
    append(response.headers_mut(), header::SET_COOKIE, &line);
    Ok(response)
}

/// A form from before the session had ended, ready to be sent with the new one.
fn resume(portal: &Portal, cookie: &str, to: &str, kept: &str) -> Answer {
    let page = Resume {
        style: &portal.assets.style.path,
        icon: &portal.assets.icon.path,
        to,
        csrf: crate::visit::csrf(cookie),
        fields: Form::parse(kept).kept(),
    };
    Ok(Html(page.render()?).into_response())
}

/// Ends the session.
pub(crate) async fn leave(submission: Submission) -> Answer {
    let visit = &submission.visit;
    match visit.market().end_session(&visit.request, visit.request.caller.session).await {
        Ok(()) | Err(MarketError::NotFound(_)) => {}
        Err(other) => return Err(other.into()),
    }
    let mut response = visit.done(Flash::SignedOut, "/sign-in");
    append(response.headers_mut(), header::SET_COOKIE, &visit.portal.cookie(SESSION, "", 0));
    append(response.headers_mut(), header::SET_COOKIE, &visit.portal.cookie(FLASH, "", 0));
    Ok(response)
}

/// The form for whoever was invited. The token is typed in, so that it is in no address.
pub(crate) async fn show_invitation(State(portal): State<Arc<Portal>>) -> Answer {
    invitation(&portal, StatusCode::OK, "", None)
}

fn invitation(portal: &Portal, status: StatusCode, token: &str, problem: Option<String>) -> Answer {
    let page = Invitation {
        style: &portal.assets.style.path,
        icon: &portal.assets.icon.path,
        token,
        problem,
    };
    Ok((status, Html(page.render()?)).into_response())
}

/// Sets the password of whoever was invited.
pub(crate) async fn accept_invitation(
    State(portal): State<Arc<Portal>>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let (address, id) = (address(&parts), parts.extensions.get::<RequestId>().cloned());
    let request_id = id.map_or_else(String::new, |id| id.0);
    let sent = Form::read(Request::from_parts(parts, body), LARGEST_OF_STRANGERS).await?;
    let (token, password) = (sent.text("token"), sent.raw("password"));
    if password != sent.raw("password-again") {
        let problem = "The two passwords are not the same.".to_owned();
        return invitation(&portal, StatusCode::UNPROCESSABLE_ENTITY, token, Some(problem));
    }
    let problem =
        match portal.market.accept_invitation(token, password, &address, &request_id).await {
            Ok(_user) => return Ok(redirect("/sign-in")),
            Err(MarketError::Unauthenticated) => {
                "The invitation is not known, was used already or has expired. Ask for a new one."
                    .to_owned()
            }
            Err(MarketError::Invalid(violations)) => told(&violations),
            Err(other) => return Err(other.into()),
        };
    invitation(&portal, StatusCode::UNPROCESSABLE_ENTITY, token, Some(problem))
}

/// What is wrong, as sentences.
pub(crate) fn told(violations: &[Violation]) -> String {
    let sentences: Vec<_> = violations
        .iter()
        .map(|violation| sentence(&format!("{} {}", words(&violation.field), violation.message)))
        .collect();
    sentences.join(" ")
}

/// The name of a field in words: `newPassword` is "new password".
fn words(field: &str) -> String {
    let mut text = String::new();
    for letter in field.chars() {
        if letter.is_ascii_uppercase() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// A place of ours; anything else leads home.
fn local(next: &str) -> &str {
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(['\\', '\r', '\n'])
        && !next.starts_with("/sign-");
    if is_local { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_away_after_signing_in() {
        for elsewhere in
            ["https://evil.example", "//evil.example", "/\\evil.example", "", "x", "/sign-out"]
        {
            assert_eq!(local(elsewhere), "/", "{elsewhere}");
        }
        assert_eq!(local("/apis/x?y=1"), "/apis/x?y=1");
    }
}
