//! TLS towards targets. Certificates are verified always, those of bare addresses too; nothing turns that off.

use std::{collections::HashMap, sync::Arc};

use model::{Protocol, UpstreamTls};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::UpstreamStream;

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// How one endpoint is reached by TLS.
pub(super) struct Tls {
    authorities: Option<String>,
    protocol: Protocol,
    config: Arc<ClientConfig>,
    /// None when no certificate can carry the name.
    name: Option<ServerName<'static>>,
}

/// The configurations of a snapshot. Endpoints that trust the same authorities share one, and its sessions.
#[derive(Default)]
pub(super) struct TlsSettings(HashMap<(Option<String>, Protocol), Arc<ClientConfig>>);

/// Why there is no protected connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeError {
    /// The target's certificate is not to be trusted.
    Certificate,
    Failed,
}

impl TlsSettings {
    /// Keeps the configuration of an endpoint that is in use.
    pub(super) fn keep(&mut self, tls: &Tls) {
        let key = (tls.authorities.clone(), tls.protocol);
        self.0.insert(key, Arc::clone(&tls.config));
    }

    fn config(&mut self, authorities: Option<&str>, protocol: Protocol) -> Arc<ClientConfig> {
        let key = (authorities.map(str::to_owned), protocol);
        let config = self.0.entry(key);
        Arc::clone(config.or_insert_with(|| Arc::new(configure(authorities, protocol))))
    }
}

impl Tls {
    pub(super) fn new(
        settings: &mut TlsSettings,
        wanted: &UpstreamTls,
        host: &str,
        protocol: Protocol,
    ) -> Self {
        let authorities = wanted.ca_certificates.as_deref();
        let name = wanted.server_name.as_deref().unwrap_or(host);
        Self {
            authorities: authorities.map(str::to_owned),
            protocol,
            config: settings.config(authorities, protocol),
            name: ServerName::try_from(name.to_owned()).ok(),
        }
    }

    /// Protects a connection; says whether HTTP/2 is spoken over it.
    pub(super) async fn protect(
        &self,
        stream: TcpStream,
        only_http1: bool,
    ) -> Result<(UpstreamStream, bool), HandshakeError> {
        let Some(name) = self.name.clone() else { return Err(HandshakeError::Certificate) };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let connecting = if only_http1 && self.protocol == Protocol::Auto {
            connector.with_alpn(vec![HTTP1.to_vec()]).connect(name, stream)
        } else {
            connector.connect(name, stream)
        };
        let stream = connecting.await.map_err(|error| HandshakeError::of(&error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        let is_http2 = match self.protocol {
            Protocol::Auto => agreed == Some(HTTP2),
            Protocol::Http1 => false,
            Protocol::Http2 if agreed == Some(HTTP2) => true,
            Protocol::Http2 => return Err(HandshakeError::Failed),
        };
        Ok((UpstreamStream::Tls(Box::new(stream)), is_http2))
    }
}

impl HandshakeError {
    fn of(error: &std::io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Self::Certificate
            }
            _ => Self::Failed,
        }
    }
}

fn configure(authorities: Option<&str>, protocol: Protocol) -> ClientConfig {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(authorities.unwrap_or_default().as_bytes()) {
        // They were checked when they were set. One that cannot be read is not trusted.
        if !certificate.is_ok_and(|certificate| roots.add(certificate).is_ok()) {
            tracing::error!("a certificate of an authority cannot be read and is not trusted");
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let offered: &[&[u8]] = match protocol {
        Protocol::Auto => &[HTTP2, HTTP1],
        Protocol::Http1 => &[HTTP1],
        Protocol::Http2 => &[HTTP2],
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    config
}
