//! One request of a gateway to the control plane, on a connection of its own.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{tls::SERVER_NAME, wire::ANSWER_MAX};

const CONNECT: Duration = Duration::from_secs(5);
/// Longer than the control plane waits for news, and enough for a large answer.
const WHOLE: Duration = Duration::from_secs(120);

/// Why a request to the control plane failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It cannot be reached.
    #[error("the control plane at {address} cannot be reached")]
    Connect {
        /// Its address.
        address: String,
        /// What the operating system or TLS said.
        source: io::Error,
    },
    /// It took too long.
    #[error("the control plane did not answer in time")]
    Timeout,
    /// The connection broke.
    #[error("the connection to the control plane broke")]
    Http(#[from] hyper::Error),
    /// The answer is too long or broke off.
    #[error("the answer of the control plane could not be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not know this gateway, or does not know it any more.
    #[error("the control plane refuses this gateway: its token or certificate is not accepted")]
    Refused,
    /// It answered with another status.
    #[error("the control plane answered with status {0}")]
    Status(StatusCode),
    /// The answer has another form.
    #[error("the answer of the control plane has another form")]
    Form(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// Whether somebody answered who is not the control plane that is meant.
    pub fn is_mistrust(&self) -> bool {
        let Self::Connect { source, .. } = self else { return false };
        source.get_ref().is_some_and(|source| source.is::<rustls::Error>())
    }
}

/// Where the control plane is, and how a connection to it is made safe.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) address: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Line {
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, CallError> {
        timeout(WHOLE, self.exchange(path, body)).await.map_err(|_elapsed| CallError::Timeout)?
    }

    async fn exchange(&self, path: &str, body: Vec<u8>) -> Result<Bytes, CallError> {
        let stream =
            timeout(CONNECT, self.connect()).await.map_err(|_elapsed| CallError::Timeout)??;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::post(path)
            .header(header::HOST, SERVER_NAME)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CallError::Form(error.into()))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(CallError::Body)?.to_bytes();
            match status {
                StatusCode::OK => Ok(body),
                StatusCode::UNAUTHORIZED => Err(CallError::Refused),
                other => Err(CallError::Status(other)),
            }
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = answer.as_mut() => answer,
            // It ends by itself only when something is wrong, or when the answer is there.
            ended = connection.as_mut() => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CallError> {
        let failed = |source| CallError::Connect { address: self.address.clone(), source };
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        let name = ServerName::try_from(SERVER_NAME).expect("a plain host name is a server name");
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.map_err(failed)
    }
}

pub(crate) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(bytes).map_err(|error| CallError::Form(error.into()))
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(value).map_err(|error| CallError::Form(error.into()))
}
