//! The journey of a call: one straight way through the stages.

use std::{convert::Infallible, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use jiff::Timestamp;

use crate::{
    balance::AnswerHead,
    body::{RequestBody, ResponseBody},
    connection::ConnectionState,
    headers::{self, Marks},
    rejection::{Rejection, Subject},
    stages::{
        Recorder, admit, entitle, forward,
        forward::{Answered, Outgoing},
        identify,
        limit::{self, Standing},
        route::{self, Routed},
    },
    table::{Agreement, Lifecycle, Table},
    worker::Worker,
};

/// What is known of a call while it passes the stages.
struct Call {
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    arrived: u64,
    at: Timestamp,
    marks: Marks,
    request_id: HeaderValue,
    standing: Standing,
    agreement: Option<Agreement>,
    recorder: Box<Recorder>,
    /// Whether the answer may say anything about the deployment.
    visible: bool,
}

/// Carries one call from its head to its answer.
///
/// It is on the list of calls in flight from here on, even before its future is first polled.
pub(crate) fn carry(
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    let (parts, body) = request.into_parts();
    let arrived = worker.now();
    let at = worker.shared.clock.now();
    let marks = Marks::scan(&parts.headers);
    let request_id =
        headers::request_id(&parts.headers, marks, &mut worker.random.borrow_mut(), at);
    let recorder =
        Box::new(Recorder::begin(&worker, &connection, parts.method.clone(), arrived, at));
    let call = Call {
        worker,
        connection,
        arrived,
        at,
        marks,
        request_id,
        standing: Standing::default(),
        agreement: None,
        recorder,
        visible: false,
    };
    call.run(parts, body)
}

impl Call {
    async fn run(
        mut self,
        parts: Parts,
        body: Incoming,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let uri = parts.uri.clone();
        let outcome = self.pass(parts, body).await;
        Ok(match outcome {
            Ok((answered, deadline)) => self.answer(answered, deadline),
            Err(rejection) => self.reject(&rejection, uri.path()),
        })
    }

    /// Stages 1 to 6.
    async fn pass(&mut self, parts: Parts, body: Incoming) -> Result<(Answered, u64), Rejection> {
        let worker = Rc::clone(&self.worker);
        let marks = self.marks;
        let routed = worker.with_table(|table| match table {
            Some(table) => self.decide(table, &parts, marks, &body),
            None => Err(Rejection::NoConfiguration),
        })?;
        let deployment = Arc::clone(&routed.deployment);
        let timeout = u64::try_from(deployment.upstream.timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline = self.arrived.saturating_add(timeout);
        self.connection.set_deadline(&worker.connections, deadline);

        let fields = headers::write_request(
            &parts.headers,
            marks,
            &self.connection,
            &worker.shared.settings.trusted_proxies,
            &self.request_id,
            &mut worker.random.borrow_mut(),
        );
        let key = self.recorder.caller.and_then(|caller| {
            let trusted = &worker.shared.settings.trusted_proxies;
            deployment.upstream.key(&parts.headers, caller.application, || {
                headers::client_address(&parts.headers, self.connection.peer, trusted)
            })
        });
        let body = forward::take_body(&deployment, &parts.method, body, &mut self.recorder).await?;
        let now = if matches!(body, RequestBody::Empty) { self.arrived } else { worker.now() };
        let outgoing = Outgoing::new(&deployment, routed, parts.method, &parts.uri, fields, body)
            .with_key(key);
        let answered =
            forward::forward(&worker, &deployment, outgoing, &mut self.recorder, now, deadline)
                .await?;
        Ok((answered, deadline))
    }

    /// Stages 1 to 5: all that is decided by the head alone.
    fn decide(
        &mut self,
        table: &Table,
        parts: &Parts,
        marks: Marks,
        body: &Incoming,
    ) -> Result<Routed, Rejection> {
        let routed = route::route(table, parts)?;
        let deployment = Arc::clone(&routed.deployment);
        self.recorder.routed(&deployment);
        let (shared, peer) = (&self.worker.shared, self.connection.peer);
        let caller = identify::identify(shared, table, &parts.headers, marks, peer, self.at)
            .map_err(|rejection| entitle::conceal(&deployment, rejection))?;
        self.visible = deployment.is_visible_to(Some(caller.tenant));
        if self.visible {
            self.recorder.caller = Some(caller);
        }
        let operation = admit::operation(&deployment, parts, &routed.path);
        self.recorder.operation = operation;
        entitle::see(&deployment, &caller)?;
        if marks.upgrade {
            return Err(Rejection::UpgradeRefused);
        }
        let agreement = entitle::entitle(table, &deployment, &caller, self.at)?;
        self.recorder.subscription = Some(agreement.id);
        let agreement = &*self.agreement.insert(agreement);
        self.recorder.permits = limit::limit(
            shared,
            &deployment,
            agreement,
            &caller,
            self.arrived,
            self.at,
            &mut self.standing,
        )?;
        admit::size(&deployment, body)?;
        if let Some(operation) = operation.and_then(|index| deployment.operations.get(index)) {
            admit::media_types(operation, &parts.headers, body)?;
        }
        Ok(routed)
    }

    /// The answer of a target, made ours.
    fn answer(mut self, answered: Answered, deadline: u64) -> Response<ResponseBody> {
        let Answered { head: AnswerHead { status, mut fields }, connection } = answered;
        headers::prepare_response(&mut fields, self.request_id.clone());
        self.insert_standing(&mut fields);
        self.recorder.answered(status);
        let body = ResponseBody::upstream(connection, self.recorder, deadline);
        respond(status, fields, body)
    }

    /// An answer of the gateway itself.
    fn reject(mut self, rejection: &Rejection, path: &str) -> Response<ResponseBody> {
        let subject = Subject { path: Some(path), request_id: &self.request_id, at: self.at };
        let (status, mut fields, body) = rejection.answer(subject);
        fields.insert(headers::X_REQUEST_ID, self.request_id.clone());
        self.insert_standing(&mut fields);
        self.recorder.answered(status);
        self.recorder.add_response_bytes(body.len());
        self.recorder.finish(rejection.fault());
        respond(status, fields, ResponseBody::Local(Some(body)))
    }

    fn insert_standing(&mut self, fields: &mut HeaderMap) {
        let Some(deployment) = self.recorder.deployment.as_ref().filter(|_| self.visible) else {
            return;
        };
        if let Lifecycle::Deprecated(announcements) = &deployment.lifecycle {
            for (name, value) in announcements {
                fields.append(name.clone(), value.clone());
            }
        }
        if self.agreement.is_some() {
            let standing = std::mem::take(&mut self.standing);
            standing.insert(fields, deployment, self.agreement.as_ref());
        }
    }
}

fn respond(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
