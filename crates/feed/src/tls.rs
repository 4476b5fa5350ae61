//! TLS 1.3 under the installation's own authority, on both sides.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

/// The name that the feed's certificate is of, whatever its address.
pub(crate) const SERVER_NAME: &str = "feed.caduceus.internal";

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the certificate or key cannot be used")]
    Tls(#[from] rustls::Error),
    #[error("the authority's certificate cannot be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

fn roots(authority: &[u8]) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec()))?;
    Ok(Arc::new(roots))
}

/// The server's side. A client may show no certificate, and then only be enrolled.
pub(crate) fn server(
    certificate: &market::ServerCertificate,
) -> Result<Arc<ServerConfig>, TlsError> {
    let roots = roots(&certificate.authority)?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()?;
    let chain = certificate.chain.iter().cloned().map(CertificateDer::from).collect();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key(&certificate.key))?;
    Ok(Arc::new(config))
}

/// A node's side.
pub(crate) fn client(
    authority: &[u8],
    certificate: &[u8],
    private_key: &[u8],
) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(
            vec![CertificateDer::from(certificate.to_vec())],
            key(private_key),
        )?;
    Ok(Arc::new(config))
}

/// The side of a gateway that knows nothing but the authority's fingerprint.
pub(crate) fn newcomer(
    fingerprint: [u8; 32],
) -> Result<(Arc<ClientConfig>, Arc<Pinned>), TlsError> {
    let pinned = Arc::new(Pinned { fingerprint, found: std::sync::OnceLock::new() });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<Pinned>::clone(&pinned);
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok((Arc::new(config), pinned))
}

fn key(pkcs8: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()))
}

/// Trusts the authority that has a fingerprint, and servers it vouches for.
#[derive(Debug)]
pub(crate) struct Pinned {
    fingerprint: [u8; 32],
    found: std::sync::OnceLock<Vec<u8>>,
}

impl Pinned {
    /// The authority's certificate, once a server has shown it.
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        self.found.get().map(Vec::as_slice)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority =
            intermediates.iter().find(|it| sha256(it) == self.fingerprint).ok_or_else(|| {
                rustls::Error::General(
                    "the control plane is not the one that the token is of".to_owned(),
                )
            })?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority)?, provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.found.get_or_init(|| authority.to_vec());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    fingerprint
}
