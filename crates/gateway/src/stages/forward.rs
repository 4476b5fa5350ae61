//! Stage 6: to a target and back.
//!
//! A call is tried again only while that is safe: when no target has begun to process it, or when its method is
//! idempotent and no answer has begun; and only while its body can be repeated. Retries go to other targets and take from
//! the budget of the pool; that a target closed an idle connection, or turned a stream away unseen, costs nothing.

use std::{
    future::{Future as _, poll_fn},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, uri::PathAndQuery};
use tokio::time::sleep;

use super::{Recorder, route::Routed};
use crate::{
    balance::{
        AnswerHead, ConnectError, Need, NoAnswer, Outcome, Place, Refusal, RequestHead, Target,
        Tried, UpstreamConnection,
    },
    body::{BodyTrouble, BodyWatch, ClientBody, RequestBody},
    connection::{Incomplete, RequestHead as ClientHead},
    metrics::{Shed, UpstreamFault},
    random::hex,
    rejection::Rejection,
    table::Deployment,
    worker::Worker,
};

/// Bodies up to this size are kept when that makes a call repeatable.
const REPEATABLE_BYTES: u64 = 64 << 10;
/// When no target is healthy and no check says when to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often a target may turn a call away unseen before that counts as a failure.
const TURNED_AWAY_MAX: u8 = 3;

/// A request on its way to whichever target takes it.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: Box<str>,
    /// The target of the client's request, when it can be passed on as it is.
    pub(crate) original: Option<PathAndQuery>,
    pub(crate) query: Option<Box<str>>,
    /// The fields as they are sent, without host and length.
    pub(crate) fields: Vec<u8>,
    pub(crate) body: RequestBody,
    /// What the call has in common with others that are to go to the same target.
    key: Option<u64>,
    /// The protocol that the client asks to switch to.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Where in the fields a traced call names the span of the attempt.
    span_at: Option<usize>,
}

/// An answer whose body is still to come.
pub(crate) struct Answered {
    pub(crate) head: AnswerHead,
    pub(crate) connection: Box<UpstreamConnection>,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Unconnected(ConnectError),
    /// An idle connection was closed before anything was sent over it, which is the target's right.
    Stale,
    /// The target said that it has not looked at the request.
    TurnedAway,
    /// The connection broke, or what came over it is no answer.
    Broken,
    Timeout,
    /// The answer says that the target, or what is behind it, is not well.
    GatewayError,
}

/// One call on its way to one target after the other.
struct Journey<'call> {
    worker: &'call Worker,
    deployment: &'call Deployment,
    recorder: &'call mut Recorder,
    outgoing: Outgoing,
    deadline: u64,
    tried: Tried,
    retries: u8,
    turned_away: u8,
}

impl Outgoing {
    /// A request for the deployment's targets, with the route's prefix taken off when it says so.
    pub(crate) fn new(
        deployment: &Deployment,
        routed: Routed,
        head: &ClientHead,
        fields: Vec<u8>,
        body: RequestBody,
    ) -> Self {
        let stripped = deployment.strip_prefix && deployment.prefix_length > 0;
        let path = if stripped {
            match routed.path.get(deployment.prefix_length..) {
                Some(rest) if rest.starts_with('/') => rest.into(),
                _ => "/".into(),
            }
        } else {
            routed.path
        };
        let unchanged = !stripped && !routed.rewritten;
        let asked = &head.target.path;
        let original = unchanged.then(|| asked.clone());
        let query = asked.query().map(Into::into);
        let method = head.method.clone();
        Self {
            method,
            path,
            original,
            query,
            fields,
            body,
            key: None,
            upgrade: None,
            span_at: None,
        }
    }

    /// With what it has in common with other calls.
    pub(crate) fn with_key(mut self, key: Option<u64>) -> Self {
        self.key = key;
        self
    }

    /// With the place in the fields where the span of each attempt is named.
    pub(crate) const fn with_span_at(mut self, span_at: Option<usize>) -> Self {
        self.span_at = span_at;
        self
    }

    /// Tells the target which span its own are part of.
    fn name_span(&mut self, span: [u8; 8]) {
        let digits: [u8; 16] = hex(&span);
        let place = self.span_at.and_then(|at| self.fields.get_mut(at..at + digits.len()));
        if let Some(place) = place {
            place.copy_from_slice(&digits);
        }
    }

    /// Begins to send it to a target. The body is handed over.
    fn begin(
        &mut self,
        target: &Target,
        connection: &mut UpstreamConnection,
    ) -> Result<(), Rejection> {
        let joined;
        let path = match &self.original {
            Some(original) if target.url.base_path().is_empty() => original,
            _ => {
                joined = self.join(target.url.base_path())?;
                &joined
            }
        };
        let body = match self.body.repeat() {
            Some(body) => body,
            None => std::mem::replace(&mut self.body, RequestBody::Empty),
        };
        let head = RequestHead {
            method: &self.method,
            path,
            host: &target.authority,
            fields: &self.fields,
            upgrade: self.upgrade.as_ref(),
        };
        connection.begin(&head, body);
        Ok(())
    }

    fn join(&self, base: &str) -> Result<PathAndQuery, Rejection> {
        let query = self.query.as_deref();
        let length = base.len() + self.path.len() + query.map_or(0, |query| query.len() + 1);
        let mut text = BytesMut::with_capacity(length);
        text.extend_from_slice(base.as_bytes());
        text.extend_from_slice(self.path.as_bytes());
        if let Some(query) = query {
            text.extend_from_slice(b"?");
            text.extend_from_slice(query.as_bytes());
        }
        PathAndQuery::from_maybe_shared(text.freeze()).map_err(|_invalid| Rejection::AmbiguousPath)
    }
}

/// Makes the body ready to be sent: kept whole when that makes the call repeatable, otherwise streamed.
pub(crate) async fn take_body(
    deployment: &Deployment,
    method: &Method,
    client: ClientBody,
    recorder: &mut Recorder,
) -> Result<RequestBody, Rejection> {
    if client.is_empty() {
        return Ok(RequestBody::Empty);
    }
    let watch = BodyWatch::new(deployment.max_body_bytes);
    recorder.request_body = Some(Rc::clone(&watch));
    let length = client.left();
    let worth_keeping = deployment.upstream.retries > 0
        && method.is_idempotent()
        && length.is_some_and(|length| length <= REPEATABLE_BYTES);
    if !worth_keeping {
        return Ok(RequestBody::Streamed { body: client, watch });
    }
    let whole = whole(client, &watch).await.map_err(|trouble| refuse(trouble, deployment))?;
    Ok(RequestBody::Whole(whole))
}

async fn whole(mut client: ClientBody, watch: &BodyWatch) -> Result<Bytes, BodyTrouble> {
    let mut bytes = BytesMut::new();
    while let Some(data) = poll_fn(|context| client.poll_data(context)).await {
        let data = data.map_err(|Incomplete| BodyTrouble::Incomplete)?;
        watch.count(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// What a client is told whose body did not arrive whole.
pub(crate) fn refuse(trouble: BodyTrouble, deployment: &Deployment) -> Rejection {
    match trouble {
        BodyTrouble::TooLarge => Rejection::BodyTooLarge { max_bytes: deployment.max_body_bytes },
        BodyTrouble::Incomplete => Rejection::BodyIncomplete,
    }
}

/// Sends the request to a target, and to another one while that is safe and allowed.
pub(crate) async fn forward(
    worker: &Worker,
    deployment: &Deployment,
    outgoing: Outgoing,
    recorder: &mut Recorder,
    now: u64,
    deadline: u64,
) -> Result<Answered, Rejection> {
    let place = deployment.upstream.enter(now).map_err(|refusal| match refusal {
        Refusal::Open { retry_after } => Rejection::CircuitOpen { retry_after },
        Refusal::Full => Rejection::UpstreamOverloaded,
    })?;
    recorder.place = Some(place);
    let retries = deployment.upstream.retries;
    let tried = Tried::default();
    let mut journey = Journey {
        worker,
        deployment,
        recorder,
        outgoing,
        deadline,
        tried,
        retries,
        turned_away: 0,
    };
    journey.run(now).await
}

impl Journey<'_> {
    async fn run(&mut self, mut now: u64) -> Result<Answered, Rejection> {
        let upstream = &self.deployment.upstream;
        loop {
            if now >= self.deadline {
                return Err(self.fail(UpstreamFault::Timeout));
            }
            let key = self.outgoing.key;
            let chosen = match &mut self.recorder.place {
                Some(place) => upstream.choose(self.tried, key, place, now),
                None => return Err(Rejection::UpstreamFailed),
            };
            let Ok(target) = chosen else { return Err(self.fail(UpstreamFault::NoneHealthy)) };
            // What is taken from the client while it is sent cannot be sent again.
            let streamed = matches!(self.outgoing.body, RequestBody::Streamed { .. });
            if let Some(span) = self.recorder.begin_attempt(target, now) {
                self.outgoing.name_span(span);
            }
            let attempted = self.attempt(target, &mut now).await?;
            let how = attempted.as_ref().map(|answered| answered.head.status);
            self.recorder.end_attempt(now, how.map_err(|failure| failure.label()));
            let failure = match attempted {
                Ok(answered) => match self.judge(target, answered, streamed, now) {
                    Ok(answered) => return Ok(answered),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            self.after(target, failure, streamed, now)?;
        }
    }

    /// Goes to one target.
    async fn attempt(
        &mut self,
        target: &Arc<Target>,
        now: &mut u64,
    ) -> Result<Result<Answered, Failure>, Rejection> {
        let per_try = self.deployment.upstream.per_try;
        let end = self.deadline.min(now.saturating_add(per_try));
        let mut connection = match self.reach(target, end - *now).await {
            Ok(connection) => connection,
            Err(error) => {
                *now = self.worker.now();
                return Ok(Err(Failure::Unconnected(error)));
            }
        };
        let began = if connection.is_reused() { *now } else { self.worker.now() };
        let outcome = self.exchange(&mut connection, target, began, end).await?;
        *now = self.worker.now();
        let took = now.saturating_sub(began);
        self.recorder.add_upstream_nanos(took);
        match outcome {
            Ok(head) => {
                self.deployment.upstream.measured(took, *now);
                Ok(Ok(Answered { head, connection }))
            }
            Err(failure) => {
                if failure == Failure::TurnedAway
                    && let Some(body) = connection.take_back()
                {
                    self.outgoing.body = body;
                }
                Ok(Err(failure))
            }
        }
    }

    /// An idle connection to the target, or a new one.
    async fn reach(
        &self,
        target: &Arc<Target>,
        left: u64,
    ) -> Result<Box<UpstreamConnection>, ConnectError> {
        let only_http1 = self.outgoing.upgrade.is_some();
        if let Some(connection) = self.worker.pool.take(target, only_http1) {
            return Ok(connection);
        }
        let settings = &self.worker.shared.settings;
        let need = Need {
            policy: &settings.address_policy,
            patience: settings.connect_timeout.min(Duration::from_nanos(left)),
            most: self.deployment.upstream.max_connections,
            only_http1,
            now: self.worker.now(),
        };
        // Rare, and large for a future that every call carries with it.
        Box::pin(self.worker.pool.connect(target, need)).await
    }

    /// Sends the request and waits for the head of its answer.
    async fn exchange(
        &mut self,
        connection: &mut UpstreamConnection,
        target: &Target,
        now: u64,
        end: u64,
    ) -> Result<Result<AnswerHead, Failure>, Rejection> {
        if !connection.is_quiet().await {
            let stale = connection.is_reused();
            return Ok(Err(if stale { Failure::Stale } else { Failure::Broken }));
        }
        self.outgoing.begin(target, connection)?;
        let worker = self.worker;
        // The whole call is watched by the sweeper; only a try that ends before it needs a timer of its own.
        let mut timer = (end < self.deadline)
            .then(|| Box::pin(sleep(Duration::from_nanos(end.saturating_sub(now)))));
        let answer = poll_fn(|context| {
            match connection.poll_answer(context, &mut worker.scratch.borrow_mut()) {
                Poll::Ready(answer) => Poll::Ready(answer.map_err(|none| match none {
                    NoAnswer::Broken => Failure::Broken,
                    NoAnswer::Unprocessed => Failure::TurnedAway,
                })),
                Poll::Pending if worker.coarse_now() >= end => Poll::Ready(Err(Failure::Timeout)),
                Poll::Pending => match &mut timer {
                    Some(timer) => timer.as_mut().poll(context).map(|()| Err(Failure::Timeout)),
                    None => Poll::Pending,
                },
            }
        });
        Ok(answer.await)
    }

    /// Takes an answer, unless it only says that the target is not well and another one can be asked.
    fn judge(
        &mut self,
        target: &Target,
        answered: Answered,
        streamed: bool,
        now: u64,
    ) -> Result<Answered, Failure> {
        let upstream = &self.deployment.upstream;
        if !is_gateway_error(answered.head.status) {
            target.succeeded();
            self.recorder.ended(Outcome::Well);
            return Ok(answered);
        }
        if upstream.retry_gateway_errors
            && self.retries > 0
            && !streamed
            && self.outgoing.method.is_idempotent()
            && upstream.has_another(self.with_this_one(), now)
        {
            return Err(Failure::GatewayError);
        }
        upstream.failed(target, now);
        self.recorder.ended(Outcome::Failed);
        Ok(answered)
    }

    /// What becomes of the call after a failure: it is tried again, or rejected.
    fn after(
        &mut self,
        target: &Target,
        failure: Failure,
        streamed: bool,
        now: u64,
    ) -> Result<(), Rejection> {
        let whole = !streamed || !matches!(self.outgoing.body, RequestBody::Empty);
        if failure == Failure::Stale {
            return Ok(());
        }
        if failure == Failure::TurnedAway && whole && self.turned_away < TURNED_AWAY_MAX {
            self.turned_away += 1;
            return Ok(());
        }
        let trouble = self.recorder.request_body.as_ref().and_then(|watch| watch.trouble.get());
        if let Some(trouble) = trouble {
            return Err(refuse(trouble, self.deployment));
        }
        if failure == Failure::Unconnected(ConnectError::TooMany) {
            // The target is as it should be; there are only too many calls for it.
            self.deployment.metrics.count_shed(Shed::Connections);
        } else {
            self.deployment.upstream.failed(target, now);
        }
        let (fault, unseen) = match failure {
            Failure::Unconnected(error) => (error.fault(), true),
            Failure::TurnedAway => (Some(UpstreamFault::Broken), true),
            Failure::Broken | Failure::Stale => (Some(UpstreamFault::Broken), false),
            Failure::Timeout => (Some(UpstreamFault::Timeout), false),
            Failure::GatewayError => (Some(UpstreamFault::Status), false),
        };
        let rejection = fault.map_or(Rejection::UpstreamOverloaded, |fault| self.fail(fault));
        let safe = whole && (unseen || self.outgoing.method.is_idempotent());
        let possible = safe && self.retries > 0 && now < self.deadline;
        if !possible || !self.deployment.upstream.take_retry(now) {
            return Err(rejection);
        }
        self.retries -= 1;
        self.tried = self.with_this_one();
        Ok(())
    }

    fn with_this_one(&self) -> Tried {
        self.recorder.place.as_ref().map_or(self.tried, |place: &Place| self.tried.and(place))
    }

    /// Counts a failed attempt and says what the caller is told if it was the last.
    fn fail(&mut self, fault: UpstreamFault) -> Rejection {
        let deployment = self.deployment;
        deployment.metrics.count_failure(fault);
        if fault != UpstreamFault::NoneHealthy {
            self.recorder.ended(Outcome::Failed);
        }
        match fault {
            UpstreamFault::Connect | UpstreamFault::Refused => Rejection::UpstreamUnreachable,
            UpstreamFault::Certificate => Rejection::UpstreamCertificate,
            UpstreamFault::Broken | UpstreamFault::Status => Rejection::UpstreamFailed,
            UpstreamFault::Timeout => Rejection::UpstreamTimeout,
            UpstreamFault::NoneHealthy => Rejection::NoHealthyTarget {
                retry_after: deployment.upstream.health_check.as_ref().map_or(
                    RETRY_AFTER,
                    |check| {
                        let interval = u64::from(check.interval_ms);
                        Duration::from_millis(interval * u64::from(check.healthy_after))
                    },
                ),
            },
        }
    }
}

impl Failure {
    /// What it is called in traces.
    const fn label(self) -> &'static str {
        match self {
            Self::Unconnected(ConnectError::TooMany) => "too_many_connections",
            Self::Unconnected(error) => match error.fault() {
                Some(fault) => fault.label(),
                None => "connect",
            },
            Self::Stale => "stale",
            Self::TurnedAway => "turned_away",
            Self::Broken => UpstreamFault::Broken.label(),
            Self::Timeout => UpstreamFault::Timeout.label(),
            Self::GatewayError => UpstreamFault::Status.label(),
        }
    }
}

/// Whether an answer says that the target, or what is behind it, is not well.
fn is_gateway_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

impl ConnectError {
    /// How it is counted; not at all when the target is as it should be.
    const fn fault(self) -> Option<UpstreamFault> {
        match self {
            Self::Unreachable => Some(UpstreamFault::Connect),
            Self::Forbidden => Some(UpstreamFault::Refused),
            Self::Certificate => Some(UpstreamFault::Certificate),
            Self::TooMany => None,
        }
    }
}
