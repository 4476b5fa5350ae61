//! Who a gateway is: enrolled once, kept sealed under a key of its own machine.

use std::{path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use journal::{Key, SealedError};
use model::NodeId;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    client::{self, CallError, Line},
    tls::{self, TlsError},
    wire::{ENROL, EnrolAnswer, EnrolRequest, Octets, RENEW, RenewAnswer, RenewRequest},
};

/// Of thirty days of a certificate's life, the last ten are there for renewing it.
const RENEWAL: SignedDuration = SignedDuration::from_hours(10 * 24);

/// Who this gateway is, with its private key. It has no `Debug`.
#[derive(Serialize, Deserialize)]
pub struct Identity {
    node: NodeId,
    certificate: Octets,
    expires_at: Timestamp,
    private_key: Octets,
    authority: Octets,
    credential_key: Octets,
}

/// Why a gateway has no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token is not one.
    #[error("the token for enrolling this gateway is not of the form cadnode_…")]
    Token,
    /// The request failed.
    #[error("this gateway could not be enrolled")]
    Call(#[from] CallError),
    /// No key pair could be made.
    #[error("no key pair could be made")]
    KeyPair(#[from] rcgen::Error),
    /// What the control plane gave cannot be used.
    #[error("the certificate cannot be used")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The identity cannot be read or written.
    #[error("the identity of this gateway cannot be kept")]
    Sealed(#[from] SealedError),
    /// The identity on disk has another form.
    #[error("the identity of this gateway has another form")]
    Form(#[from] serde_json::Error),
}

impl From<TlsError> for EnrolError {
    fn from(error: TlsError) -> Self {
        Self::Certificate(error.into())
    }
}

impl Identity {
    /// Reads the identity; none before the gateway was enrolled.
    pub fn load(path: &Path, key: &Key) -> Result<Option<Self>, EnrolError> {
        let Some(bytes) = journal::read_sealed(path, key)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&Zeroizing::new(bytes))?))
    }

    /// Keeps it for the next start.
    pub fn keep(&self, path: &Path, key: &Key) -> Result<(), EnrolError> {
        let bytes = Zeroizing::new(serde_json::to_vec(self)?);
        Ok(journal::write_sealed(path, key, &bytes)?)
    }

    /// Its name in the control plane.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// When its certificate ends.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The key under which API keys are recognised.
    pub fn credential_key(&self) -> Result<[u8; 32], EnrolError> {
        self.credential_key
            .0
            .as_slice()
            .try_into()
            .map_err(|error: std::array::TryFromSliceError| EnrolError::Certificate(error.into()))
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.expires_at - RENEWAL
    }

    pub(crate) fn line(&self, address: &str) -> Result<Line, EnrolError> {
        let tls = tls::client(&self.authority.0, &self.certificate.0, &self.private_key.0)?;
        Ok(Line { address: address.to_owned(), tls })
    }

    /// The same node with a new key and certificate. The present certificate is accepted until the new one was used.
    pub async fn renewed(&self, address: &str) -> Result<Self, EnrolError> {
        let (private_key, csr) = key_and_request()?;
        let request = client::to_json(&RenewRequest { csr })?;
        let answer = self.line(address)?.post(RENEW, request).await?;
        let answer: RenewAnswer = client::json(&answer)?;
        Ok(Self {
            node: self.node,
            certificate: answer.certificate,
            expires_at: answer.expires_at,
            private_key,
            authority: Octets(self.authority.0.clone()),
            credential_key: Octets(self.credential_key.0.clone()),
        })
    }
}

/// Enrols this gateway at the control plane's feed with a one-time token. The private key never leaves the machine.
pub async fn enrol(address: &str, token: &str) -> Result<Identity, EnrolError> {
    let (fingerprint, secret) = parse_token(token).ok_or(EnrolError::Token)?;
    let (config, pinned) = tls::newcomer(fingerprint)?;
    let line = Line { address: address.to_owned(), tls: Arc::clone(&config) };
    let (private_key, csr) = key_and_request()?;
    let request = client::to_json(&EnrolRequest { secret: secret.to_owned(), csr })?;
    let answer = line.post(ENROL, request).await?;
    let answer: EnrolAnswer = client::json(&answer)?;
    let authority = pinned.authority().ok_or(EnrolError::Token)?;
    Ok(Identity {
        node: answer.node,
        certificate: answer.certificate,
        expires_at: answer.expires_at,
        private_key,
        authority: Octets::new(authority.to_vec()),
        credential_key: answer.credential_key,
    })
}

fn key_and_request() -> Result<(Octets, Octets), EnrolError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&key)?;
    Ok((Octets::new(key.serialize_der()), Octets::new(csr.der().to_vec())))
}

/// The authority's fingerprint and the secret.
fn parse_token(token: &str) -> Option<([u8; 32], &str)> {
    let (fingerprint, secret) = token.trim().strip_prefix("cadnode_")?.split_once('.')?;
    if fingerprint.len() != 64 || !fingerprint.is_ascii() || secret.is_empty() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(fingerprint.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some((bytes, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_fingerprint_and_a_secret() {
        let token = format!("cadnode_{}.hush", "0a".repeat(32));
        assert_eq!(parse_token(&token), Some(([10; 32], "hush")));
        for wrong in ["", "cadnode_0a.hush", &token[1..], token.trim_end_matches("hush")] {
            assert_eq!(parse_token(wrong), None, "{wrong}");
        }
    }
}
