//! The control plane's side of the feed.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use market::{Market, MarketError, Node};
use model::NodeId;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    tls::{self, SERVER_NAME, sha256},
    wire::{
        ENROL, EnrolAnswer, EnrolRequest, FOLLOW, FollowRequest, Octets, RENEW, REQUEST_MAX,
        RenewAnswer, RenewRequest, USAGE, UsageAnswer, read_batch,
    },
};

/// The most connections at once; further ones wait.
const CONNECTIONS: usize = 1_024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A node that takes longer is cut off, and goes on where it was.
const WHOLE: Duration = Duration::from_secs(120);
/// How long a node waits for news.
const PATIENCE: Duration = Duration::from_secs(10);
/// A waiting node is looked after this often, so that one that was cut off is.
const WATCH: Duration = Duration::from_secs(1);
/// How often it is noted that a node was heard of.
const NOTE: Duration = Duration::from_secs(10);
/// The server's certificate lives for thirty days.
const CERTIFICATE: Duration = Duration::from_secs(7 * 24 * 3_600);

struct Server {
    market: Arc<Market>,
    noted: Mutex<HashMap<NodeId, Instant>>,
}

/// Why a request was not answered.
enum Refusal {
    Status(StatusCode),
    Failed(MarketError),
}

impl From<MarketError> for Refusal {
    fn from(error: MarketError) -> Self {
        Self::Failed(error)
    }
}

/// Serves the feed until it is time to stop.
pub async fn serve(
    market: Arc<Market>,
    listener: TcpListener,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let server = Arc::new(Server { market, noted: Mutex::default() });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut config: Option<(Arc<ServerConfig>, Instant)> = None;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: give those that are open time to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let is_fresh = |(_, made): &(_, Instant)| made.elapsed() < CERTIFICATE;
        if !config.as_ref().is_some_and(is_fresh) {
            match server.configure().await {
                Ok(fresh) => config = Some((fresh, Instant::now())),
                Err(error) => tracing::error!(error, "the feed has no certificate to show"),
            }
        }
        let Some((config, _)) = &config else { continue };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (acceptor, server) = (TlsAcceptor::from(Arc::clone(config)), Arc::clone(&server));
        let stop = stop.clone();
        tracker.spawn(async move {
            let serving = server.serve_connection(acceptor, stream, peer);
            // Cut off, it goes on where it was.
            let _ = stop.run_until_cancelled(timeout(WHOLE, serving)).await;
            drop(place);
        });
    }
}

impl Server {
    async fn configure(&self) -> Result<Arc<ServerConfig>, String> {
        let certificate =
            self.market.server_certificate(SERVER_NAME).await.map_err(|error| chain(&error))?;
        tls::server(&certificate).map_err(|error| chain(&error))
    }

    async fn serve_connection(
        self: Arc<Self>,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        // Whoever fails here is no node, or one with a certificate of another authority.
        let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| hex(&sha256(certificate)));
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            let certificate = certificate.clone();
            async move {
                let answer = server.answer(request, peer, certificate.as_deref()).await;
                Ok::<_, Infallible>(respond(answer))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A node that went away meanwhile asks again.
        drop(connection.await);
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        certificate: Option<&str>,
    ) -> Result<Vec<u8>, Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::Status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let path = request.uri().path().to_owned();
        let refused = || Refusal::Status(StatusCode::UNAUTHORIZED);
        // Known before its body is read.
        let node = match certificate {
            Some(certificate) => self.market.find_node(certificate).await?,
            None => None,
        };
        let known = certificate.zip(node);
        if path != ENROL && known.is_none() {
            return Err(refused());
        }
        let body = Limited::new(request.into_body(), REQUEST_MAX).collect().await;
        let body = body.map_err(|_broken| Refusal::Status(StatusCode::BAD_REQUEST))?.to_bytes();
        match (path.as_str(), known) {
            (ENROL, _) => self.enrol(&body, peer).await,
            (RENEW, Some((certificate, node))) => self.renew(&body, certificate, &node).await,
            (FOLLOW, Some((certificate, node))) => self.follow(&body, certificate, &node).await,
            (USAGE, Some((_, node))) => {
                let batch = read_batch(&body).ok_or(Refusal::Status(StatusCode::BAD_REQUEST))?;
                let place = self.market.count_shipped(&node, &batch).await?;
                write(&UsageAnswer { segment: place.segment, offset: place.offset })
            }
            _ => Err(Refusal::Status(StatusCode::NOT_FOUND)),
        }
    }

    async fn enrol(&self, body: &[u8], peer: SocketAddr) -> Result<Vec<u8>, Refusal> {
        let EnrolRequest { secret, csr } = read(body)?;
        let enrolled = self.market.enrol_node(&secret, &csr.0, &peer.ip().to_string()).await?;
        tracing::info!(node.id = %enrolled.id, "a gateway was enrolled");
        write(&EnrolAnswer {
            node: enrolled.id,
            certificate: Octets::new(enrolled.certificate),
            expires_at: enrolled.expires_at,
            credential_key: Octets::new(enrolled.credential_key.to_vec()),
        })
    }

    async fn renew(&self, body: &[u8], certificate: &str, node: &Node) -> Result<Vec<u8>, Refusal> {
        let RenewRequest { csr } = read(body)?;
        let (renewed, expires_at) = self.market.renew_node(node, certificate, &csr.0).await?;
        write(&RenewAnswer { certificate: Octets::new(renewed), expires_at })
    }

    async fn follow(
        &self,
        body: &[u8],
        certificate: &str,
        node: &Node,
    ) -> Result<Vec<u8>, Refusal> {
        let FollowRequest { standing, version } = read(body)?;
        if version.len() > 64 {
            return Err(Refusal::Status(StatusCode::BAD_REQUEST));
        }
        if self.is_note_due(node.id) {
            self.market.note_node(node, certificate, &standing, &version).await?;
        }
        let mut waiting = std::pin::pin!(self.market.follow(&standing, PATIENCE));
        let update = loop {
            if let Ok(update) = timeout(WATCH, waiting.as_mut()).await {
                break update?;
            }
            if self.market.find_node(certificate).await?.is_none() {
                return Err(Refusal::Status(StatusCode::UNAUTHORIZED));
            }
        };
        let encoded = tokio::task::spawn_blocking(move || update.to_bytes()).await;
        match encoded {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }

    fn is_note_due(&self, node: NodeId) -> bool {
        let now = Instant::now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now.duration_since(*at) < NOTE);
        noted.insert(node, now).is_none_or(|at| {
            noted.insert(node, at);
            false
        })
    }
}

fn respond(answer: Result<Vec<u8>, Refusal>) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(Refusal::Status(status)) => (status, Vec::new()),
        Err(Refusal::Failed(MarketError::Unauthenticated)) => {
            (StatusCode::UNAUTHORIZED, Vec::new())
        }
        Err(Refusal::Failed(MarketError::TooManyAttempts(_))) => {
            (StatusCode::TOO_MANY_REQUESTS, Vec::new())
        }
        Err(Refusal::Failed(MarketError::Invalid(_))) => (StatusCode::BAD_REQUEST, Vec::new()),
        Err(Refusal::Failed(error)) => {
            tracing::warn!(error = chain(&error), "a request of a gateway could not be answered");
            (StatusCode::SERVICE_UNAVAILABLE, Vec::new())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_form| Refusal::Status(StatusCode::BAD_REQUEST))
}

fn write(value: &impl serde::Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(error = chain(error), "an answer for a gateway could not be written");
    Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
