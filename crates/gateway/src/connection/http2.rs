//! Serves a client over HTTP/2 (RFC 9113): each stream is a task of its own with a place among the connections of the
//! worker, so that deadlines and drains reach it.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderMap, Method, Request, Response, header, uri::PathAndQuery};
use tokio::time::timeout;

use super::{
    LINGER,
    head::{Offence, RequestHead, RequestTarget, is_authority},
    state::{Command, ConnectionState, Connections},
    stream::ClientStream,
    unless_aborted,
    wire::Incomplete,
};
use crate::{
    body::{Answer, BrokenOff, ClientBody, ResponseBody},
    call,
    fields::{AnswerFields, Fields, Name},
    rejection::{Rejection, Subject},
    trailers,
    worker::Worker,
};

/// The most streams of a connection at once.
const STREAMS: u32 = 128;
/// How much a client may send ahead, on one stream and on all of them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of an answer is kept for a client that reads slowly, for each stream.
const SEND_BUFFER: usize = 128 << 10;

/// The body of a request that comes over HTTP/2.
pub(crate) struct StreamBody {
    stream: RecvStream,
    /// How many bytes are still to come, when the client has said so.
    left: Option<u64>,
    trailers: Option<HeaderMap>,
}

impl StreamBody {
    pub(crate) const fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next data. What is taken makes room for as much again.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Incomplete>>> {
        let incomplete = |_error| Incomplete;
        match ready!(self.stream.poll_data(context)) {
            Some(Ok(data)) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                // A stream that was reset meanwhile needs no room.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(data)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(incomplete(error)))),
            None => match ready!(self.stream.poll_trailers(context)) {
                Ok(trailers) => {
                    self.trailers = trailers.map(trailers::lawful);
                    Poll::Ready(None)
                }
                Err(error) => Poll::Ready(Some(Err(incomplete(error)))),
            },
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

/// Serves the calls of one connection until either side ends it.
pub(super) async fn serve(worker: &Rc<Worker>, stream: ClientStream, state: &Rc<ConnectionState>) {
    let settings = &worker.shared.settings;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX));
    let handshake = timeout(settings.header_timeout, builder.handshake(stream));
    let Ok(Ok(mut connection)) = handshake.await else {
        worker.shared.metrics.malformed.inc();
        return;
    };
    let mut is_draining = false;
    loop {
        let accepted = poll_fn(|context| {
            state.remember(context.waker());
            if state.command() != Command::Serve && !std::mem::replace(&mut is_draining, true) {
                connection.graceful_shutdown();
            }
            connection.poll_accept(context)
        });
        match accepted.await {
            Some(Ok((request, respond))) => accept(worker, state, request, respond),
            // The peer was told what it did wrong, if it did.
            Some(Err(_)) | None => break,
        }
    }
    close(connection).await;
}

async fn close(mut connection: Connection<ClientStream, Bytes>) {
    let _ = timeout(LINGER, poll_fn(|context| connection.poll_closed(context))).await;
}

fn accept(
    worker: &Rc<Worker>,
    connection: &Rc<ConnectionState>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let open = Connections::open(worker, Rc::clone(&connection.peer));
    open.state.set_stream();
    let (worker, connection) = (Rc::clone(worker), Rc::clone(connection));
    connection.begin_stream();
    let tasks = worker.tasks.clone();
    tasks.spawn_local(async move {
        let state = Rc::clone(&open.state);
        let serving = pin!(serve_stream(&worker, &state, request, respond));
        unless_aborted(&state, serving).await;
        connection.end_stream(worker.coarse_now());
    });
}

async fn serve_stream(
    worker: &Rc<Worker>,
    state: &Rc<ConnectionState>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let to_head = request.method() == Method::HEAD;
    let answer = match read(request, worker.shared.settings.max_headers) {
        Err(offence) => refuse(worker, offence),
        Ok((head, body)) => {
            let mut call = pin!(call::carry(Rc::clone(worker), Rc::clone(state), head, body));
            let answer = poll_fn(|context| match call.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                // The client has lost interest, or the connection.
                Poll::Pending => respond.poll_reset(context).map(|_reason| None),
            });
            let Some(answer) = answer.await else { return };
            answer
        }
    };
    send(worker, state, answer, to_head, respond).await;
}

/// Makes a request of what came over a stream.
fn read(
    request: Request<RecvStream>,
    max_fields: usize,
) -> Result<(RequestHead, ClientBody), Offence> {
    let (parts, stream) = request.into_parts();
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Offence::Method);
    }
    if parts.headers.len() > max_fields {
        return Err(Offence::HeadSize);
    }
    let uri = parts.uri.into_parts();
    let authority = uri.authority.as_ref().map(|authority| authority.as_str());
    let given = parts.headers.get_all(header::HOST).iter().collect::<Vec<_>>();
    let host = match (authority, given.as_slice()) {
        (Some(authority), []) => authority.as_bytes(),
        (Some(authority), [host]) if host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            authority.as_bytes()
        }
        (None, [host]) => host.as_bytes(),
        _ => return Err(Offence::Host),
    };
    if host.is_empty() || !is_authority(host) {
        return Err(Offence::Host);
    }
    let fields = Fields::from_map(&parts.headers, host);
    let path = uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let body = if stream.is_end_stream() {
        ClientBody::Empty
    } else {
        let length = fields.text(Name::ContentLength).and_then(|length| length.parse().ok());
        ClientBody::Http2(Box::new(StreamBody { stream, left: length, trailers: None }))
    };
    let target = RequestTarget { path, authority: None };
    Ok((RequestHead { method: parts.method, target, fields }, body))
}

/// The answer to what could not be read as a request.
fn refuse(worker: &Worker, offence: Offence) -> Answer {
    worker.shared.metrics.malformed.inc();
    let at = worker.shared.clock.now();
    let request_id = worker.random.borrow_mut().request_id(at);
    let subject = Subject { path: None, request_id: &request_id, at };
    let (status, fields, body) = Rejection::Framing(offence).answer(subject);
    let mut fields = AnswerFields::from(fields);
    fields.insert(crate::headers::X_REQUEST_ID, request_id);
    Answer { status, fields, body: ResponseBody::Local(Some(body)), closes: true, tunnel: None }
}

/// Sends an answer, never before the usage of its call has been written.
async fn send(
    worker: &Worker,
    state: &ConnectionState,
    answer: Answer,
    to_head: bool,
    mut respond: SendResponse<Bytes>,
) {
    let Answer { status, fields, mut body, .. } = answer;
    let mut fields = fields.to_map();
    let is_bodiless = to_head || matches!(status.as_u16(), 204 | 304);
    match body.left() {
        Some(length) if !is_bodiless || length > 0 => {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        _ => {}
    }
    if !fields.contains_key(header::DATE) {
        let date = worker.date.borrow_mut().value(worker.shared.clock.now());
        fields.extend(date.map(|date| (header::DATE, date)));
    }
    if is_bodiless {
        body = ResponseBody::Local(None);
    }
    // The first data may be there already, and be all.
    let first = poll_fn(|context| match body.poll_data(context) {
        Poll::Ready(first) => Poll::Ready(Some(first)),
        Poll::Pending => Poll::Ready(None),
    })
    .await;
    poll_fn(|context| worker.usage.poll_written(state.ticket(), context)).await;
    let is_all = matches!(first, Some(None)) && !body.has_trailers();
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    let Ok(mut stream) = respond.send_response(response, is_all) else { return };
    if is_all {
        return;
    }
    let mut next = first.flatten();
    loop {
        match next {
            Some(Ok(data)) => {
                let is_last = body.has_ended() && !body.has_trailers();
                let sent = send_data(worker, state, &mut stream, data, is_last).await;
                if sent.is_err() || is_last {
                    return;
                }
            }
            Some(Err(BrokenOff)) => return stream.send_reset(Reason::INTERNAL_ERROR),
            None => {}
        }
        let taken = poll_fn(|context| match body.poll_data(context) {
            Poll::Ready(data) => Poll::Ready(Some(data)),
            Poll::Pending => stream.poll_reset(context).map(|_reason| None),
        });
        next = match taken.await {
            None => return,
            Some(Some(data)) => Some(data),
            Some(None) => break,
        };
    }
    poll_fn(|context| worker.usage.poll_written(state.ticket(), context)).await;
    // A stream that was reset meanwhile needs no end.
    let _ = match body.take_trailers() {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    };
}

/// Sends data as fast as the client makes room for it.
async fn send_data(
    worker: &Worker,
    state: &ConnectionState,
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
) -> Result<(), h2::Error> {
    loop {
        if data.is_empty() {
            return if is_last { stream.send_data(data, true) } else { Ok(()) };
        }
        stream.reserve_capacity(data.len());
        let room = poll_fn(|context| {
            ready!(worker.usage.poll_written(state.ticket(), context));
            stream.poll_capacity(context)
        });
        let room = match room.await {
            Some(room) => room?,
            None => return Err(Reason::CANCEL.into()),
        };
        let piece = data.split_to(room.min(data.len()));
        let ends = is_last && data.is_empty();
        stream.send_data(piece, ends)?;
        if ends {
            return Ok(());
        }
    }
}
