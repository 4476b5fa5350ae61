//! From a request to a page: routing, what every answer carries, and pages for what went wrong.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use market::Market;
use model::Clock;

use crate::{assets::Assets, failure::Failure, pages, visit::FLASH};

/// What an installation decides about its portal.
#[derive(Debug, Clone)]
pub struct PortalSettings {
    /// Whether browsers reach it over TLS, so that cookies are kept to that.
    pub is_secure: bool,
}

/// The portal.
pub struct Portal {
    pub(crate) market: Arc<Market>,
    pub(crate) clock: Clock,
    pub(crate) settings: PortalSettings,
    pub(crate) assets: Assets,
    pub(crate) http: reqwest::Client,
}

/// Identifies a request in the audit trail and on pages that say what went wrong.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Who asks, as far as the network says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(pub(crate) IpAddr);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// No scripts, styles or frames but our own, and nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

impl Portal {
    /// The portal over a marketplace.
    pub fn new(market: Arc<Market>, clock: Clock, settings: PortalSettings) -> Arc<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client without special settings can be made");
        Arc::new(Self { market, clock, settings, assets: Assets::embedded(), http })
    }

    /// All pages.
    pub fn router(self: &Arc<Self>) -> Router {
        let portal = Arc::clone(self);
        let pages = pages::router().with_state(Arc::clone(self));
        Router::new().fallback(move |request: Request| {
            let (portal, pages) = (Arc::clone(&portal), pages.clone());
            async move { portal.answer(pages, request).await }
        })
    }

    async fn answer(&self, pages: Router, mut request: Request) -> Response {
        let path = request.uri().path();
        if let Some(asset) = self.assets.find(path) {
            return asset.answer();
        }
        let id = self.request_id();
        let address = request
            .extensions()
            .get::<ConnectInfo<std::net::SocketAddr>>()
            .map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.ip());
        request.extensions_mut().insert(RequestId(id.clone()));
        request.extensions_mut().insert(Address(address));
        let had_flash = cookie(request.headers(), FLASH).is_some();
        let mut response = match tower_oneshot(pages, request).await {
            response if response.extensions().get::<Failure>().is_some() => {
                let failure = response.extensions().get::<Failure>().cloned();
                failure.map_or(response, |failure| failure.page(&self.assets, &id))
            }
            response => response,
        };
        let headers = response.headers_mut();
        if had_flash && !headers.contains_key(header::LOCATION) {
            append(headers, header::SET_COOKIE, &self.cookie(FLASH, "", 0));
        }
        append(headers, header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        append(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        append(headers, header::REFERRER_POLICY, "same-origin");
        append(headers, HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        append(headers, HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
        if !headers.contains_key(header::CACHE_CONTROL) {
            append(headers, header::CACHE_CONTROL, "no-store");
        }
        append(headers, X_REQUEST_ID, &id);
        response
    }

    fn request_id(&self) -> String {
        let bits: [u8; 8] = market::random();
        let millis = self.clock.now().as_millisecond();
        format!("web-{millis:x}-{:016x}", u64::from_be_bytes(bits))
    }

    /// The line that sets a cookie; one with an age of 0 is taken away.
    pub(crate) fn cookie(&self, name: &str, value: &str, max_age: i64) -> String {
        let secure = if self.settings.is_secure { "; Secure" } else { "" };
        let prefix = if self.settings.is_secure { "__Host-" } else { "" };
        format!("{prefix}{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}")
    }
}

/// The value of a cookie, whichever of its two names it came under.
pub(crate) fn cookie<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        let known = known.strip_prefix("__Host-").unwrap_or(known);
        (known == name && !value.is_empty()).then_some(value)
    })
}

pub(crate) fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

async fn tower_oneshot(pages: Router, request: Request<Body>) -> Response {
    use tower::ServiceExt as _;
    match pages.oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    }
}
