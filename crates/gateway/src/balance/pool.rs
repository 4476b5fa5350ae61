//! Connections to targets, kept by each worker for itself.
//!
//! Nobody watches an idle connection. Whoever takes one from the pool drives it within its own task, so that a call
//! costs no hand-over between tasks; that a target has closed it shows as soon as it is used.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future as _,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use model::AddressPolicy;
use tokio::{net::TcpStream, time::timeout};

use super::{Target, resolve::ResolveError};
use crate::body::RequestBody;

/// How many steps a connection may take in one turn.
const STEPS_MAX: usize = 16;

/// A connection to a target, with whoever drives it.
///
/// It is large and changes hands often, so it is passed on in a box.
pub(crate) struct UpstreamConnection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Dropped as soon as it has ended, which is what ends the calls that wait for it.
    driver: Option<Connection<TokioIo<TcpStream>, RequestBody>>,
    waker: Arc<DrivenWaker>,
    endpoint: u64,
    /// Whether it has carried a call before.
    pub(crate) reused: bool,
}

/// Wakes the call that drives a connection, unless that is what is running right now.
///
/// The halves of a connection wake each other at every step. Within one call these wakes mean only that it has to
/// look again, which [`UpstreamConnection::drive`] does at once and without a detour over the scheduler.
#[derive(Default)]
struct DrivenWaker {
    driving: AtomicBool,
    woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

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

impl UpstreamConnection {
    /// Reads and writes as far as possible now, and asks `look` after each step for what has come of it.
    pub(crate) fn drive<T>(
        &mut self,
        context: &mut Context<'_>,
        mut look: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.waker.pass_on_to(context.waker());
        let waker = Waker::from(Arc::clone(&self.waker));
        let mut inner = Context::from_waker(&waker);
        self.waker.driving.store(true, Ordering::Relaxed);
        let mut outcome = Poll::Pending;
        for _ in 0..STEPS_MAX {
            self.waker.woken.store(false, Ordering::Relaxed);
            self.step(&mut inner);
            outcome = look(&mut inner);
            if outcome.is_ready() || !self.waker.woken.load(Ordering::Relaxed) {
                break;
            }
        }
        self.waker.driving.store(false, Ordering::Relaxed);
        if outcome.is_pending() && self.waker.woken.load(Ordering::Relaxed) {
            // Others want to run as well: this call goes on in its next turn.
            context.waker().wake_by_ref();
        }
        outcome
    }

    /// Comes to rest after a call; says whether it can carry another.
    pub(crate) fn settle(&mut self) -> bool {
        self.waker.pass_on_to(Waker::noop());
        let waker = Waker::from(Arc::clone(&self.waker));
        self.step(&mut Context::from_waker(&waker));
        self.driver.is_some() && self.sender.is_ready()
    }

    fn step(&mut self, context: &mut Context<'_>) {
        let Some(driver) = &mut self.driver else { return };
        if Pin::new(driver).poll(context).is_ready() {
            self.driver = None;
        }
    }
}

impl DrivenWaker {
    fn pass_on_to(&self, waker: &Waker) {
        let mut outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        if !outer.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *outer = Some(waker.clone());
        }
    }
}

impl Wake for DrivenWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.driving.load(Ordering::Relaxed) {
            self.woken.store(true, Ordering::Relaxed);
            return;
        }
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(outer) = outer {
            outer.wake();
        }
    }
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
        connection.reused = true;
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
    let handshake = http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let Ok((sender, driver)) = handshake else { return Err(ConnectError::Unreachable) };
    Ok(Box::new(UpstreamConnection {
        sender,
        driver: Some(driver),
        waker: Arc::default(),
        endpoint: target.endpoint.number,
        reused: false,
    }))
}
