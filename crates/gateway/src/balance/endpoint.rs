//! Where connections to targets go: an address, how it is reached, and the way from its host to addresses that may be
//! connected to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use model::{AddressPolicy, Protocol, UpstreamTls, UpstreamUrl};
use tokio::{net::lookup_host, time::timeout};

use super::tls::{Tls, TlsSettings};

/// How long an answer is good for.
pub(super) const KEEP: Duration = Duration::from_secs(10);
/// Of a name with more addresses only so many are known.
const ADDRESSES_MAX: usize = 64;

/// How soon after a connection was refused for being one too many idle ones are given up, in nanoseconds.
const PRESSED: u64 = 2_000_000_000;

/// Where connections go to, and how. All targets there, of whatever deployment, share the connections, so that their
/// number depends on the calls in flight and not on how many routes lead to the same place. Those that are reached by
/// other certificates or another protocol are other endpoints.
pub(crate) struct Endpoint {
    /// Tells endpoints apart within the process.
    pub(crate) number: u64,
    key: Key,
    pub(crate) resolver: Resolver,
    pub(super) tls: Option<Tls>,
    open: AtomicU32,
    pressed_until: AtomicU64,
    /// Whether the last connection spoke HTTP/2, when that is up to the target.
    speaks_http2: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    host: Box<str>,
    port: u16,
    tls: Option<UpstreamTls>,
    protocol: Protocol,
}

/// The endpoints of a snapshot.
#[derive(Default)]
pub(crate) struct Endpoints {
    known: HashMap<Key, Arc<Endpoint>>,
    tls: Option<TlsSettings>,
}

/// One open connection, counted until dropped.
pub(super) struct Open(Arc<Endpoint>);

/// Resolves the host of one endpoint, and remembers the answer for a while.
pub(crate) struct Resolver {
    host: Host,
    port: u16,
    /// Which of several addresses comes first the next time.
    next: AtomicUsize,
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
    pub(crate) fn at(
        &mut self,
        url: &UpstreamUrl,
        protocol: Protocol,
        tls: &UpstreamTls,
    ) -> Arc<Endpoint> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let protocol = match protocol {
            Protocol::Auto if !url.is_secure() => Protocol::Http1,
            protocol => protocol,
        };
        let key = Key {
            host: url.host().into(),
            port: url.port(),
            tls: url.is_secure().then(|| tls.clone()),
            protocol,
        };
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        let tls = key.tls.as_ref().map(|wanted| {
            let settings = self.tls.get_or_insert_default();
            Tls::new(settings, wanted, bare(url), protocol)
        });
        let endpoint = Arc::new(Endpoint {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            resolver: Resolver::new(url),
            tls,
            key: key.clone(),
            open: AtomicU32::new(0),
            pressed_until: AtomicU64::new(0),
            speaks_http2: AtomicBool::new(false),
        });
        self.known.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// Keeps an endpoint that is in use, and with it the sessions that can be resumed.
    pub(crate) fn keep(&mut self, endpoint: &Arc<Endpoint>) {
        if let Some(tls) = &endpoint.tls {
            self.tls.get_or_insert_default().keep(tls);
        }
        self.known.insert(endpoint.key.clone(), Arc::clone(endpoint));
    }
}

impl Endpoint {
    /// Counts one more connection, unless there are `most`.
    pub(super) fn open(self: &Arc<Self>, most: u32, now: u64) -> Option<Open> {
        if self.open.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Open(Arc::clone(self)));
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.pressed_until.store(now.saturating_add(PRESSED), Ordering::Relaxed);
        None
    }

    /// Whether calls were refused of late because there are too many connections.
    pub(super) fn is_pressed(&self, now: u64) -> bool {
        self.pressed_until.load(Ordering::Relaxed) > now
    }

    /// What calls are written in.
    pub(super) const fn protocol(&self) -> Protocol {
        self.key.protocol
    }

    /// Whether one connection is likely to carry many calls at once.
    pub(super) fn expects_http2(&self) -> bool {
        match self.key.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.speaks_http2.load(Ordering::Relaxed),
        }
    }

    pub(super) fn saw_http2(&self, is_http2: bool) {
        if self.key.protocol == Protocol::Auto {
            self.speaks_http2.store(is_http2, Ordering::Relaxed);
        }
    }
}

impl Open {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The host of a URL without the brackets of an IPv6 address.
fn bare(url: &UpstreamUrl) -> &str {
    url.host().trim_start_matches('[').trim_end_matches(']')
}

impl Resolver {
    pub(crate) fn new(url: &UpstreamUrl) -> Self {
        let host = match bare(url).parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name { name: bare(url).into(), known: Mutex::default() },
        };
        Self { host, port: url.port(), next: AtomicUsize::new(0) }
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
        let mut permitted: Vec<_> =
            all.iter().copied().filter(|address| policy.permits(address.ip())).collect();
        if permitted.is_empty() {
            return Err(ResolveError::Forbidden);
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) % permitted.len();
        permitted.rotate_left(first);
        Ok(permitted)
    }

    /// Whether it is a name, whose addresses may change.
    pub(super) const fn is_name(&self) -> bool {
        matches!(self.host, Host::Name { .. })
    }

    /// Asks for the addresses anew. When nobody answers, those known before stay.
    pub(super) async fn refresh(&self, patience: Duration, now: u64) {
        if let Host::Name { name, known } = &self.host {
            forget_age(known);
            // An error is told to the call that needs an address.
            let _ = look_up(name, self.port, known, patience, now).await;
        }
    }

    /// Whether connections to `address` still lead to the host.
    pub(super) fn leads_to(&self, address: SocketAddr) -> bool {
        match &self.host {
            Host::Address(_) => true,
            Host::Name { known, .. } => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.addresses.is_empty() || known.addresses.contains(&address)
            }
        }
    }
}

fn forget_age(known: &Mutex<Known>) {
    known.lock().unwrap_or_else(PoisonError::into_inner).until = 0;
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
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        Ok(Err(_)) | Err(_) => stale,
    };
    if found.is_empty() {
        return Err(ResolveError::Unknown);
    }
    let keep = u64::try_from(KEEP.as_nanos()).unwrap_or(u64::MAX);
    *lock() = Known { addresses: Arc::clone(&found), until: now.saturating_add(keep) };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    /// The resolver of a name that nobody knows, with addresses from an earlier answer.
    fn stale(addresses: &[SocketAddr]) -> Resolver {
        let known = Known { addresses: addresses.into(), until: 0 };
        let host = Host::Name { name: "nobody.invalid".into(), known: Mutex::new(known) };
        Resolver { host, port: 80, next: AtomicUsize::new(0) }
    }

    fn ask(resolver: &Resolver, policy: &AddressPolicy) -> Result<Vec<SocketAddr>, ResolveError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(resolver.addresses(policy, Duration::from_secs(5), SECOND))
    }

    fn everywhere() -> AddressPolicy {
        AddressPolicy::allowing(vec![model::Network::parse("0.0.0.0/0").unwrap()])
    }

    #[test]
    fn the_last_answer_stays_when_nobody_answers() {
        let resolver = stale(&[address(1)]);
        assert_eq!(ask(&resolver, &everywhere()), Ok(vec![address(1)]));
        assert_eq!(ask(&stale(&[]), &everywhere()), Err(ResolveError::Unknown));
    }

    #[test]
    fn the_addresses_of_a_name_take_turns() {
        let resolver = stale(&[address(1), address(2), address(3)]);
        let firsts: Vec<_> = (0..4).map(|_| ask(&resolver, &everywhere()).unwrap()[0]).collect();
        assert_eq!(firsts, [address(1), address(2), address(3), address(1)]);
    }

    #[test]
    fn addresses_that_are_not_permitted_are_left_out() {
        let one = AddressPolicy::allowing(vec![model::Network::parse("10.0.0.2").unwrap()]);
        let resolver = stale(&[address(1), address(2)]);
        assert_eq!(ask(&resolver, &one), Ok(vec![address(2)]));
        assert_eq!(ask(&stale(&[address(1)]), &one), Err(ResolveError::Forbidden));
    }

    #[test]
    fn connections_lead_where_the_name_does() {
        let resolver = stale(&[address(1), address(2)]);
        assert!(resolver.leads_to(address(2)) && !resolver.leads_to(address(3)));
        // Nothing is known yet, which is no reason to close anything.
        assert!(stale(&[]).leads_to(address(3)));
    }

    #[test]
    fn connections_are_counted_while_they_are_open() {
        let url = UpstreamUrl::parse("http://10.0.0.1").unwrap();
        let endpoint = Endpoints::default().at(&url, Protocol::Auto, &UpstreamTls::default());
        let one = endpoint.open(2, 0);
        let two = endpoint.open(2, 0);
        assert!(one.is_some() && two.is_some() && !endpoint.is_pressed(0));
        assert!(endpoint.open(2, 0).is_none() && endpoint.is_pressed(0));
        drop(one);
        assert!(endpoint.open(2, 0).is_some());
    }

    #[test]
    fn endpoints_are_shared_only_by_those_that_are_reached_alike() {
        let mut endpoints = Endpoints::default();
        let plain = UpstreamUrl::parse("http://10.0.0.1:443").unwrap();
        let secure = UpstreamUrl::parse("https://10.0.0.1").unwrap();
        let (none, named) = (
            UpstreamTls::default(),
            UpstreamTls { server_name: Some("lab.example".to_owned()), ..UpstreamTls::default() },
        );
        let mut at = |url, protocol, tls| endpoints.at(url, protocol, tls).number;
        let numbers = [
            at(&plain, Protocol::Auto, &none),
            at(&plain, Protocol::Http2, &none),
            at(&secure, Protocol::Auto, &none),
            at(&secure, Protocol::Http1, &none),
            at(&secure, Protocol::Auto, &named),
        ];
        let different: std::collections::HashSet<_> = numbers.into_iter().collect();
        assert_eq!(different.len(), numbers.len());
        // What concerns TLS alone makes no difference without it.
        assert_eq!(at(&plain, Protocol::Http1, &named), numbers[0]);
        assert_eq!(at(&secure, Protocol::Auto, &named), numbers[4]);
    }
}
