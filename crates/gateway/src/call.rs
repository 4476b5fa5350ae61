//! The journey of a call: one straight way through the stages.

use std::rc::Rc;

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY, TE, UPGRADE},
};
use jiff::Timestamp;
use model::{Fault, Protocols};

use crate::{
    balance::{AnswerHead, UpstreamConnection},
    body::{Answer, ClientBody, Patience, RequestBody, ResponseBody},
    connection::{ConnectionState, RequestHead, Tunnel},
    fields::{AnswerFields, Fields, Name},
    headers,
    rejection::{Rejection, Subject},
    stages::{
        Recorder, admit, entitle, forward,
        forward::{Answered, Outgoing},
        identify,
        limit::{self, Standing},
        present,
        route::{self, Routed},
        validate,
    },
    table::{Deployment, Lifecycle, Table},
    trace::{CallTrace, TraceContext},
    worker::Worker,
};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// How far the identifier of a span begins before the end of a `traceparent` and its line.
const SPAN_AND_REST: usize = 16 + "-01\r\n".len();

/// What is known of a call while it passes the stages.
struct Call {
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    arrived: u64,
    at: Timestamp,
    request_id: HeaderValue,
    standing: Standing,
    recorder: Box<Recorder>,
    /// Whether the answer may say anything about the deployment.
    visible: bool,
    /// The page that calls, when it may.
    origin: Option<HeaderValue>,
    is_grpc: bool,
    /// The protocol that the client asks to switch to.
    upgrade: Option<HeaderValue>,
    /// How much of the request did not fit, and passed nevertheless.
    misfits: usize,
}

/// What is decided by the head of a request.
enum Decision {
    Forward(Routed),
    /// The answer to a preflight request.
    Preflight(AnswerFields),
}

/// How a call ended.
enum Outcome {
    Answered(Answered, u64),
    Preflight(AnswerFields),
}

/// Carries one call from its head to its answer.
///
/// It is on the list of calls in flight from here on, even before its future is first polled.
pub(crate) fn carry(
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    head: RequestHead,
    body: ClientBody,
) -> impl Future<Output = Answer> {
    let arrived = worker.now();
    let at = worker.shared.clock.now();
    let request_id = headers::request_id(&head.fields, &mut worker.random.borrow_mut(), at);
    let recorder = Recorder::begin(&worker, &connection, head.method.clone(), arrived, at);
    let trace = begin_trace(&worker, &head.fields, arrived);
    let recorder = Box::new(recorder.with(trace, &head.fields, &request_id));
    let call = Call {
        worker,
        connection,
        arrived,
        at,
        request_id,
        standing: Standing::default(),
        recorder,
        visible: false,
        origin: None,
        is_grpc: false,
        upgrade: None,
        misfits: 0,
    };
    call.run(head, body)
}

/// The trace of a call, when anybody wants to know of it.
fn begin_trace(worker: &Worker, fields: &Fields, now: u64) -> Option<CallTrace> {
    let tracer = worker.shared.tracer.as_ref();
    if tracer.is_none() && worker.access_log.is_none() {
        return None;
    }
    let mut random = worker.random.borrow_mut();
    let context = headers::traceparent(fields)
        .and_then(TraceContext::parse)
        .unwrap_or_else(|| TraceContext::begin(&mut random));
    let sampled = tracer.and_then(|tracer| tracer.begin(&context, &mut random, now));
    Some(CallTrace { context, sampled })
}

impl Call {
    async fn run(mut self, head: RequestHead, body: ClientBody) -> Answer {
        match self.pass(&head, body).await {
            Ok(Outcome::Answered(answered, deadline)) => {
                self.answer(answered, deadline, &head.fields)
            }
            Ok(Outcome::Preflight(fields)) => self.permit(fields),
            Err(rejection) => self.reject(&rejection, head.target.path.path()),
        }
    }

    /// Stages 1 to 6.
    async fn pass(&mut self, head: &RequestHead, body: ClientBody) -> Result<Outcome, Rejection> {
        let worker = Rc::clone(&self.worker);
        let decision = worker.with_table(|table| match table {
            Some(table) => self.decide(table, head, &body),
            None => Err(Rejection::NoConfiguration),
        })?;
        let routed = match decision {
            Decision::Forward(routed) => routed,
            Decision::Preflight(fields) => return Ok(Outcome::Preflight(fields)),
        };
        let Some(deployment) = self.recorder.deployment.clone() else {
            return Err(Rejection::RouteNotFound);
        };
        let timeout = u64::try_from(deployment.upstream.timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline = self.arrived.saturating_add(timeout);
        self.connection.set_deadline(&worker.connections, deadline);

        let traceparent = self.recorder.traceparent();
        let mut fields = headers::write_request(
            &head.fields,
            &self.connection.peer,
            &worker.shared.settings.trusted_proxies,
            &self.request_id,
            &mut worker.random.borrow_mut(),
            traceparent.as_ref(),
        );
        let span_at = self.recorder.is_sampled().then(|| fields.len() - SPAN_AND_REST);
        if self.is_grpc {
            // Its servers insist on being told that trailers are understood.
            headers::write_field(&mut fields, TE.as_str(), b"trailers");
        }
        let body = forward::take_body(&deployment, &head.method, body, &mut self.recorder).await?;
        let body = match &deployment.validation {
            None => body,
            Some(validation) => {
                let path = routed.path.get(deployment.prefix_length..).unwrap_or_default();
                let request = validate::Request { head, path };
                let judged = validate::validate(
                    &worker,
                    &deployment,
                    validation,
                    request,
                    body,
                    &mut self.recorder,
                );
                // Rare, and large for a future that every call carries with it.
                let (body, misfits) = Box::pin(judged).await?;
                self.misfits = misfits;
                body
            }
        };
        let now = if matches!(body, RequestBody::Empty) { self.arrived } else { worker.now() };
        let key = self.recorder.caller.and_then(|caller| {
            let trusted = &worker.shared.settings.trusted_proxies;
            deployment.upstream.key(&head.fields, caller.application, || {
                headers::client_address(&head.fields, self.connection.peer.address, trusted)
            })
        });
        let mut outgoing = Outgoing::new(&deployment, routed, head, fields, body)
            .with_key(key)
            .with_span_at(span_at);
        outgoing.upgrade = self.upgrade.take();
        let answered =
            forward::forward(&worker, &deployment, outgoing, &mut self.recorder, now, deadline)
                .await?;
        Ok(Outcome::Answered(answered, deadline))
    }

    /// Stages 1 to 5: all that is decided by the head alone.
    fn decide(
        &mut self,
        table: &Table,
        head: &RequestHead,
        body: &ClientBody,
    ) -> Result<Decision, Rejection> {
        let (deployment, routed) = route::route(table, head)?;
        self.recorder.routed(deployment);
        if let Some(cors) = &deployment.cors {
            if let Some(preflight) = cors.preflight(head) {
                return preflight.map(Decision::Preflight);
            }
            self.origin = cors.permitted(&head.fields);
        }
        let (shared, peer) = (&self.worker.shared, self.connection.peer.address);
        let caller = identify::identify(shared, table, &head.fields, peer, self.at)
            .map_err(|rejection| entitle::conceal(deployment, rejection))?;
        self.visible = deployment.is_visible_to(Some(caller.tenant));
        if self.visible {
            self.recorder.caller = Some(caller);
        }
        let operation = admit::operation(deployment, &head.method, &routed.path);
        self.recorder.operation = operation;
        entitle::see(deployment, &caller)?;
        if head.fields.has(Name::Upgrade) {
            self.upgrade = upgrade(deployment, head, body);
            if self.upgrade.is_none() {
                return Err(Rejection::UpgradeRefused);
            }
        }
        self.is_grpc = head.fields.first(Name::ContentType).is_some_and(is_grpc);
        if self.is_grpc && !deployment.protocols.grpc {
            return Err(Rejection::MediaTypeNotSupported);
        }
        let agreement = entitle::entitle(table, deployment, &caller, self.at)?;
        self.recorder.subscription = Some(agreement.id);
        self.recorder.at_once = limit::limit(
            shared,
            deployment,
            &agreement,
            &caller,
            self.arrived,
            self.at,
            &mut self.standing,
        )?;
        admit::size(deployment, body)?;
        if let Some(operation) = operation.and_then(|index| deployment.operations.get(index)) {
            admit::media_types(operation, &head.fields, body)?;
        }
        Ok(Decision::Forward(routed))
    }

    /// The answer of a target, made ours.
    fn answer(mut self, answered: Answered, deadline: u64, asked: &Fields) -> Answer {
        let Answered { head: AnswerHead { status, mut fields }, connection } = answered;
        headers::prepare_response(&mut fields, self.request_id.clone());
        self.insert_standing(&mut fields);
        self.recorder.answered(status);
        let deployment = self.recorder.deployment.as_ref();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let idle = deployment.map_or(0, |deployment| idle_nanos(&deployment.protocols));
            return switch(fields, connection, self.recorder, idle);
        }
        let compress = deployment.is_some_and(|deployment| deployment.compress);
        let recoding = present::recode(asked, compress, status, connection.left(), &mut fields);
        let idle = deployment.and_then(|deployment| self.idle(&deployment.protocols, &fields));
        let patience =
            Patience { deadline: idle.map_or(deadline, |idle| self.recorder.extend(idle)), idle };
        let body = ResponseBody::upstream(connection, self.recorder, patience, recoding);
        Answer { status, fields, body, closes: false, tunnel: None }
    }

    /// For an answer that may go on as long as something comes, how long nothing may come, in nanoseconds.
    fn idle(&self, protocols: &Protocols, fields: &AnswerFields) -> Option<u64> {
        let is_stream = |kind: &[u8]| {
            let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            kind.eq_ignore_ascii_case(b"text/event-stream")
        };
        let is_events = protocols.events && fields.first(&CONTENT_TYPE).is_some_and(is_stream);
        (is_events || self.is_grpc).then(|| idle_nanos(protocols))
    }

    /// The answer to a preflight request.
    fn permit(mut self, mut fields: AnswerFields) -> Answer {
        fields.insert(headers::X_REQUEST_ID, self.request_id.clone());
        self.recorder.answered(StatusCode::NO_CONTENT);
        self.recorder.finish(Fault::None);
        Answer {
            status: StatusCode::NO_CONTENT,
            fields,
            body: ResponseBody::Local(None),
            closes: false,
            tunnel: None,
        }
    }

    /// An answer of the gateway itself.
    fn reject(mut self, rejection: &Rejection, path: &str) -> Answer {
        let subject = Subject { path: Some(path), request_id: &self.request_id, at: self.at };
        let (status, fields, body) =
            if self.is_grpc { rejection.answer_to_grpc() } else { rejection.answer(subject) };
        let mut fields = AnswerFields::from(fields);
        fields.insert(headers::X_REQUEST_ID, self.request_id.clone());
        self.insert_standing(&mut fields);
        self.recorder.answered(status);
        self.recorder.add_response_bytes(body.len());
        self.recorder.finish(rejection.fault());
        let body = ResponseBody::Local(Some(body));
        Answer { status, fields, body, closes: rejection.closes(), tunnel: None }
    }

    fn insert_standing(&mut self, fields: &mut AnswerFields) {
        if let Some(hsts) =
            self.worker.shared.hsts.as_ref().filter(|_| self.connection.peer.is_secure)
        {
            fields.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        let Some(deployment) = &self.recorder.deployment else { return };
        if let Some(cors) = &deployment.cors {
            cors.announce(self.origin.take(), fields);
        }
        if !self.visible {
            return;
        }
        if self.recorder.caller.is_some_and(|caller| caller.tenant == deployment.owner)
            && let Some(timing) = self.recorder.server_timing()
        {
            fields.append(SERVER_TIMING, timing);
        }
        if let Lifecycle::Deprecated(announcements) = &deployment.lifecycle {
            for (name, value) in announcements {
                fields.append(name.clone(), value.clone());
            }
        }
        if self.misfits > 0 {
            fields.insert(validate::CADUCEUS_VALIDATION, validate::warning(self.misfits));
        }
        std::mem::take(&mut self.standing).insert(fields);
    }
}

/// The protocol that a client asks to switch to, when that is WebSocket and allowed (RFC 6455, 4.1).
fn upgrade(deployment: &Deployment, head: &RequestHead, body: &ClientBody) -> Option<HeaderValue> {
    let asks = |kind: Name, wanted: &[u8]| {
        let options = head.fields.all(kind).flat_map(headers::connection_options);
        options.into_iter().any(|option| option.eq_ignore_ascii_case(wanted))
    };
    let is_proper = deployment.protocols.web_socket
        && head.method == Method::GET
        && body.is_empty()
        && !head.fields.is_repeated(Name::Upgrade)
        && head
            .fields
            .first(Name::Upgrade)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
        && asks(Name::Connection, b"upgrade");
    is_proper.then_some(HeaderValue::from_static("websocket"))
}

/// The answer of a target that has switched to another protocol, and the way to it.
fn switch(
    mut fields: AnswerFields,
    connection: Box<UpstreamConnection>,
    recorder: Box<Recorder>,
    idle: u64,
) -> Answer {
    fields.append(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.append(UPGRADE, HeaderValue::from_static("websocket"));
    let tunnel = connection.into_upgraded().map(|far| Box::new(Tunnel::new(far, recorder, idle)));
    let (status, body) = (StatusCode::SWITCHING_PROTOCOLS, ResponseBody::Local(None));
    Answer { status, fields, body, closes: false, tunnel }
}

fn idle_nanos(protocols: &Protocols) -> u64 {
    u64::from(protocols.idle_ms) * 1_000_000
}

/// Whether a media type is that of gRPC.
fn is_grpc(kind: &[u8]) -> bool {
    let Some((start, rest)) = kind.split_at_checked(16) else { return false };
    start.eq_ignore_ascii_case(b"application/grpc")
        && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}
