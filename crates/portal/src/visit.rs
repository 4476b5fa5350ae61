//! Who asks for a page, and with which form.

use std::{ops::Deref, sync::Arc};

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderName, header, request::Parts};
use jiff::Timestamp;
use market::{Idempotency, Market, MarketError, Presence};

use crate::{
    failure::{Failure, redirect},
    form::{Form, LARGEST, LARGEST_OF_STRANGERS},
    format::Moment,
    frame::{Flash, Frame, Section},
    pages::sign_in,
    serve::{Address, Portal, RequestId, append, cookie},
};

/// The cookies: of the session, and of what has just been done.
pub(crate) const SESSION: &str = "caduceus";
pub(crate) const FLASH: &str = "caduceus-flash";

/// What an open page sends when it brings itself up to date.
const OPEN_PAGE: HeaderName = HeaderName::from_static("caduceus-open-page");

/// A request by somebody who is signed in.
pub(crate) struct Visit {
    pub(crate) portal: Arc<Portal>,
    /// Who asks, for operations.
    pub(crate) request: market::Request,
    /// What proves that a form came from a page of this session.
    pub(crate) csrf: String,
    pub(crate) flash: Option<Flash>,
}

/// A form that somebody who is signed in has sent.
pub(crate) struct Submission {
    pub(crate) visit: Visit,
    pub(crate) form: Form,
}

impl Visit {
    pub(crate) fn market(&self) -> &Market {
        &self.portal.market
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.portal.clock.now()
    }

    pub(crate) fn moment(&self, at: Timestamp) -> Moment {
        Moment::new(at, self.now())
    }

    /// Whether a role of the caller allows it; the operation asks again.
    pub(crate) fn may(&self, action: authz::Action) -> bool {
        self.request.caller.require(action).is_ok()
    }

    /// What surrounds a page.
    pub(crate) async fn frame(
        &self,
        section: Section,
        title: impl Into<String>,
    ) -> Result<Frame, Failure> {
        Frame::load(self, section, title.into()).await
    }

    /// To another page, which says what has been done.
    pub(crate) fn done(&self, flash: Flash, to: &str) -> Response {
        let mut response = redirect(to);
        let line = self.portal.cookie(FLASH, flash.code(), 60);
        append(response.headers_mut(), header::SET_COOKIE, &line);
        response
    }

    fn open(portal: Arc<Portal>, parts: &Parts, caller: authz::Caller, cookie_text: &str) -> Self {
        let RequestId(id) = parts.extensions.get().cloned().unwrap_or(RequestId(String::new()));
        Self {
            portal,
            request: market::Request::plain(caller, id),
            csrf: csrf(cookie_text),
            flash: cookie(&parts.headers, FLASH).and_then(Flash::parse),
        }
    }
}

/// What proves that a form came from a page of the session with this cookie.
pub(crate) fn csrf(cookie: &str) -> String {
    market::sha256_hex(&[b"form of a session", cookie.as_bytes()])
}

/// The address that the client has, for limiting failures.
pub(crate) fn address(parts: &Parts) -> String {
    parts.extensions.get::<Address>().map_or_else(String::new, |address| address.0.to_string())
}

fn place(parts: &Parts) -> String {
    parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned()
}

impl FromRequestParts<Arc<Portal>> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Failure> {
        let sign_in = || Failure::SignIn { next: place(parts) };
        let cookie = cookie(&parts.headers, SESSION).ok_or_else(sign_in)?;
        let presence = match parts.headers.contains_key(&OPEN_PAGE) {
            true => Presence::OpenPage,
            false => Presence::Person,
        };
        match portal.market.resume(cookie, presence).await {
            Ok(caller) => Ok(Self::open(Arc::clone(portal), parts, caller, cookie)),
            Err(MarketError::Unauthenticated) => Err(sign_in()),
            Err(error) => Err(error.into()),
        }
    }
}

impl FromRequest<Arc<Portal>> for Submission {
    type Rejection = Response;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, portal).await;
        let place = place(&parts);
        let largest = if visit.is_ok() { LARGEST } else { LARGEST_OF_STRANGERS };
        let form = Form::read(Request::from_parts(parts, body), largest).await;
        let form = form.map_err(IntoResponse::into_response)?;
        let mut visit = match visit {
            Ok(visit) => visit,
            // Nothing that was typed is lost.
            Err(Failure::SignIn { .. }) => {
                return Err(sign_in::again(portal, &place, &form.kept()));
            }
            Err(other) => return Err(other.into_response()),
        };
        if !is_same(form.raw("csrf"), &visit.csrf) {
            return Err(Failure::Foreign.into_response());
        }
        visit.request.expected_revision =
            form.filled("revision").and_then(|text| text.parse().ok());
        visit.request.idempotency = form.filled("once").filter(|key| key.len() <= 64).map(|key| {
            Idempotency { key: format!("portal {key}"), fingerprint: form.fingerprint(&place) }
        });
        Ok(Self { visit, form })
    }
}

impl Deref for Submission {
    type Target = Visit;

    fn deref(&self) -> &Visit {
        &self.visit
    }
}

/// Whether two texts are the same, in a time that says nothing of where they differ.
fn is_same(one: &str, other: &str) -> bool {
    let differences =
        one.bytes().zip(other.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}
