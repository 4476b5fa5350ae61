//! The installation's own certificate authority for gateways on other machines. Its key is sealed in the database.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use store::{StoreError, Viewer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{Market, MarketError, secrets::sha256_hex};

const SETTING: &str = "node_authority";
/// Clocks of machines differ a little.
const SLACK: Duration = Duration::from_secs(300);
const AUTHORITY_DAYS: u64 = 20 * 365;

/// How long a certificate of a node or of the feed is good.
pub(crate) const CERTIFICATE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The certificate that the feed shows, fresh for each process.
pub struct ServerCertificate {
    /// The certificate, and that of the authority (DER).
    pub chain: Vec<Vec<u8>>,
    /// Its private key (PKCS #8).
    pub key: Zeroizing<Vec<u8>>,
    /// The certificate of the authority that nodes show certificates of (DER).
    pub authority: Vec<u8>,
}

pub(crate) struct Authority {
    pub(crate) certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    certificate: String,
    sealed_key: String,
}

impl Market {
    /// The authority; made when it is first needed.
    pub(crate) async fn authority(&self) -> Result<Authority, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        let stored = store::setting::find::<Stored>(&mut tx, SETTING).await?;
        drop(tx);
        let stored = match stored {
            Some((stored, _)) => stored,
            None => self.make_authority().await?,
        };
        let certificate = STANDARD.decode(&stored.certificate).map_err(failed)?;
        let key = Zeroizing::new(
            self.secrets.open(&STANDARD.decode(&stored.sealed_key).map_err(failed)?)?,
        );
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.as_slice())).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(certificate.as_slice()), key)
            .map_err(failed)?;
        Ok(Authority { certificate, issuer })
    }

    async fn make_authority(&self) -> Result<Stored, MarketError> {
        let now = self.clock.now();
        let key = KeyPair::generate().map_err(failed)?;
        let mut params =
            params("Caduceus nodes", now, Duration::from_secs(AUTHORITY_DAYS * 86_400))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let sealed = self.secrets.seal(&Zeroizing::new(key.serialize_der()))?;
        let stored = Stored {
            certificate: STANDARD.encode(certificate.der()),
            sealed_key: STANDARD.encode(sealed),
        };
        let mut tx = self.db.begin(Viewer::Installation).await?;
        match store::setting::put(&mut tx, SETTING, &stored, 1, now).await {
            Ok(()) => {
                tx.commit().await?;
                Ok(stored)
            }
            // Another process was faster.
            Err(StoreError::Stale { .. }) => store::setting::find::<Stored>(&mut tx, SETTING)
                .await?
                .map(|(stored, _)| stored)
                .ok_or(MarketError::Internal("the authority of nodes is missing", None)),
            Err(error) => Err(error.into()),
        }
    }

    /// A certificate for the feed of this process, under a name that nodes expect whatever its address is.
    pub async fn server_certificate(&self, name: &str) -> Result<ServerCertificate, MarketError> {
        let authority = self.authority().await?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("Caduceus feed", self.clock.now(), CERTIFICATE)?;
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().map_err(failed)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &authority.issuer).map_err(failed)?;
        Ok(ServerCertificate {
            chain: vec![certificate.der().to_vec(), authority.certificate.clone()],
            key: Zeroizing::new(key.serialize_der()),
            authority: authority.certificate,
        })
    }
}

impl Authority {
    /// What a node has to know of the authority before the first contact.
    pub(crate) fn fingerprint(&self) -> String {
        sha256_hex(&[&self.certificate])
    }

    /// Signs the key of a request; whatever else the request asks for is not given.
    pub(crate) fn sign(
        &self,
        request: &[u8],
        name: &str,
        now: Timestamp,
    ) -> Result<Vec<u8>, MarketError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| MarketError::invalid("csr", error.to_string()))?;
        let mut params = params(name, now, CERTIFICATE)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(failed)?;
        Ok(certificate.der().to_vec())
    }
}

fn params(
    name: &str,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, MarketError> {
    let now = OffsetDateTime::from_unix_timestamp(now.as_second()).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.not_before = now - SLACK;
    params.not_after = now + lifetime;
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> MarketError {
    MarketError::internal("a certificate could not be made")(error.into())
}
