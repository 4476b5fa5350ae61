//! Stage 7: what is written down of a call, exactly once, however it ends.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use jiff::Timestamp;
use model::{Fault, SubscriptionId, UsageRecord};

use super::{identify::Caller, limit::Permit};
use crate::{
    balance::{Outcome, Place, UpstreamConnection},
    body::BodyWatch,
    connection::ConnectionState,
    metrics::UpstreamFault,
    table::Deployment,
    worker::Worker,
};

/// The status recorded for a client that went away before it was answered.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Gathers what is written down of a call. Dropped before the call has ended, it records that the client left.
pub(crate) struct Recorder {
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    method: Method,
    arrived: u64,
    at: Timestamp,
    status: Option<StatusCode>,
    upstream_nanos: u64,
    response_bytes: u64,
    pub(crate) deployment: Option<Arc<Deployment>>,
    pub(crate) caller: Option<Caller>,
    pub(crate) subscription: Option<SubscriptionId>,
    pub(crate) operation: Option<u16>,
    pub(crate) request_body: Option<Rc<BodyWatch>>,
    pub(crate) permits: Vec<Permit>,
    /// The call's place among those of its pool.
    pub(crate) place: Option<Place>,
    ended: bool,
}

impl Recorder {
    /// A call begins.
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        connection: &Rc<ConnectionState>,
        method: Method,
        arrived: u64,
        at: Timestamp,
    ) -> Self {
        connection.begin_call();
        Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            method,
            arrived,
            at,
            status: None,
            upstream_nanos: 0,
            response_bytes: 0,
            deployment: None,
            caller: None,
            subscription: None,
            operation: None,
            request_body: None,
            permits: Vec::new(),
            place: None,
            ended: false,
        }
    }

    /// The deployment is known.
    pub(crate) fn routed(&mut self, deployment: &Arc<Deployment>) {
        deployment.metrics.in_flight.inc();
        self.deployment = Some(Arc::clone(deployment));
    }

    /// The head of an answer is about to go out.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(crate) fn add_response_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// The caller waited this long for a target.
    pub(crate) fn add_upstream_nanos(&mut self, nanos: u64) {
        self.upstream_nanos += nanos;
    }

    /// Whether `deadline` has passed, as of the last tick.
    pub(crate) fn is_past(&self, deadline: u64) -> bool {
        self.worker.coarse_now() >= deadline
    }

    /// Something came of an answer that may go on as long as something does; says until when the next must.
    pub(crate) fn extend(&self, idle: u64) -> u64 {
        let deadline = self.worker.coarse_now().saturating_add(idle);
        self.connection.set_deadline(&self.worker.connections, deadline);
        deadline
    }

    /// Lends the memory that the connections of the worker read into.
    pub(crate) fn with_scratch<T>(&self, read: impl FnOnce(&mut [u8]) -> T) -> T {
        read(&mut self.worker.scratch.borrow_mut())
    }

    /// Gives back a connection that can carry another call.
    pub(crate) fn keep(&self, connection: Box<UpstreamConnection>) {
        self.worker.pool.put(connection, self.worker.coarse_now());
    }

    /// The answer broke off after its head was sent.
    pub(crate) fn break_off(&mut self, fault: UpstreamFault) {
        if let Some(deployment) = &self.deployment {
            deployment.metrics.count_failure(fault);
        }
        self.ended(Outcome::Failed);
        self.connection.set_broken();
        self.finish(fault.whose());
    }

    /// How the call ended is known, as far as its pool is concerned.
    pub(crate) fn ended(&mut self, outcome: Outcome) {
        if let Some(place) = &mut self.place {
            place.outcome = outcome;
        }
    }

    /// The call has ended, and the last of its answer may go out once this is written.
    pub(crate) fn finish(&mut self, fault: Fault) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.permits.clear();
        let now = self.worker.now();
        let took = now.saturating_sub(self.arrived);
        if let (Some(deployment), Some(place)) = (&self.deployment, self.place.take()) {
            deployment.upstream.leave(&place, now);
        }
        let metrics = &self.worker.shared.metrics;
        match &self.deployment {
            Some(deployment) => {
                deployment.metrics.in_flight.dec();
                let status = self.status.unwrap_or(StatusCode::BAD_REQUEST);
                let took = Duration::from_nanos(took);
                deployment.metrics.count(self.operation, &self.method, status, took);
                if self.upstream_nanos > 0 {
                    let waited = Duration::from_nanos(self.upstream_nanos);
                    deployment.metrics.count_upstream(waited);
                }
            }
            None => {
                metrics.unrouted.inc();
            }
        }
        let ticket = self.usage(took, fault).map(|record| self.worker.usage.record(&record));
        self.connection.end_call(&self.worker.connections, now, ticket);
    }

    /// The usage record, when it is known who called what.
    fn usage(&self, took: u64, fault: Fault) -> Option<UsageRecord> {
        let (deployment, caller) = (self.deployment.as_ref()?, self.caller?);
        let micros = |nanos: u64| u32::try_from(nanos / 1_000).unwrap_or(u32::MAX);
        Some(UsageRecord {
            at_micros: self.at.as_microsecond(),
            deployment: deployment.id,
            version: deployment.version,
            application: caller.application,
            credential: caller.credential,
            subscription: self.subscription,
            operation: self.operation,
            status: self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16()),
            fault,
            duration_micros: micros(took),
            upstream_micros: micros(self.upstream_nanos),
            request_bytes: self.request_body.as_ref().map_or(0, |watch| watch.bytes.get()),
            response_bytes: self.response_bytes,
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish(Fault::Client);
    }
}
