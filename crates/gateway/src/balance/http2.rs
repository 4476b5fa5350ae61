//! Calls over HTTP/2 (RFC 9113): one connection carries many, each as a stream.
//!
//! A task per connection moves frames; the task of a call sends and receives its own stream. Data is taken off a stream
//! only as fast as the client takes it, and its window is opened again no sooner, so that a slow client slows its target
//! and nobody else.

use std::{
    cell::Cell,
    future::{Future as _, pending, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::CONTENT_LENGTH,
    uri::{Authority, Scheme},
};
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connection::{AnswerHead, Broken, NoAnswer, RequestHead},
    endpoint::Open,
    stream::UpstreamStream,
};
use crate::{body::RequestBody, headers, trailers};

/// What a target may send before it has to wait: on one stream, and on all of a connection together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 2 << 20;
const HEAD_MAX: u32 = 128 << 10;
/// Stands for the most streams while the target has not said how many it takes; nobody says just this.
const UNSAID: usize = 987_654_321;
/// A connection with calls on it is asked this often whether anybody is there, and given up after the patience.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// A connection that carries many calls.
pub(super) struct Link {
    sender: SendRequest<Bytes>,
    health: Rc<Health>,
    secure: bool,
    pub(super) open: Open,
    /// Where it leads.
    pub(super) peer: Option<SocketAddr>,
    _driver: AbortOnDropHandle<()>,
}

/// What the task of a connection and its calls tell each other.
struct Health {
    /// Whether further calls may begin.
    usable: Cell<bool>,
    active: Cell<usize>,
    /// Calls that it has carried.
    carried: Cell<u64>,
    /// When the last call began or ended, as far as the pool was told.
    since: Cell<u64>,
}

/// One call over a connection.
pub(crate) struct Http2 {
    link: Rc<Link>,
    reused: bool,
    state: State,
    sending: Option<Sending>,
    trailers: Option<HeaderMap>,
}

enum State {
    Idle,
    /// None when the request cannot be written in this protocol.
    Ready(Option<Box<Request<()>>>),
    Waiting(ResponseFuture),
    Receiving {
        stream: RecvStream,
        left: Option<u64>,
        /// What was passed on, for which the target may not send more yet.
        taken: usize,
    },
    Ended,
}

/// What is left to send of a request.
struct Sending {
    /// None while the head is not sent.
    stream: Option<SendStream<Bytes>>,
    data: Bytes,
    body: RequestBody,
    /// Whether something was taken of the body.
    touched: bool,
}

impl Link {
    /// Begins to speak HTTP/2 over a stream.
    pub(super) async fn open(
        stream: UpstreamStream,
        open: Open,
        now: u64,
    ) -> Result<Rc<Self>, h2::Error> {
        let (secure, peer) = (matches!(stream, UpstreamStream::Tls(_)), stream.peer().ok());
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(UNSAID)
            .max_header_list_size(HEAD_MAX)
            .handshake(stream)
            .await?;
        // Calls that begin before the target has said how many it takes might all be refused.
        poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Err(Reason::NO_ERROR.into())),
            Poll::Pending if sender.current_max_send_streams() == UNSAID => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await?;
        let health = Rc::new(Health {
            usable: Cell::new(true),
            active: Cell::new(0),
            carried: Cell::new(0),
            since: Cell::new(now),
        });
        let driver = AbortOnDropHandle::new(spawn_local(drive(connection, Rc::clone(&health))));
        Ok(Rc::new(Self { sender, health, secure, open, peer, _driver: driver }))
    }

    /// A place for one more call, unless the target takes no more or the connection is at its end.
    pub(super) fn seat(self: &Rc<Self>) -> Option<Http2> {
        let full = self.health.active.get() >= self.sender.current_max_send_streams();
        if full || !self.health.usable.get() { None } else { Some(Http2::new(self)) }
    }

    /// A place for a call that waits until the target takes it.
    pub(super) fn place_in_line(self: &Rc<Self>) -> Http2 {
        Http2::new(self)
    }

    pub(super) fn is_usable(&self) -> bool {
        self.health.usable.get()
    }

    /// How many calls are on it.
    pub(super) fn calls(&self) -> usize {
        self.health.active.get()
    }

    /// Whether it has carried no call since `then`; `now` is remembered while it does.
    pub(super) fn is_idle_since(&self, then: u64, now: u64) -> bool {
        if self.calls() > 0 {
            self.health.since.set(now);
        }
        self.health.since.get() <= then
    }
}

/// Moves the frames of a connection until it ends or nobody answers.
async fn drive(mut connection: Connection<UpstreamStream, Bytes>, health: Rc<Health>) {
    let pings = connection.ping_pong();
    let watched = async {
        match pings {
            Some(pings) => keep_alive(pings, &health).await,
            None => pending().await,
        }
    };
    tokio::select! {
        // Its calls are told of an error each for itself.
        _ended = connection => {}
        () = watched => {}
    }
    health.usable.set(false);
}

/// Ends when a ping is not answered in time.
async fn keep_alive(mut pings: PingPong, health: &Health) {
    loop {
        sleep(PING_EVERY).await;
        if health.active.get() == 0 {
            continue;
        }
        if !matches!(timeout(PING_PATIENCE, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

impl Http2 {
    fn new(link: &Rc<Link>) -> Self {
        let health = &link.health;
        health.active.set(health.active.get() + 1);
        let carried = health.carried.replace(health.carried.get() + 1);
        Self {
            link: Rc::clone(link),
            reused: carried > 0,
            state: State::Idle,
            sending: None,
            trailers: None,
        }
    }

    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn is_usable(&self) -> bool {
        self.link.is_usable()
    }

    pub(super) fn begin(&mut self, head: &RequestHead<'_>, body: RequestBody) {
        let scheme = if self.link.secure { Scheme::HTTPS } else { Scheme::HTTP };
        self.state = State::Ready(request(head, scheme, &body).map(Box::new));
        let (data, body) = match body {
            RequestBody::Whole(bytes) => (bytes, RequestBody::Empty),
            body => (Bytes::new(), body),
        };
        self.sending = Some(Sending { stream: None, data, body, touched: false });
    }

    pub(super) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, NoAnswer>> {
        if let State::Ready(request) = &mut self.state {
            let Some(request) = request.take() else {
                return Poll::Ready(Err(NoAnswer::Broken));
            };
            let sent = self.send_head(*request, context);
            self.state = State::Waiting(sent?);
        }
        self.send_on(context).map_err(|Broken| NoAnswer::Broken)?;
        let State::Waiting(response) = &mut self.state else {
            return Poll::Ready(Err(NoAnswer::Broken));
        };
        let response = match ready!(Pin::new(response).poll(context)) {
            Ok(response) => response,
            Err(error) => return Poll::Ready(Err(self.judge(&error))),
        };
        let (parts, stream) = response.into_parts();
        let fields = without_hop_by_hop(parts.headers);
        let left = fields
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse().ok());
        self.state = if stream.is_end_stream() {
            State::Ended
        } else {
            State::Receiving { stream, left, taken: 0 }
        };
        Poll::Ready(Ok(AnswerHead { status: parts.status, fields: fields.into() }))
    }

    fn send_head(
        &mut self,
        request: Request<()>,
        context: &mut Context<'_>,
    ) -> Result<ResponseFuture, NoAnswer> {
        let Some(sending) = &mut self.sending else { return Err(NoAnswer::Broken) };
        let mut sender = self.link.sender.clone();
        let ends = sending.data.is_empty() && matches!(sending.body, RequestBody::Empty);
        // A handle that has sent nothing waits for nothing: beyond what the target takes, streams queue in the
        // connection, within the time of their calls.
        let sent = match sender.poll_ready(context) {
            Poll::Ready(Ok(())) | Poll::Pending => sender.send_request(request, ends),
            Poll::Ready(Err(error)) => Err(error),
        };
        match sent {
            Ok((response, _)) if ends => {
                self.sending = None;
                Ok(response)
            }
            Ok((response, stream)) => {
                sending.stream = Some(stream);
                Ok(response)
            }
            Err(_ended) => {
                self.link.health.usable.set(false);
                Err(NoAnswer::Unprocessed)
            }
        }
    }

    /// What an error says about the request.
    fn judge(&self, error: &h2::Error) -> NoAnswer {
        if error.is_go_away() && error.is_remote() {
            // Only streams beyond the last one that the target has looked at are told.
            self.link.health.usable.set(false);
            return NoAnswer::Unprocessed;
        }
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        if refused && error.is_remote() { NoAnswer::Unprocessed } else { NoAnswer::Broken }
    }

    pub(super) fn take_back(&mut self) -> Option<RequestBody> {
        let sending = self.sending.take().filter(|sending| !sending.touched)?;
        matches!(sending.body, RequestBody::Streamed { .. }).then_some(sending.body)
    }

    pub(super) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Err(broken) = self.send_on(context) {
            return Poll::Ready(Some(Err(broken)));
        }
        let State::Receiving { stream, left, taken } = &mut self.state else {
            return Poll::Ready(None);
        };
        if *taken > 0 {
            // It fails only when the stream has ended, which shows below.
            let _ = stream.flow_control().release_capacity(std::mem::take(taken));
        }
        loop {
            match ready!(stream.poll_data(context)) {
                Some(Ok(data)) if data.is_empty() && !stream.is_end_stream() => {}
                Some(Ok(data)) => {
                    *taken = data.len();
                    *left = left.map(|left| left.saturating_sub(data.len() as u64));
                    if stream.is_end_stream() {
                        self.state = State::Ended;
                    }
                    return Poll::Ready((!data.is_empty()).then_some(Ok(data)));
                }
                Some(Err(_)) => return Poll::Ready(Some(Err(Broken))),
                None => break,
            }
        }
        match ready!(stream.poll_trailers(context)) {
            Ok(fields) => {
                self.trailers =
                    fields.map(trailers::lawful).filter(|trailers| !trailers.is_empty());
                self.state = State::Ended;
                Poll::Ready(None)
            }
            Err(_) => Poll::Ready(Some(Err(Broken))),
        }
    }

    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(super) const fn left(&self) -> Option<u64> {
        match &self.state {
            State::Ended => Some(0),
            State::Receiving { left, .. } => *left,
            State::Idle | State::Ready(_) | State::Waiting(_) => None,
        }
    }

    /// Sends as much as the target takes now. It may stop to listen and answer all the same.
    fn send_on(&mut self, context: &mut Context<'_>) -> Result<(), Broken> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        match sending.poll_send(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(sent) => {
                self.sending = None;
                sent
            }
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        let active = &self.link.health.active;
        active.set(active.get().saturating_sub(1));
    }
}

impl Sending {
    /// Sends the body; it is done when all is sent or the target has stopped to listen.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        loop {
            if !self.data.is_empty() {
                stream.reserve_capacity(self.data.len());
                let room = match ready!(stream.poll_capacity(context)) {
                    Some(Ok(room)) => room.min(self.data.len()),
                    Some(Err(_)) | None => return Poll::Ready(Ok(())),
                };
                self.touched = true;
                let part = self.data.split_to(room);
                let last = self.data.is_empty() && matches!(self.body, RequestBody::Empty);
                if stream.send_data(part, last).is_err() || last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match self.body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    self.touched = true;
                    self.data = data;
                }
                Poll::Ready(Some(Err(_trouble))) => {
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Broken));
                }
                Poll::Ready(None) => {
                    // An error means that the target has stopped to listen.
                    let _ = match self.body.take_trailers().map(trailers::lawful) {
                        Some(fields) if !fields.is_empty() => stream.send_trailers(fields),
                        _ => stream.send_data(Bytes::new(), true),
                    };
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending if stream.poll_reset(context).is_ready() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The head of a request in the words of HTTP/2; none when it has none there.
fn request(head: &RequestHead<'_>, scheme: Scheme, body: &RequestBody) -> Option<Request<()>> {
    // Switching protocols is a matter of HTTP/1.1.
    if head.upgrade.is_some() {
        return None;
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(head.host.as_bytes()).ok()?);
    parts.path_and_query = Some(head.path.clone());
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.method_mut() = head.method.clone();
    *request.version_mut() = http::Version::HTTP_2;
    let fields = request.headers_mut();
    for line in head.fields.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        if !headers::is_hop_by_hop(&name) {
            fields.append(name, value);
        }
    }
    let expected = matches!(*head.method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = body.length().filter(|length| *length > 0 || expected) {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(request)
}

fn without_hop_by_hop(mut fields: HeaderMap) -> HeaderMap {
    let unlawful: Vec<HeaderName> =
        fields.keys().filter(|name| headers::is_hop_by_hop(name)).cloned().collect();
    for name in unlawful {
        fields.remove(name);
    }
    fields
}
