//! What an operator decides about a gateway, and the keys it works with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use model::{AccessField, AddressPolicy, Network};
use zeroize::Zeroizing;

/// What an operator decides about a gateway.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Where calls are accepted; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where calls over TLS are accepted, if anywhere.
    pub tls: Option<TlsSettings>,
    /// Whether clients may speak HTTP/2 without TLS (h2c, with prior knowledge).
    pub accepts_h2c: bool,
    /// How many threads carry calls, at least 1. Each has its own connections and shares only decisions.
    pub workers: usize,
    /// Where the last good state and the usage journals are kept.
    pub state_dir: PathBuf,
    /// Which addresses targets may have.
    pub address_policy: AddressPolicy,
    /// Proxies in front of the gateway whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<Network>,
    /// The largest request head, in bytes.
    pub max_header_bytes: usize,
    /// The most header fields of a request.
    pub max_headers: usize,
    /// How long a client may take to send a head.
    pub header_timeout: Duration,
    /// How long a connection may be idle between calls.
    pub idle_timeout: Duration,
    /// The most client connections at once, over all workers.
    pub max_connections: usize,
    /// The largest request body that is compared with the specification, in bytes.
    pub max_validated_bytes: u64,
    /// How long connecting to a target may take.
    pub connect_timeout: Duration,
    /// The most idle connections that a worker keeps to one target.
    pub max_idle_upstream: usize,
    /// How long an idle connection to a target is kept.
    pub upstream_idle_timeout: Duration,
    /// How many wrong credentials a client address may present in a minute before it is told to wait.
    pub failed_credentials_per_minute: u32,
    /// After how long without news its state is too old; never, when absent.
    pub max_age: Option<Duration>,
    /// What it does then.
    pub when_too_old: WhenTooOld,
    /// The most routes with metrics of their own; calls of others are counted under the route `other`.
    pub max_route_series: usize,
    /// Where each call is written down for operators, if anywhere.
    pub access_log: Option<AccessLogSettings>,
    /// Which calls are traced, if any.
    pub tracing: Option<TracingSettings>,
}

/// How calls are written down for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where to.
    pub destination: AccessLogDestination,
    /// What of them.
    pub fields: Vec<AccessField>,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogDestination {
    /// Standard output.
    Stdout,
    /// The end of this file, which is opened anew when it was renamed or removed.
    File(PathBuf),
}

/// Which calls are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TracingSettings {
    /// Which part of all traces, 0 to 1.
    pub sample_ratio: f64,
    /// Whether calls whose clients ask for it are traced too, within a bound.
    pub is_parent_based: bool,
}

/// What a gateway does whose state is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenTooOld {
    /// It serves on, and says so.
    Serve,
    /// It answers no call until news comes.
    Refuse,
}

/// How a gateway speaks TLS.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Where calls over TLS are accepted; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The folder of certificates, see [`crate::Certificates`].
    pub certificates: PathBuf,
    /// Whether clients that come without TLS are sent to the listener with it, on this port; otherwise both serve.
    pub redirect_to: Option<u16>,
    /// For how many seconds browsers are to insist on TLS (RFC 6797); 0 says nothing about it.
    pub hsts_seconds: u64,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            accepts_h2c: false,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            state_dir: PathBuf::from("gateway"),
            address_policy: AddressPolicy::default(),
            trusted_proxies: Vec::new(),
            max_header_bytes: 32 << 10,
            max_headers: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_connections: 20_000,
            max_validated_bytes: 1 << 20,
            connect_timeout: Duration::from_secs(3),
            max_idle_upstream: 128,
            upstream_idle_timeout: Duration::from_secs(30),
            failed_credentials_per_minute: 30,
            max_age: None,
            when_too_old: WhenTooOld::Serve,
            max_route_series: 5_000,
            access_log: None,
            tracing: None,
        }
    }
}

/// The keys of a gateway. `Debug` shows none of them.
#[derive(Debug, Clone)]
pub struct GatewayKeys {
    /// Under which API keys are hashed; the same as where credentials are made.
    pub credential_key: CredentialKey,
    /// Encrypts the state on disk.
    pub state_key: journal::Key,
    /// Encrypts the usage journals.
    pub usage_key: journal::Key,
}

/// The key of the keyed hash (HMAC-SHA-256) of API keys.
#[derive(Clone)]
pub struct CredentialKey(Zeroizing<[u8; 32]>);

impl CredentialKey {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key in the form in which it hashes.
    pub(crate) fn hasher(&self) -> aws_lc_rs::hmac::Key {
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.0.as_slice())
    }

    /// The digest under which the credential `secret` is known.
    pub fn digest(&self, secret: &str) -> model::CredentialDigest {
        digest(&self.hasher(), secret.as_bytes())
    }
}

impl std::fmt::Debug for CredentialKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("CredentialKey")
    }
}

/// The digest of `secret` under a prepared key.
pub(crate) fn digest(key: &aws_lc_rs::hmac::Key, secret: &[u8]) -> model::CredentialDigest {
    let tag = aws_lc_rs::hmac::sign(key, secret);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    model::CredentialDigest(bytes)
}
