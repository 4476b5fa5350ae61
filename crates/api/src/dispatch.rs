//! What crosses all routes: request ids, rate limits, versions, signing in, permission, conditions, bodies, errors.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use authz::Access;
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, RawPathParams, Request as HttpRequest},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use market::{Idempotency, Market, Request};
use model::Clock;

use crate::{
    call::Call,
    endpoint::{BodyLimit, Endpoint},
    openapi,
    problem::Problem,
    reply::Reply,
    routes,
    throttle::Throttle,
};

/// How the control API is served.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Requests per second that one caller may make; ten times as many at once.
    pub requests_per_second: u32,
    /// The largest specification, in bytes.
    pub specification_max_bytes: usize,
}

struct Dispatcher {
    market: Arc<Market>,
    clock: Clock,
    settings: ApiSettings,
    addresses: Throttle,
    callers: Throttle,
}

/// The minor versions that `API-Version` may ask for.
const SUPPORTED: &str = "1.0";
const FORM_MAX: usize = 256 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_VERSION: HeaderName = HeaderName::from_static("api-version");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The control API below `/api/v1`.
pub fn router(market: Arc<Market>, clock: Clock, settings: ApiSettings) -> Router {
    let per_second = settings.requests_per_second;
    let dispatcher = Arc::new(Dispatcher {
        market,
        clock,
        addresses: Throttle::new(per_second.saturating_mul(2), per_second.saturating_mul(20)),
        callers: Throttle::new(per_second, per_second.saturating_mul(10)),
        settings,
    });
    let mut endpoints = routes::all();
    let document = Bytes::from(openapi::render(&endpoints));
    endpoints.push(openapi::endpoint(document));
    let mut by_path: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        by_path.entry(endpoint.path).or_default().push(endpoint);
    }
    let mut router = Router::new();
    for (path, endpoints) in by_path {
        let mut methods = MethodRouter::new();
        let mut allowed = String::new();
        for endpoint in endpoints {
            if !allowed.is_empty() {
                allowed.push_str(", ");
            }
            allowed.push_str(endpoint.method.as_str());
            let filter = MethodFilter::try_from(endpoint.method.clone())
                .expect("endpoints use the common methods");
            let dispatcher = Arc::clone(&dispatcher);
            let endpoint = Arc::new(endpoint);
            methods = methods.merge(on(filter, move |request: HttpRequest| {
                let dispatcher = Arc::clone(&dispatcher);
                let endpoint = Arc::clone(&endpoint);
                async move { dispatcher.serve(&endpoint, request).await }
            }));
        }
        let other = Arc::clone(&dispatcher);
        let methods = methods.fallback(move |request: HttpRequest| {
            let problem = Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the resource does not have this method",
            );
            let reply = other.refuse(&request, problem);
            let allowed = HeaderValue::try_from(&allowed).expect("method names are ASCII");
            std::future::ready(respond(reply.header(header::ALLOW, allowed)))
        });
        router = router.route(&format!("/api/v1{path}"), methods);
    }
    router.fallback(move |request: HttpRequest| {
        let problem =
            Problem::new(StatusCode::NOT_FOUND, "route_not_found", "there is no such resource");
        std::future::ready(respond(dispatcher.refuse(&request, problem)))
    })
}

impl Dispatcher {
    async fn serve(&self, endpoint: &Endpoint, request: HttpRequest) -> Response {
        let (mut parts, body) = request.into_parts();
        let now = self.clock.now();
        let request_id = request_id(&parts.headers, now);
        let answer = self.answer(endpoint, &mut parts, body, &request_id).await;
        let reply = match answer {
            Ok(reply) => not_modified(&parts, reply),
            Err(problem) => problem.into_reply(parts.uri.path(), &request_id, now),
        };
        let id = HeaderValue::try_from(request_id).expect("request ids are ASCII");
        respond(reply.header(REQUEST_ID, id))
    }

    async fn answer(
        &self,
        endpoint: &Endpoint,
        parts: &mut Parts,
        body: Body,
        request_id: &str,
    ) -> Result<Reply, Problem> {
        let now = self.clock.now();
        let address = client_address(parts);
        self.addresses.take(&address.to_string(), now).map_err(Problem::too_many_requests)?;
        check_version(&parts.headers)?;
        let signed_in = match endpoint.action.access() {
            Access::Public => None,
            _ => Some(self.sign_in(endpoint, parts, request_id).await?),
        };
        check_query(endpoint, parts)?;
        let path = path_parameters(parts).await;
        let body = self.read_body(endpoint, parts, body).await?;
        let signed_in = match signed_in {
            Some(request) if endpoint.is_write() => Some(conditions(request, parts, &body)?),
            other => other,
        };
        let call = Call::new(
            Arc::clone(&self.market),
            request_id.to_owned(),
            address,
            parts.headers.clone(),
            path,
            parts.uri.query().unwrap_or_default().to_owned(),
            body,
            signed_in,
        );
        (endpoint.handler)(call).await
    }

    async fn sign_in(
        &self,
        endpoint: &Endpoint,
        parts: &Parts,
        request_id: &str,
    ) -> Result<Request, Problem> {
        let mut given = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(Problem::unauthenticated());
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(Problem::unauthenticated)?;
        let caller = self.market.authenticate(token).await?;
        self.callers.take(&caller.actor(), self.clock.now()).map_err(Problem::too_many_requests)?;
        let request = Request::plain(caller, request_id.to_owned());
        self.market.require(&request, endpoint.action).await?;
        Ok(request)
    }

    async fn read_body(
        &self,
        endpoint: &Endpoint,
        parts: &Parts,
        body: Body,
    ) -> Result<Bytes, Problem> {
        let most = match endpoint.body_limit {
            BodyLimit::Form => FORM_MAX,
            // A document inside a JSON text grows by its escapes.
            BodyLimit::Specification => {
                self.settings.specification_max_bytes.saturating_mul(2) + FORM_MAX
            }
        };
        let too_large = || {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("the body may have at most {most} bytes"),
            )
        };
        let announced = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u64>().ok());
        if announced.is_some_and(|length| length > most as u64) {
            return Err(too_large());
        }
        let reading = Limited::new(body, most).collect();
        let Ok(read) = tokio::time::timeout(BODY_TIMEOUT, reading).await else {
            return Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "the body did not arrive in time",
            ));
        };
        match read {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(_) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                "the body ended before it was complete",
            )),
        }
    }

    fn refuse(&self, request: &HttpRequest, problem: Problem) -> Reply {
        refuse(request, problem, self.clock.now())
    }
}

/// The answer while there is no database: the control API cannot do anything, whatever is asked.
pub fn unavailable(request: &HttpRequest, clock: &Clock) -> Response {
    respond(refuse(request, Problem::database_unavailable(), clock.now()))
}

fn refuse(request: &HttpRequest, problem: Problem, now: Timestamp) -> Reply {
    let request_id = request_id(request.headers(), now);
    let reply = problem.into_reply(request.uri().path(), &request_id, now);
    let id = HeaderValue::try_from(request_id).expect("request ids are ASCII");
    reply.header(REQUEST_ID, id)
}

/// The client's id when it is a plain word, otherwise a new UUID (version 7, RFC 9562).
fn request_id(headers: &HeaderMap, now: Timestamp) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        (8..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match given.filter(is_plain) {
        Some(id) => id.to_owned(),
        None => {
            let millis = u128::try_from(now.as_millisecond()).unwrap_or(0);
            let random = u128::from_le_bytes(market::random());
            let bits = (millis & 0xffff_ffff_ffff) << 80
                | 0x7 << 76
                | (random >> 64 & 0xfff) << 64
                | 0x2 << 62
                | (random & 0x3fff_ffff_ffff_ffff);
            let hex = format!("{bits:032x}");
            let part = |from, to| hex.get(from..to).unwrap_or_default();
            format!(
                "{}-{}-{}-{}-{}",
                part(0, 8),
                part(8, 12),
                part(12, 16),
                part(16, 20),
                part(20, 32)
            )
        }
    }
}

fn respond(reply: Reply) -> Response {
    let Reply { status, headers, body } = reply;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static(SUPPORTED));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// 304 when the client has this revision already (RFC 9110, 13.1.2).
fn not_modified(parts: &Parts, mut reply: Reply) -> Reply {
    let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let tag = reply.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    let is_same = match (known, tag) {
        (Some(known), Some(tag)) => {
            let is_it = |known: &str| known == "*" || known.trim_start_matches("W/") == tag;
            known.split(',').any(|known| is_it(known.trim()))
        }
        _ => false,
    };
    if parts.method == Method::GET && is_same {
        reply.status = StatusCode::NOT_MODIFIED;
        reply.headers.remove(header::CONTENT_TYPE);
        reply.body = Bytes::new();
    }
    reply
}

fn client_address(parts: &Parts) -> IpAddr {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip().to_canonical())
}

fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(API_VERSION).map(|value| value.to_str().unwrap_or_default().trim()) {
        None | Some("1" | SUPPORTED) => Ok(()),
        Some(_) => Err(Problem::unsupported_version(SUPPORTED)),
    }
}

/// Refuses query parameters that the route does not have, so that a misspelt filter is not silently no filter.
fn check_query(endpoint: &Endpoint, parts: &Parts) -> Result<(), Problem> {
    let invalid = |detail| Problem::new(StatusCode::BAD_REQUEST, "invalid_query", detail);
    let query = parts.uri.query().unwrap_or_default();
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
        .map_err(|error| invalid(format!("the query is wrong: {error}")))?;
    let known = openapi::query_names(endpoint);
    for (index, (name, value)) in pairs.iter().enumerate() {
        if !known.contains(name) {
            return Err(invalid(format!("there is no query parameter '{name}' here")));
        }
        if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
            return Err(invalid(format!("the query parameter '{name}' is there twice")));
        }
        if name == openapi::DRY_RUN && !matches!(value.as_str(), "true" | "false") {
            return Err(invalid("dryRun must be true or false".to_owned()));
        }
    }
    Ok(())
}

async fn path_parameters(parts: &mut Parts) -> HashMap<String, String> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => {
            params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        }
        Err(_) => HashMap::new(),
    }
}

/// Reads `If-Match`, `Idempotency-Key` and `dryRun`.
fn conditions(request: Request, parts: &Parts, body: &Bytes) -> Result<Request, Problem> {
    let expected_revision = match parts.headers.get(header::IF_MATCH) {
        None => None,
        Some(value) if value == "*" => None,
        Some(value) => {
            let revision = value
                .to_str()
                .ok()
                .and_then(|tag| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok());
            // A tag that was never given out matches nothing.
            Some(revision.unwrap_or(-1))
        }
    };
    let idempotency = match parts.headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(value) => {
            let key = value.to_str().unwrap_or_default();
            if key.is_empty() || key.len() > 255 {
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_idempotency_key",
                    "Idempotency-Key must have 1 to 255 visible ASCII characters",
                ));
            }
            let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
            let fingerprint = market::sha256_hex(&[
                parts.method.as_str().as_bytes(),
                b"\0",
                target.as_bytes(),
                b"\0",
                body,
            ]);
            Some(Idempotency { key: key.to_owned(), fingerprint })
        }
    };
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let dry_run = pairs.iter().any(|(name, value)| name == openapi::DRY_RUN && value == "true");
    Ok(Request { expected_revision, idempotency, dry_run, ..request })
}
