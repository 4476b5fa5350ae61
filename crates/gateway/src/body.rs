//! The bodies of requests on their way to a target, and of answers on their way to a client.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use model::Fault;

use crate::{balance::UpstreamConnection, metrics::UpstreamFault, stages::Recorder};

/// The body of a request on its way to a target.
pub(crate) enum RequestBody {
    Empty,
    Whole(Bytes),
    Streamed { incoming: Incoming, watch: Rc<BodyWatch> },
}

/// What becomes of a request body while it streams.
pub(crate) struct BodyWatch {
    pub(crate) bytes: Cell<u64>,
    max_bytes: u64,
    pub(crate) trouble: Cell<Option<BodyTrouble>>,
    /// What came after the body, once it has ended.
    pub(crate) trailers: Cell<Option<Box<HeaderMap>>>,
}

/// Why a request body did not arrive whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyTrouble {
    #[error("the request body is too large")]
    TooLarge,
    #[error("the request body did not arrive whole")]
    Incomplete,
}

/// The body of an answer.
pub(crate) enum ResponseBody {
    Local(Option<Bytes>),
    Upstream(UpstreamBody),
}

/// The body of an answer that a target is still sending.
pub(crate) struct UpstreamBody {
    /// None once the answer has arrived whole, or broken off.
    connection: Option<Box<UpstreamConnection>>,
    recorder: Box<Recorder>,
    deadline: u64,
}

/// The answer of a target broke off.
#[derive(Debug, thiserror::Error)]
#[error("the answer of the target broke off")]
pub(crate) struct BrokenOff;

impl BodyWatch {
    pub(crate) fn new(max_bytes: u64) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(0),
            max_bytes,
            trouble: Cell::new(None),
            trailers: Cell::new(None),
        })
    }

    /// Counts bytes that arrived; fails when there are too many.
    pub(crate) fn count(&self, bytes: usize) -> Result<(), BodyTrouble> {
        self.bytes.set(self.bytes.get() + bytes as u64);
        if self.bytes.get() > self.max_bytes {
            self.trouble.set(Some(BodyTrouble::TooLarge));
            return Err(BodyTrouble::TooLarge);
        }
        Ok(())
    }
}

impl RequestBody {
    /// The same body again, unless it has to be taken from the client.
    pub(crate) fn repeat(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Streamed { .. } => None,
        }
    }
}

impl RequestBody {
    /// How long it is, when that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Streamed { incoming, .. } => incoming.size_hint().exact(),
        }
    }

    /// What the client sent after the body, once that has ended.
    pub(crate) fn take_trailers(&self) -> Option<HeaderMap> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Streamed { watch, .. } => watch.trailers.take().map(|trailers| *trailers),
        }
    }

    /// The next data from the client; there is none left of a body that is kept whole.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyTrouble>>> {
        let Self::Streamed { incoming, watch } = self else { return Poll::Ready(None) };
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
                None => None,
                Some(Err(_)) => {
                    watch.trouble.set(Some(BodyTrouble::Incomplete));
                    Some(Err(BodyTrouble::Incomplete))
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(watch.count(data.len()).map(|()| data)),
                    Err(frame) => {
                        watch.trailers.set(frame.into_trailers().ok().map(Box::new));
                        continue;
                    }
                },
            });
        }
    }
}

impl ResponseBody {
    /// The body of a target's answer; one that is empty ends the call at once.
    pub(crate) fn upstream(
        connection: Box<UpstreamConnection>,
        recorder: Box<Recorder>,
        deadline: u64,
    ) -> Self {
        let ended = connection.has_ended();
        let mut body = UpstreamBody { connection: Some(connection), recorder, deadline };
        if ended {
            body.finish();
            return Self::Local(None);
        }
        Self::Upstream(body)
    }
}

impl UpstreamBody {
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        match self.recorder.with_scratch(|scratch| connection.poll_data(context, scratch)) {
            Poll::Ready(Some(Ok(data))) => {
                let ended = connection.has_ended();
                self.recorder.add_response_bytes(data.len());
                if ended {
                    self.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(_broken))) => self.break_off(UpstreamFault::Broken),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending if self.recorder.is_past(self.deadline) => {
                self.break_off(UpstreamFault::Timeout)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The whole answer has arrived: the call is recorded, and the connection can carry another.
    fn finish(&mut self) {
        self.recorder.finish(Fault::None);
        if let Some(connection) = self.connection.take()
            && connection.is_reusable()
        {
            self.recorder.keep(connection);
        }
    }

    fn break_off<T>(&mut self, fault: UpstreamFault) -> Poll<Option<Result<T, BrokenOff>>> {
        self.connection = None;
        self.recorder.break_off(fault);
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Local(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => body.poll_data(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.connection.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Upstream(body) => match &body.connection {
                Some(connection) => {
                    connection.left().map_or_else(SizeHint::default, SizeHint::with_exact)
                }
                None => SizeHint::with_exact(0),
            },
        }
    }
}
