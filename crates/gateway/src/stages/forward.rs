//! Stage 6: to a target and back.
//!
//! A call is tried again only while that is safe: when nothing of it was sent, or when its method is idempotent, its
//! body can be repeated and no answer has begun.

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, uri::PathAndQuery};

use super::{Recorder, route::Routed};
use crate::{
    balance::{AnswerHead, ConnectError, RequestHead, Target, UpstreamConnection, connect},
    body::{BodyTrouble, BodyWatch, ClientBody, RequestBody},
    connection::{Incomplete, RequestHead as ClientHead},
    metrics::UpstreamFault,
    rejection::Rejection,
    table::Deployment,
    worker::Worker,
};

/// Bodies up to this size are kept when that makes a call repeatable.
const REPEATABLE_BYTES: u64 = 64 << 10;
/// When no target is healthy and no check says when to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

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
}

/// An answer whose body is still to come.
pub(crate) struct Answered {
    pub(crate) head: AnswerHead,
    pub(crate) connection: Box<UpstreamConnection>,
}

/// How an attempt failed.
enum Failure {
    /// The connection was closed before anything was sent; the request is whole.
    Unsent,
    /// The connection broke, or what came over it is no answer.
    Broken,
    Timeout,
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
        Self { method: head.method.clone(), path, original, query, fields, body }
    }

    /// Whether the call may be made twice.
    fn is_repeatable(&self) -> bool {
        let is_kept = matches!(self.body, RequestBody::Empty | RequestBody::Whole(_));
        self.method.is_idempotent() && is_kept
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
    mut outgoing: Outgoing,
    recorder: &mut Recorder,
    mut now: u64,
    deadline: u64,
) -> Result<Answered, Rejection> {
    let mut tried: Vec<Arc<Target>> = Vec::new();
    let mut retries = deployment.upstream.retries;
    loop {
        if now >= deadline {
            return Err(fail(deployment, UpstreamFault::Timeout));
        }
        let Ok(target) = deployment.upstream.choose(&tried, now) else {
            return Err(fail(deployment, UpstreamFault::NoneHealthy));
        };
        let mut connection = match reach(worker, target, deadline - now).await {
            Ok(connection) => connection,
            Err(error) => {
                now = worker.now();
                target.failed(now);
                let rejection = fail(deployment, error.into());
                if retries == 0 {
                    return Err(rejection);
                }
                retries -= 1;
                tried.push(Arc::clone(target));
                continue;
            }
        };
        let again = retries > 0 && outgoing.is_repeatable();
        let began = if connection.reused { now } else { worker.now() };
        let outcome = exchange(worker, &mut connection, &mut outgoing, target, deadline).await?;
        now = worker.now();
        recorder.add_upstream_nanos(now.saturating_sub(began));
        match outcome {
            Ok(head) => {
                target.succeeded();
                return Ok(Answered { head, connection });
            }
            // The target closed an idle connection, which is its right and costs nobody a retry.
            Err(Failure::Unsent) if connection.reused => {}
            Err(Failure::Timeout) => {
                target.failed(now);
                return Err(fail(deployment, UpstreamFault::Timeout));
            }
            Err(Failure::Broken | Failure::Unsent) => {
                let trouble = recorder.request_body.as_ref().and_then(|watch| watch.trouble.get());
                if let Some(trouble) = trouble {
                    return Err(refuse(trouble, deployment));
                }
                target.failed(now);
                let rejection = fail(deployment, UpstreamFault::Broken);
                if !again {
                    return Err(rejection);
                }
                retries -= 1;
                tried.push(Arc::clone(target));
            }
        }
    }
}

/// An idle connection to the target, or a new one.
async fn reach(
    worker: &Worker,
    target: &Arc<Target>,
    left: u64,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    if let Some(connection) = worker.pool.take(target) {
        return Ok(connection);
    }
    let settings = &worker.shared.settings;
    let patience = settings.connect_timeout.min(Duration::from_nanos(left));
    // Rare, and large for a future that every call carries with it.
    Box::pin(connect(target, &settings.address_policy, patience, worker.now())).await
}

/// Sends a request and waits for the head of its answer.
async fn exchange(
    worker: &Worker,
    connection: &mut UpstreamConnection,
    outgoing: &mut Outgoing,
    target: &Target,
    deadline: u64,
) -> Result<Result<AnswerHead, Failure>, Rejection> {
    if !connection.is_quiet().await {
        return Ok(Err(Failure::Unsent));
    }
    outgoing.begin(target, connection)?;
    let answer = poll_fn(|context| {
        match connection.poll_answer(context, &mut worker.scratch.borrow_mut()) {
            Poll::Ready(answer) => Poll::Ready(answer.map_err(|_broken| Failure::Broken)),
            Poll::Pending if worker.coarse_now() >= deadline => Poll::Ready(Err(Failure::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    });
    Ok(answer.await)
}

/// Counts a failed attempt and says what the caller is told if it was the last.
fn fail(deployment: &Deployment, fault: UpstreamFault) -> Rejection {
    deployment.metrics.count_failure(fault);
    match fault {
        UpstreamFault::Connect | UpstreamFault::Refused => Rejection::UpstreamUnreachable,
        UpstreamFault::Broken => Rejection::UpstreamFailed,
        UpstreamFault::Timeout => Rejection::UpstreamTimeout,
        UpstreamFault::NoneHealthy => Rejection::NoHealthyTarget {
            retry_after: deployment.upstream.health_check.as_ref().map_or(RETRY_AFTER, |check| {
                Duration::from_millis(u64::from(check.interval_ms) * u64::from(check.healthy_after))
            }),
        },
    }
}

impl From<ConnectError> for UpstreamFault {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable => Self::Connect,
            ConnectError::Forbidden => Self::Refused,
        }
    }
}
