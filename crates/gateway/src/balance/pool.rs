//! Connections to targets, kept by each worker for itself.
//!
//! Nobody watches an idle connection: that a target has closed it shows as soon as it is to be used.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Duration};

use model::AddressPolicy;
use tokio::{net::TcpStream, time::timeout};

use super::{Target, UpstreamConnection, resolve::ResolveError};

/// Why a target could not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    Unreachable,
    /// The installation may not connect to its address.
    Forbidden,
}

/// The idle connections of one worker.
pub(crate) struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>, ahash::RandomState>>,
    max_idle: usize,
    idle_timeout: u64,
}

struct Idle {
    connection: Box<UpstreamConnection>,
    since: u64,
}

impl Pool {
    pub(crate) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        let idle_timeout = u64::try_from(idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { idle: RefCell::default(), max_idle, idle_timeout }
    }

    /// Takes the connection to where `target` is that was used last.
    pub(crate) fn take(&self, target: &Target) -> Option<Box<UpstreamConnection>> {
        let idle = self.idle.borrow_mut().get_mut(&target.endpoint.number)?.pop()?;
        Some(idle.connection)
    }

    /// Keeps a connection whose call has ended.
    pub(crate) fn put(&self, mut connection: Box<UpstreamConnection>, now: u64) {
        connection.rest();
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(connection.endpoint).or_default();
        if idle.len() < self.max_idle {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes the connections that have been idle for too long.
    pub(crate) fn sweep(&self, now: u64) {
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| now.saturating_sub(idle.since) < self.idle_timeout);
            !idle.is_empty()
        });
    }
}

/// Opens a connection to `target`.
pub(crate) async fn connect(
    target: &Arc<Target>,
    policy: &AddressPolicy,
    patience: Duration,
    now: u64,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    let addresses = match target.endpoint.resolver.addresses(policy, patience, now).await {
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
    Ok(Box::new(UpstreamConnection::new(stream, target.endpoint.number)))
}
