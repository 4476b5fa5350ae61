//! The control listener: operations endpoints always, the control API once the database is there. A gateway alone has
//! the operations endpoints only.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use feed::Follower;
use gateway::Gateway;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use mail::Courier;
use market::Market;
use model::{Clock, Network};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    forwarded::client_address,
    tls::{Accepted, ControlTls},
};

/// What answers on the control listener.
pub(crate) struct Control {
    gateway: Option<Arc<Gateway>>,
    follower: Option<Arc<Follower>>,
    courier: Option<Arc<Courier>>,
    tls: Option<Arc<ControlTls>>,
    /// Proxies whose word about clients is believed.
    trusted: Vec<Network>,
    clock: Clock,
    plane: ArcSwapOption<Plane>,
    is_draining: AtomicBool,
}

struct Plane {
    api: Router,
    portal: Router,
    market: Arc<Market>,
}

/// How a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    /// Without TLS, where none is spoken.
    Plain,
    Tls,
    /// Without TLS, where nothing else is spoken.
    Mistaken,
}

/// The most connections at once; further ones wait.
const CONNECTIONS: usize = 1_024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64 * 1024;

impl Control {
    /// The listener of a control plane, with or without a gateway.
    pub(crate) fn new(
        gateway: Option<Arc<Gateway>>,
        tls: Option<ControlTls>,
        clock: Clock,
    ) -> Self {
        let (plane, is_draining) = (ArcSwapOption::empty(), AtomicBool::new(false));
        let (follower, courier, tls) = (None, None, tls.map(Arc::new));
        let trusted = Vec::new();
        Self { gateway, follower, courier, tls, trusted, clock, plane, is_draining }
    }

    /// The same listener, which also tells the metrics of the courier.
    pub(crate) fn with_courier(self, courier: Option<Arc<Courier>>) -> Self {
        Self { courier, ..self }
    }

    /// The same listener, which believes these proxies.
    pub(crate) fn behind(self, trusted: Vec<Network>) -> Self {
        Self { trusted, ..self }
    }

    /// The listener of a gateway alone.
    pub(crate) fn of_gateway(
        gateway: Arc<Gateway>,
        follower: Arc<Follower>,
        tls: Option<ControlTls>,
        clock: Clock,
    ) -> Self {
        Self { follower: Some(follower), ..Self::new(Some(gateway), tls, clock) }
    }

    /// Answers the control API and the pages of the portal from now on.
    pub(crate) fn open(&self, api: Router, portal: Router, market: Arc<Market>) {
        self.plane.store(Some(Arc::new(Plane { api, portal, market })));
    }

    /// Says that it is not ready any more, so that no new calls are sent here.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Accepts connections until it is time to stop, and then waits for the requests in flight.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) {
        if let Some(tls) = &self.tls {
            tracker.spawn(Arc::clone(tls).renew(stop.clone()));
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, address)) = accepted else {
                // Out of file descriptors, most likely: give those that are open time to end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let control = Arc::clone(&self);
            let stop = stop.clone();
            tracker.spawn(async move {
                control.serve_connection(stream, address, stop).await;
                drop(place);
            });
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        stop: CancellationToken,
    ) {
        let Some(tls) = &self.tls else {
            return self.serve_http(stream, address, Entrance::Plain, stop).await;
        };
        match stop.run_until_cancelled(tls.accept(stream)).await.flatten() {
            Some(Accepted::Tls(stream)) => {
                self.serve_http(stream, address, Entrance::Tls, stop).await;
            }
            Some(Accepted::Plain(stream)) => {
                self.serve_http(stream, address, Entrance::Mistaken, stop).await;
            }
            None => {}
        }
    }

    async fn serve_http(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        address: SocketAddr,
        entrance: Entrance,
        stop: CancellationToken,
    ) {
        let service =
            hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let control = Arc::clone(&self);
                async move {
                    let mut request = request.map(Body::new);
                    let mut client = address;
                    client.set_ip(client_address(
                        request.headers(),
                        address.ip(),
                        &control.trusted,
                    ));
                    request.extensions_mut().insert(ConnectInfo(client));
                    let response = control.answer_at(entrance, request).await;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        if stop.run_until_cancelled(connection.as_mut()).await.is_none() {
            connection.as_mut().graceful_shutdown();
            // A client that went away meanwhile is no concern.
            drop(connection.await);
        }
    }

    async fn answer_at(&self, entrance: Entrance, request: Request) -> Response {
        if entrance == Entrance::Mistaken {
            let mut response = text(StatusCode::BAD_REQUEST, "TLS is spoken here: use https\n");
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            return response;
        }
        let mut response = self.answer(request).await;
        if entrance == Entrance::Tls
            && let Some(hsts) = self.tls.as_ref().and_then(|tls| tls.hsts())
        {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        response
    }

    async fn answer(&self, request: Request) -> Response {
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(request.uri().query() == Some("verbose")).await,
            "/metrics" => self.metrics(),
            _ if self.follower.is_some() => {
                text(StatusCode::NOT_FOUND, "there is nothing here: this is a gateway\n")
            }
            path => {
                let is_api = path.starts_with("/api/");
                match self.plane.load_full() {
                    Some(plane) => {
                        let router = if is_api { &plane.api } else { &plane.portal };
                        match router.clone().oneshot(request).await {
                            Ok(response) => response,
                            Err(never) => match never {},
                        }
                    }
                    None if is_api => api::unavailable(&request, &self.clock),
                    None => text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "The database does not answer yet. Calls through the gateway are not affected. Try again in a minute.\n",
                    ),
                }
            }
        }
    }

    /// Ready means configured and listening. The database may be away: the gateway serves without it.
    async fn readiness(&self, is_verbose: bool) -> Response {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let gateway = self.gateway.as_ref().map(|gateway| (gateway.local_addr(), gateway.status()));
        // A gateway alone is of use only with a configuration that it may serve.
        let is_useless = self.follower.is_some()
            && gateway
                .as_ref()
                .is_some_and(|(_, status)| status.config_number.is_none() || status.is_too_old);
        let is_ready = !is_draining && !is_useless;
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if !is_verbose {
            let word = match (is_draining, is_useless) {
                (true, _) => "draining\n",
                (false, true) => "no configuration\n",
                (false, false) => "ok\n",
            };
            return text(status, word);
        }
        let mut body = json!({ "ready": is_ready, "draining": is_draining });
        match &self.follower {
            Some(follower) => {
                let state = follower.state().as_str();
                body["feed"] = json!({ "state": state, "node": follower.node() });
            }
            None => body["database"] = json!(self.database().await),
        }
        if let Some((address, status)) = gateway {
            body["gateway"] = json!({
                "address": address.to_string(),
                "configNumber": status.config_number,
                "configAgeSeconds": status.config_age.map(|age| age.as_secs()),
                "tooOld": status.is_too_old,
                "structureNumber": status.structure_number,
                "rosterNumber": status.roster_number,
                "credentials": status.credentials,
                "agreements": status.agreements,
                "connections": status.connections,
                "workers": status.workers,
            });
        }
        json_response(status, "application/json", &body)
    }

    async fn database(&self) -> &'static str {
        match self.plane.load_full() {
            None => "away",
            Some(plane) => match plane.market.ping().await {
                Ok(()) => "ok",
                Err(_) => "away",
            },
        }
    }

    fn metrics(&self) -> Response {
        let mut out = String::new();
        let encoded = match &self.gateway {
            Some(gateway) => gateway.encode_metrics(&mut out),
            // What OpenMetrics ends with.
            None => {
                out.push_str("# EOF\n");
                Ok(())
            }
        };
        if let Some(follower) = &self.follower {
            follower.encode_metrics(&mut out);
        }
        if let Some(courier) = &self.courier {
            courier.encode_metrics(&mut out);
        }
        let encoded = encoded.and_then(|()| match &self.tls {
            Some(tls) => tls.encode_metrics(&mut out),
            None => Ok(()),
        });
        if encoded.is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
        }
        let mut response = text(StatusCode::OK, out);
        let kind =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn json_response(status: StatusCode, media_type: &'static str, body: &Value) -> Response {
    respond(status, media_type, Body::from(format!("{body}\n")))
}

fn respond(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
