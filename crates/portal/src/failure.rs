//! What went wrong, as a page: what happened, whether anything was lost, and what to do.

use std::sync::Arc;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use market::MarketError;

use crate::assets::Assets;

/// Why there is no page.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// An operation was refused or failed.
    Market(Arc<MarketError>),
    /// Nothing is at this address.
    NotFound,
    /// The form did not come from a page of ours.
    Foreign,
    /// The form cannot be read.
    Unreadable,
    /// Nobody is signed in, or not any more: sign in and come back here.
    SignIn { next: String },
    /// A page could not be made.
    Template,
}

impl From<MarketError> for Failure {
    fn from(error: MarketError) -> Self {
        Self::Market(Arc::new(error))
    }
}

impl From<askama::Error> for Failure {
    fn from(error: askama::Error) -> Self {
        tracing::error!(error = %error, "a page could not be made");
        Self::Template
    }
}

/// What a handler gives.
pub(crate) type Answer = Result<Response, Failure>;

impl IntoResponse for Failure {
    /// Without a body: the page is made where the request is known.
    fn into_response(self) -> Response {
        let mut response = ().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Page<'page> {
    style: &'page str,
    icon: &'page str,
    title: &'static str,
    what: String,
    then: &'static str,
    request_id: &'page str,
}

impl Failure {
    pub(crate) fn page(&self, assets: &Assets, request_id: &str) -> Response {
        if let Self::SignIn { next } = self {
            return redirect(&format!("/sign-in?next={}", crate::format::query(next)));
        }
        let (status, title, what, then) = self.words(request_id);
        let page = Page {
            style: &assets.style.path,
            icon: &assets.icon.path,
            title,
            what,
            then,
            request_id,
        };
        match page.render() {
            Ok(page) => (status, Html(page)).into_response(),
            Err(error) => {
                tracing::error!(error = %error, "a page could not be made");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn words(&self, request_id: &str) -> (StatusCode, &'static str, String, &'static str) {
        const BACK: &str =
            "Go back and try again. If you were filling in a form, what you typed is still there.";
        match self {
            Self::NotFound => not_found(),
            Self::Foreign => (
                StatusCode::FORBIDDEN,
                "This form did not come from here",
                "For your protection, forms are only taken from pages of this site. Nothing was changed.".to_owned(),
                "Open the page again and fill in the form there.",
            ),
            Self::Unreadable => (
                StatusCode::BAD_REQUEST,
                "The form could not be read",
                "It is incomplete or too large. Nothing was changed.".to_owned(),
                BACK,
            ),
            Self::SignIn { .. } | Self::Template => internal(),
            Self::Market(error) => match error.as_ref() {
                MarketError::NotFound(_) => not_found(),
                MarketError::Forbidden(_) => (
                    StatusCode::FORBIDDEN,
                    "You may not do this",
                    "Your role does not allow it. Nothing was changed, and the attempt is in the audit trail.".to_owned(),
                    "Ask an administrator of your organisation for the role that you need.",
                ),
                MarketError::Stale => (
                    StatusCode::PRECONDITION_FAILED,
                    "Somebody else has changed this",
                    "It was changed after you opened it. Your change was not made, so that theirs is not lost.".to_owned(),
                    "Go back, reload the page to see their change, and then make yours again if it is still wanted.",
                ),
                MarketError::TooManyAttempts(wait) => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "Too many attempts",
                    format!("Wait {} seconds before the next one.", wait.as_secs().max(1)),
                    BACK,
                ),
                MarketError::Store(error) => {
                    tracing::error!(error = %error, request.id = request_id, "a page could not be made");
                    (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "The database does not answer",
                        "Calls through the gateway go on meanwhile. Nothing was changed.".to_owned(),
                        "Try again in a minute.",
                    )
                }
                MarketError::Internal(what, _) => {
                    tracing::error!(error = %what, request.id = request_id, "a page could not be made");
                    internal()
                }
                other => (StatusCode::CONFLICT, "This cannot be done", sentence(&other.to_string()), BACK),
            },
        }
    }
}

fn not_found() -> (StatusCode, &'static str, String, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "There is nothing here",
        "It does not exist, or you may not see it.".to_owned(),
        "Look for it in the catalogue, or ask whoever gave you the address.",
    )
}

fn internal() -> (StatusCode, &'static str, String, &'static str) {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something went wrong on our side",
        "The error is in the log. If you were saving something, look whether it is there before you do it again.".to_owned(),
        "Tell whoever runs this installation the request below.",
    )
}

/// A message as a sentence: with a capital letter and a full stop.
pub(crate) fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>());
    let end = if message.ends_with('.') { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), letters.as_str())
}

/// Sends the browser to another page of ours, with GET.
pub(crate) fn redirect(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}
