//! TLS on the control listener, with certificates that are loaded anew when their files change.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context;
use gateway::Certificates;
use http::HeaderValue;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// What clients of the control listener are met with when it speaks TLS.
pub(crate) struct ControlTls {
    certificates: Arc<Certificates>,
    acceptor: TlsAcceptor,
    hsts: Option<HeaderValue>,
    expiry: Family<CertificateLabels, Gauge>,
    failures: Counter,
    registry: Registry,
}

/// What a client turned out to speak.
pub(crate) enum Accepted {
    Tls(Box<TlsStream<TcpStream>>),
    /// Something else, HTTP most likely.
    Plain(TcpStream),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

/// How long client and server may take to agree.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the files of certificates are looked at.
const RENEW: Duration = Duration::from_secs(2);
/// What each record of a handshake begins with (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;
const END_OF_METRICS: &str = "# EOF";

impl ControlTls {
    /// Loads the certificates.
    pub(crate) fn load(settings: &config::ControlTls) -> anyhow::Result<Self> {
        let failed = "control.tls cannot be used";
        let certificates = Arc::new(Certificates::load(&settings.certificates).context(failed)?);
        let config = Arc::clone(&certificates).server_config(&[b"http/1.1"]).context(failed)?;
        let hsts = (settings.hsts_seconds > 0)
            .then(|| HeaderValue::try_from(format!("max-age={}", settings.hsts_seconds)))
            .transpose()?;
        let (expiry, failures) = (Family::default(), Counter::default());
        let mut registry = Registry::with_prefix("caduceus_control");
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When a certificate of the listener expires, since 1970",
            Unit::Seconds,
            expiry.clone(),
        );
        registry.register(
            "tls_failures",
            "Connections on which TLS could not be agreed on",
            failures.clone(),
        );
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let tls = Self { certificates, acceptor, hsts, expiry, failures, registry };
        tls.show_certificates();
        Ok(tls)
    }

    /// For how long browsers are to insist on TLS.
    pub(crate) const fn hsts(&self) -> Option<&HeaderValue> {
        self.hsts.as_ref()
    }

    /// Agrees with a client on TLS; none when that fails, or takes too long.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<Accepted> {
        let accepting = async {
            let mut first = [0];
            Some(match stream.peek(&mut first).await {
                Ok(1) if first == [HANDSHAKE] => {
                    Accepted::Tls(Box::new(self.acceptor.accept(stream).await.ok()?))
                }
                Ok(1) => Accepted::Plain(stream),
                _ => return None,
            })
        };
        let accepted = timeout(HANDSHAKE_TIMEOUT, accepting).await.ok().flatten();
        if !matches!(accepted, Some(Accepted::Tls(_))) {
            self.failures.inc();
        }
        accepted
    }

    /// Loads certificates anew when their files change, until it is time to stop.
    pub(crate) async fn renew(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
            let certificates = Arc::clone(&self.certificates);
            let reloaded = tokio::task::spawn_blocking(move || certificates.reload()).await;
            match reloaded {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    self.show_certificates();
                    tracing::info!("the certificates of control.tls have been loaded anew");
                }
                Ok(Err(error)) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the certificates of control.tls cannot be used; those before stay in use"
                ),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the certificates of control.tls could not be looked at"
                ),
            }
        }
    }

    /// Adds to metrics that may have been ended already.
    pub(crate) fn encode_metrics(&self, out: &mut String) -> fmt::Result {
        let length = out.trim_end().strip_suffix(END_OF_METRICS).map_or(out.len(), str::len);
        out.truncate(length);
        encode_registry(out, &self.registry)?;
        out.push_str(END_OF_METRICS);
        out.push('\n');
        Ok(())
    }

    fn show_certificates(&self) {
        self.expiry.clear();
        for certificate in self.certificates.status() {
            let labels = CertificateLabels { certificate: certificate.name };
            self.expiry.get_or_create_owned(&labels).set(certificate.not_after.as_second());
        }
    }
}
