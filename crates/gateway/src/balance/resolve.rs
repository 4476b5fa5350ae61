//! From the host of a target to addresses that may be connected to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use model::{AddressPolicy, UpstreamUrl};
use tokio::{net::lookup_host, time::timeout};

const KEEP: Duration = Duration::from_secs(10);

/// A host and port that connections go to. All targets there, of whatever deployment, share the connections, so that
/// their number depends on the calls in flight and not on how many routes lead to the same place.
pub(crate) struct Endpoint {
    /// Tells endpoints apart within the process.
    pub(crate) number: u64,
    pub(crate) resolver: Resolver,
}

/// The endpoints of a snapshot, by host and port.
#[derive(Default)]
pub(crate) struct Endpoints(HashMap<(Box<str>, u16), Arc<Endpoint>>);

/// Resolves the host of one endpoint, and remembers the answer for a while.
pub(crate) struct Resolver {
    host: Host,
    port: u16,
}

enum Host {
    Address(IpAddr),
    Name { name: Box<str>, known: Mutex<Known> },
}

#[derive(Default)]
struct Known {
    addresses: Arc<[SocketAddr]>,
    /// Nanoseconds since the process began.
    until: u64,
}

/// Why a host has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResolveError {
    /// The name is not known, or nobody answered in time.
    Unknown,
    /// All its addresses are forbidden to the installation.
    Forbidden,
}

impl Endpoints {
    /// The endpoint of an address; a new one when it is not known yet.
    pub(crate) fn at(&mut self, url: &UpstreamUrl) -> Arc<Endpoint> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let make = || {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Arc::new(Endpoint { number, resolver: Resolver::new(url) })
        };
        Arc::clone(self.0.entry((url.host().into(), url.port())).or_insert_with(make))
    }

    /// Keeps an endpoint that is in use.
    pub(crate) fn keep(&mut self, url: &UpstreamUrl, endpoint: &Arc<Endpoint>) {
        self.0.insert((url.host().into(), url.port()), Arc::clone(endpoint));
    }
}

impl Resolver {
    pub(crate) fn new(url: &UpstreamUrl) -> Self {
        let bare = url.host().trim_start_matches('[').trim_end_matches(']');
        let host = match bare.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name { name: bare.into(), known: Mutex::default() },
        };
        Self { host, port: url.port() }
    }

    /// The addresses that may be connected to. Each one is checked each time, so that a name that changes its mind
    /// gains nothing.
    pub(crate) async fn addresses(
        &self,
        policy: &AddressPolicy,
        patience: Duration,
        now: u64,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let all = match &self.host {
            Host::Address(address) => Arc::from([SocketAddr::new(*address, self.port)]),
            Host::Name { name, known } => look_up(name, self.port, known, patience, now).await?,
        };
        let permitted: Vec<_> =
            all.iter().copied().filter(|address| policy.permits(address.ip())).collect();
        if permitted.is_empty() { Err(ResolveError::Forbidden) } else { Ok(permitted) }
    }
}

/// Answers from memory while that is fresh, and from stale memory when nobody else answers.
async fn look_up(
    name: &str,
    port: u16,
    known: &Mutex<Known>,
    patience: Duration,
    now: u64,
) -> Result<Arc<[SocketAddr]>, ResolveError> {
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    let stale = {
        let known = lock();
        if now < known.until {
            return Ok(Arc::clone(&known.addresses));
        }
        Arc::clone(&known.addresses)
    };
    let found: Arc<[SocketAddr]> = match timeout(patience, lookup_host((name, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) | Err(_) => stale,
    };
    if found.is_empty() {
        return Err(ResolveError::Unknown);
    }
    let keep = u64::try_from(KEEP.as_nanos()).unwrap_or(u64::MAX);
    *lock() = Known { addresses: Arc::clone(&found), until: now.saturating_add(keep) };
    Ok(found)
}
