//! Stage 7: what is written down of a call, exactly once, however it ends.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use model::{Fault, SubscriptionId, UsageRecord};

use super::identify::Caller;
use crate::{
    access_log::{Line, millis},
    balance::{Outcome, Place, Target, UpstreamConnection},
    body::BodyWatch,
    connection::ConnectionState,
    fields::Fields,
    headers,
    limits::CounterKey,
    metrics::{UpstreamFault, method_name},
    random::write_traceparent,
    table::Deployment,
    trace::{AttributeValue, CallTrace, Span, SpanKind, Times, TraceContext},
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
    /// The counts of calls at once in which it is counted.
    pub(crate) at_once: Vec<CounterKey>,
    /// The call's place among those of its pool.
    pub(crate) place: Option<Place>,
    trace: Option<CallTrace>,
    /// What a failure is found by.
    request_id: Option<HeaderValue>,
    /// The client's address, for the access log.
    client: Option<IpAddr>,
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
            at_once: Vec::new(),
            place: None,
            trace: None,
            request_id: None,
            client: None,
            ended: false,
        }
    }

    /// With what logs, traces and records of failures say of it.
    pub(crate) fn with(
        mut self,
        trace: Option<CallTrace>,
        fields: &Fields,
        request_id: &HeaderValue,
    ) -> Self {
        self.trace = trace;
        self.request_id = Some(request_id.clone());
        if self.worker.access_log.is_some() {
            let trusted = &self.worker.shared.settings.trusted_proxies;
            let peer = self.connection.peer.address;
            self.client = Some(headers::client_address(fields, peer, trusted));
        }
        self
    }

    /// Whether the call's spans are exported.
    pub(crate) fn is_sampled(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.sampled.is_some())
    }

    /// The `traceparent` for targets, unless that of the client is passed on.
    pub(crate) fn traceparent(&self) -> Option<[u8; 55]> {
        let CallTrace { context, sampled } = self.trace.as_ref()?;
        match sampled {
            Some(sampled) => Some(write_traceparent(&context.trace, &sampled.span, true)),
            None if context.parent.is_some() => None,
            None => {
                let span = self.worker.random.borrow_mut().span_id();
                Some(write_traceparent(&context.trace, &span, false))
            }
        }
    }

    /// An attempt at a target begins; says under which span, if it is traced.
    pub(crate) fn begin_attempt(&mut self, target: &Arc<Target>, now: u64) -> Option<[u8; 8]> {
        let sampled = self.trace.as_mut()?.sampled.as_mut()?;
        Some(sampled.begin_attempt(target, &mut self.worker.random.borrow_mut(), now))
    }

    /// The attempt has ended.
    pub(crate) fn end_attempt(&mut self, now: u64, how: Result<StatusCode, &'static str>) {
        if let Some(sampled) = self.trace.as_mut().and_then(|trace| trace.sampled.as_mut()) {
            sampled.end_attempt(now, how);
        }
    }

    /// How long the call took so far (`Server-Timing`), in the gateway and waiting for targets.
    pub(crate) fn server_timing(&self) -> Option<HeaderValue> {
        let took = self.worker.now().saturating_sub(self.arrived);
        let upstream = millis(self.upstream_nanos);
        let gateway = millis(took.saturating_sub(self.upstream_nanos));
        let text = if self.upstream_nanos > 0 {
            format!("gateway;dur={gateway}, upstream;dur={upstream}")
        } else {
            format!("gateway;dur={gateway}")
        };
        HeaderValue::from_str(&text).ok()
    }

    /// The deployment is known.
    pub(crate) fn routed(&mut self, deployment: &Arc<Deployment>) {
        deployment.metrics.begin(self.worker.number);
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

    /// How much passed on a connection that had switched to another protocol, from the client and to it.
    pub(crate) fn passed(&mut self, received: u64, sent: u64) {
        let watch = BodyWatch::new(u64::MAX);
        watch.bytes.set(received);
        self.request_body = Some(watch);
        self.response_bytes = sent;
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
        let now = self.worker.now();
        for key in self.at_once.drain(..) {
            self.worker.shared.counters.leave(key, now);
        }
        let took = now.saturating_sub(self.arrived);
        if let (Some(deployment), Some(place)) = (&self.deployment, self.place.take()) {
            deployment.upstream.leave(&place, now);
        }
        let metrics = &self.worker.shared.metrics;
        match &self.deployment {
            Some(deployment) => {
                let worker = self.worker.number;
                deployment.metrics.end(worker);
                let status = self.status.unwrap_or(StatusCode::BAD_REQUEST);
                let took = Duration::from_nanos(took);
                deployment.metrics.count(worker, self.operation, &self.method, status, took);
                if self.upstream_nanos > 0 {
                    let waited = Duration::from_nanos(self.upstream_nanos);
                    deployment.metrics.count_upstream(worker, waited);
                }
            }
            None => {
                metrics.unrouted.inc();
            }
        }
        if self.trace.is_some() {
            self.tell(took, now, fault);
        }
        let ticket = self.usage(took, fault).map(|record| self.worker.usage.record(&record));
        self.connection.end_call(&self.worker.connections, now, ticket);
    }

    /// Tells operators of the call: in the access log, and as spans.
    fn tell(&mut self, took: u64, now: u64, fault: Fault) {
        let Some(CallTrace { context, sampled }) = self.trace.take() else { return };
        let shared = &self.worker.shared;
        if let Some(tracer) = &shared.tracer
            && let Some(sampled) = sampled
        {
            let at_nanos = u64::try_from(self.at.as_nanosecond()).unwrap_or(0);
            let times = Times { at_nanos, arrived: self.arrived, ended: now };
            let method = method_name(&self.method);
            sampled.attempts(context.trace, method, &times).for_each(|span| tracer.export(span));
            tracer.export(self.span(&context, sampled.span, &times, fault));
        }
        if let (Some(log), Some(client)) = (&self.worker.access_log, self.client) {
            let deployment = self.deployment.as_deref();
            let names = deployment.map(|deployment| deployment.metrics.names());
            log.write(&Line {
                time: self.at,
                request_id: self
                    .request_id
                    .as_ref()
                    .map_or("", |id| id.to_str().unwrap_or_default()),
                trace: context.trace,
                client,
                protocol: if self.connection.http_version() == "2" { "HTTP/2" } else { "HTTP/1.1" },
                method: method_name(&self.method),
                route: deployment.and_then(|found| found.metrics.template(self.operation)),
                tenant: names.map(|[tenant, _, _]| tenant),
                api: names.map(|[_, api, _]| api),
                version: names.map(|[_, _, version]| version),
                deployment: deployment.map(|deployment| deployment.id),
                application: self.caller.map(|caller| caller.application),
                credential: self.caller.map(|caller| caller.credential),
                status: self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16()),
                fault,
                duration_nanos: took,
                upstream_nanos: self.upstream_nanos,
                request_bytes: self.request_body.as_ref().map_or(0, |watch| watch.bytes.get()),
                response_bytes: self.response_bytes,
            });
        }
    }

    /// The span of the call itself.
    fn span(&self, context: &TraceContext, id: [u8; 8], times: &Times, fault: Fault) -> Span {
        let method = method_name(&self.method);
        let deployment = self.deployment.as_deref();
        let route = deployment.and_then(|found| found.metrics.template(self.operation));
        let status = self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
        let mut attributes = vec![
            ("http.request.method", AttributeValue::text(method)),
            ("http.response.status_code", AttributeValue::Number(status.into())),
            ("network.protocol.version", AttributeValue::text(self.connection.http_version())),
        ];
        attributes.extend(route.map(|route| ("http.route", AttributeValue::text(route))));
        if let Some(deployment) = deployment {
            let [tenant, api, version] = deployment.metrics.names();
            attributes.extend([
                ("caduceus.tenant", AttributeValue::text(tenant)),
                ("caduceus.api", AttributeValue::text(api)),
                ("caduceus.version", AttributeValue::text(version)),
                ("caduceus.deployment", AttributeValue::text(deployment.id)),
            ]);
        }
        let subscription = self.subscription.map(AttributeValue::text);
        attributes.extend(subscription.map(|id| ("caduceus.subscription", id)));
        // What a client did wrong is no failure of the server that says so.
        let is_error = status >= 500 || matches!(fault, Fault::Gateway | Fault::Upstream);
        if is_error {
            let kind = if status >= 500 { status.to_string() } else { "broken_off".to_owned() };
            attributes.push(("error.type", AttributeValue::Text(kind)));
        }
        Span {
            trace_id: context.trace,
            span_id: id,
            parent_id: context.parent,
            kind: SpanKind::Server,
            name: route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
            start_nanos: times.at_nanos,
            end_nanos: times.clock(times.ended),
            attributes,
            is_error,
        }
    }

    /// The usage record, when it is known who called what.
    fn usage(&self, took: u64, fault: Fault) -> Option<UsageRecord> {
        let (deployment, caller) = (self.deployment.as_ref()?, self.caller?);
        let micros = |nanos: u64| u32::try_from(nanos / 1_000).unwrap_or(u32::MAX);
        let status = self.status.map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
        let request = self.request_id.as_ref().filter(|_| status >= 400);
        Some(UsageRecord {
            at_micros: self.at.as_microsecond(),
            deployment: deployment.id,
            version: deployment.version,
            application: caller.application,
            credential: caller.credential,
            subscription: self.subscription,
            operation: self.operation,
            status,
            fault,
            duration_micros: micros(took),
            upstream_micros: micros(self.upstream_nanos),
            request_bytes: self.request_body.as_ref().map_or(0, |watch| watch.bytes.get()),
            response_bytes: self.response_bytes,
            request: request.and_then(|id| uuid_bits(id.as_bytes())),
        })
    }
}

/// The 16 bytes of a UUID that is written in hexadecimal digits and hyphens.
fn uuid_bits(text: &[u8]) -> Option<[u8; 16]> {
    let mut bits: u128 = 0;
    for byte in text.iter().filter(|byte| **byte != b'-') {
        bits = bits << 4 | u128::from(char::from(*byte).to_digit(16)?);
    }
    (text.len() == 36).then_some(bits.to_be_bytes())
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish(Fault::Client);
    }
}
