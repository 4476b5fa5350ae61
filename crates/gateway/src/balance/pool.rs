//! Connections to targets, kept by each worker for itself.
//!
//! Nobody watches an idle connection: that a target has closed it shows as soon as it is to be used.

use std::{
    cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc, time::Duration,
};

use model::{AddressPolicy, Protocol};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Endpoint, Target, UpstreamConnection, endpoint::ResolveError, http1::Http1, http2::Link,
    stream::UpstreamStream, tls::HandshakeError,
};

/// The most connections of HTTP/2 that a worker has to one endpoint.
const LINKS_MAX: usize = 8;

/// Why a target could not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    Unreachable,
    /// The installation may not connect to its address.
    Forbidden,
    /// Its certificate is not to be trusted.
    Certificate,
    /// There are as many connections to it as there may be.
    TooMany,
}

/// What a connection is opened for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need<'call> {
    pub(crate) policy: &'call AddressPolicy,
    pub(crate) patience: Duration,
    /// The most connections to the target.
    pub(crate) most: u32,
    /// Whether the protocol is to be switched, which takes HTTP/1.1.
    pub(crate) only_http1: bool,
    pub(crate) now: u64,
}

/// The connections of one worker that wait for calls, or carry many.
pub(crate) struct Pool {
    idle: RefCell<Map<Vec<Idle>>>,
    links: RefCell<Map<Vec<Rc<Link>>>>,
    /// Held while a connection for many calls is opened, so that all who wait for it share it.
    gates: RefCell<Map<Rc<Mutex<()>>>>,
    max_idle: usize,
    idle_timeout: u64,
}

type Map<T> = HashMap<u64, T, ahash::RandomState>;

struct Idle {
    connection: Box<UpstreamConnection>,
    since: u64,
}

/// A new connection.
enum Opened {
    Http1(Box<UpstreamConnection>),
    Http2(Rc<Link>),
}

impl Pool {
    pub(crate) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        let idle_timeout = u64::try_from(idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        Self {
            idle: RefCell::default(),
            links: RefCell::default(),
            gates: RefCell::default(),
            max_idle,
            idle_timeout,
        }
    }

    /// Takes the connection to where `target` is that was used last.
    pub(crate) fn take(
        &self,
        target: &Target,
        only_http1: bool,
    ) -> Option<Box<UpstreamConnection>> {
        let endpoint = &target.endpoint;
        if endpoint.protocol() != Protocol::Http1
            && !only_http1
            && let Some(seat) = self.seat(endpoint)
        {
            return Some(seat);
        }
        let idle = self.idle.borrow_mut().get_mut(&endpoint.number)?.pop()?;
        Some(idle.connection)
    }

    /// A place on a connection that carries many calls.
    fn seat(&self, endpoint: &Endpoint) -> Option<Box<UpstreamConnection>> {
        let links = self.links.borrow();
        let seat = links.get(&endpoint.number)?.iter().find_map(Link::seat)?;
        Some(Box::new(UpstreamConnection::Http2(seat)))
    }

    /// A place on the least busy of as many connections as there may be; the call waits there for its turn.
    fn place_in_line(&self, endpoint: u64) -> Option<Box<UpstreamConnection>> {
        let links = self.links.borrow();
        let usable = || links.get(&endpoint).into_iter().flatten().filter(|link| link.is_usable());
        if usable().count() < LINKS_MAX {
            return None;
        }
        let link = usable().min_by_key(|link| link.calls())?;
        Some(Box::new(UpstreamConnection::Http2(link.place_in_line())))
    }

    /// Keeps a connection whose call has ended.
    pub(crate) fn put(&self, mut connection: Box<UpstreamConnection>, now: u64) {
        let UpstreamConnection::Http1(http1) = connection.as_mut() else { return };
        http1.rest();
        let endpoint = http1.open.endpoint();
        if endpoint.is_pressed(now) {
            return;
        }
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(endpoint.number).or_default();
        if idle.len() < self.max_idle {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Opens a connection to `target`.
    pub(crate) async fn connect(
        &self,
        target: &Arc<Target>,
        need: Need<'_>,
    ) -> Result<Box<UpstreamConnection>, ConnectError> {
        let number = target.endpoint.number;
        let end = Instant::now() + need.patience;
        let shared = target.endpoint.expects_http2() && !need.only_http1;
        let gate = shared.then(|| Rc::clone(self.gates.borrow_mut().entry(number).or_default()));
        let _one_at_a_time = match &gate {
            Some(gate) => {
                let entered = timeout_at(end, gate.lock()).await;
                let entered = entered.map_err(|_late| ConnectError::Unreachable)?;
                let seat = self.seat(&target.endpoint).or_else(|| self.place_in_line(number));
                if let Some(seat) = seat {
                    return Ok(seat);
                }
                Some(entered)
            }
            None => None,
        };
        match timeout_at(end, open(target, need)).await {
            Ok(Ok(Opened::Http1(connection))) => Ok(connection),
            Ok(Ok(Opened::Http2(link))) => {
                let seat = link.seat().ok_or(ConnectError::Unreachable)?;
                let mut links = self.links.borrow_mut();
                let links = links.entry(number).or_default();
                links.retain(|link| link.is_usable());
                if links.len() < LINKS_MAX {
                    links.push(link);
                }
                Ok(Box::new(UpstreamConnection::Http2(seat)))
            }
            Ok(Err(error)) => Err(error),
            Err(_late) => Err(ConnectError::Unreachable),
        }
    }

    /// Closes the connections that have been idle for too long, that lead to where no target in use is any more, and
    /// those that others are waiting for.
    pub(crate) fn sweep(&self, now: u64, in_use: impl Fn(u64) -> bool) {
        let stays = |endpoint: &Endpoint, peer: Option<SocketAddr>| {
            in_use(endpoint.number)
                && !endpoint.is_pressed(now)
                && (!endpoint.resolver.is_name()
                    || peer.is_none_or(|peer| endpoint.resolver.leads_to(peer)))
        };
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| {
                let UpstreamConnection::Http1(http1) = idle.connection.as_ref() else {
                    return false;
                };
                now.saturating_sub(idle.since) < self.idle_timeout
                    && stays(http1.open.endpoint(), http1.peer)
            });
            !idle.is_empty()
        });
        // Calls that a connection carries are finished when nothing leads to it any more.
        self.links.borrow_mut().retain(|_, links| {
            links.retain(|link| {
                link.is_usable()
                    && !link.is_idle_since(now.saturating_sub(self.idle_timeout), now)
                    && stays(link.open.endpoint(), link.peer)
            });
            !links.is_empty()
        });
        self.gates.borrow_mut().retain(|_, gate| Rc::strong_count(gate) > 1);
    }
}

/// Opens a connection that is used for one request and kept by nobody.
pub(crate) async fn connect_once(
    target: &Arc<Target>,
    need: Need<'_>,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    match open(target, need).await? {
        Opened::Http1(connection) => Ok(connection),
        Opened::Http2(link) => {
            let seat = link.seat().map(UpstreamConnection::Http2);
            seat.map(Box::new).ok_or(ConnectError::Unreachable)
        }
    }
}

async fn open(target: &Arc<Target>, need: Need<'_>) -> Result<Opened, ConnectError> {
    let endpoint = &target.endpoint;
    let Need { policy, patience, most, only_http1, now } = need;
    let counted = endpoint.open(most, now).ok_or(ConnectError::TooMany)?;
    let addresses = match endpoint.resolver.addresses(policy, patience, now).await {
        Ok(addresses) => addresses,
        Err(ResolveError::Forbidden) => return Err(ConnectError::Forbidden),
        Err(ResolveError::Unknown) => return Err(ConnectError::Unreachable),
    };
    let connecting = TcpStream::connect(addresses.as_slice());
    let Ok(Ok(stream)) = timeout(patience, connecting).await else {
        return Err(ConnectError::Unreachable);
    };
    // Without it small requests would wait for an acknowledgement; a target works either way.
    let _ = stream.set_nodelay(true);
    let (stream, is_http2) = match &endpoint.tls {
        None => (UpstreamStream::Plain(stream), endpoint.protocol() == Protocol::Http2),
        Some(tls) => tls.protect(stream, only_http1).await.map_err(|error| match error {
            HandshakeError::Certificate => ConnectError::Certificate,
            HandshakeError::Failed => ConnectError::Unreachable,
        })?,
    };
    if !is_http2 {
        if !only_http1 {
            endpoint.saw_http2(false);
        }
        let connection = UpstreamConnection::Http1(Http1::new(stream, counted));
        return Ok(Opened::Http1(Box::new(connection)));
    }
    let link = Link::open(stream, counted, now).await;
    let link = link.map_err(|_error| ConnectError::Unreachable)?;
    endpoint.saw_http2(true);
    Ok(Opened::Http2(link))
}
