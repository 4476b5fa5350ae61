//! The bodies of requests on their way to a target, and of answers on their way to a client.

use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use model::Fault;

use crate::{
    balance::UpstreamConnection,
    coding::{DecodeError, PIECE},
    connection::{Incomplete, StreamBody, Tunnel, Wire},
    fields::AnswerFields,
    metrics::UpstreamFault,
    stages::{Recorder, present::Recoding},
};

/// The body of a request as the client sends it.
pub(crate) enum ClientBody {
    Empty,
    Http1(Rc<Wire>),
    Http2(Box<StreamBody>),
}

/// What a client is answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Without those that frame the body.
    pub(crate) fields: AnswerFields,
    pub(crate) body: ResponseBody,
    /// Whether the connection cannot be used any further.
    pub(crate) closes: bool,
    /// The far end, when the connection has switched to another protocol.
    pub(crate) tunnel: Option<Box<Tunnel>>,
}

/// The body of a request on its way to a target.
pub(crate) enum RequestBody {
    Empty,
    Whole(Bytes),
    Streamed {
        body: ClientBody,
        watch: Rc<BodyWatch>,
    },
    /// A streamed body of which a part was already taken.
    Resumed {
        taken: Option<Bytes>,
        rest: Box<RequestBody>,
    },
}

/// What becomes of a request body while it streams.
pub(crate) struct BodyWatch {
    pub(crate) bytes: Cell<u64>,
    max_bytes: u64,
    pub(crate) trouble: Cell<Option<BodyTrouble>>,
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
    Recoded(Box<RecodedBody>),
}

/// The body of an answer that is coded or decoded on its way.
pub(crate) struct RecodedBody {
    body: UpstreamBody,
    /// None once all has been given out.
    recoding: Option<Recoding>,
    /// What was taken from the target and not recoded yet.
    data: Bytes,
    /// Whether something was taken in since the last time that everything was given out.
    is_dirty: bool,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until when it must have arrived.
    pub(crate) deadline: u64,
    /// Nanoseconds after which it ends when nothing comes, for answers that may go on as long as something does.
    pub(crate) idle: Option<u64>,
}

/// The body of an answer that a target is still sending.
pub(crate) struct UpstreamBody {
    /// None once the answer has arrived whole, or broken off.
    connection: Option<Box<UpstreamConnection>>,
    recorder: Box<Recorder>,
    patience: Patience,
    trailers: Option<HeaderMap>,
}

/// The answer of a target broke off.
#[derive(Debug, thiserror::Error)]
#[error("the answer of the target broke off")]
pub(crate) struct BrokenOff;

impl BodyWatch {
    pub(crate) fn new(max_bytes: u64) -> Rc<Self> {
        Rc::new(Self { bytes: Cell::new(0), max_bytes, trouble: Cell::new(None) })
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

impl ClientBody {
    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// How many bytes are still to come, when that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Http1(wire) => wire.body_left(),
            Self::Http2(stream) => stream.left(),
        }
    }

    /// The next data.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Incomplete>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(wire) => wire.poll_body(context),
            Self::Http2(stream) => stream.poll_data(context),
        }
    }

    /// The trailers of a body that has ended.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Empty => None,
            Self::Http1(wire) => wire.take_trailers(),
            Self::Http2(stream) => stream.take_trailers(),
        }
    }
}

impl RequestBody {
    /// The same body again, unless it has to be taken from the client.
    pub(crate) fn repeat(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Streamed { .. } | Self::Resumed { .. } => None,
        }
    }

    /// How long it is, when that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Streamed { body, .. } => body.left(),
            Self::Resumed { .. } => None,
        }
    }

    /// The next data from the client; there is none left of a body that is kept whole.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyTrouble>>> {
        let (body, watch) = match self {
            Self::Empty | Self::Whole(_) => return Poll::Ready(None),
            Self::Streamed { body, watch } => (body, watch),
            Self::Resumed { taken, rest } => {
                return match taken.take() {
                    Some(data) => Poll::Ready(Some(Ok(data))),
                    None => rest.poll_data(context),
                };
            }
        };
        Poll::Ready(match ready!(body.poll_data(context)) {
            None => None,
            Some(Ok(data)) => Some(watch.count(data.len()).map(|()| data)),
            Some(Err(Incomplete)) => {
                watch.trouble.set(Some(BodyTrouble::Incomplete));
                Some(Err(BodyTrouble::Incomplete))
            }
        })
    }

    /// The trailers of a body that has ended.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Streamed { body, .. } => body.take_trailers(),
            Self::Resumed { rest, .. } => rest.take_trailers(),
        }
    }
}

impl ResponseBody {
    /// The body of a target's answer; one that is empty ends the call at once.
    pub(crate) fn upstream(
        connection: Box<UpstreamConnection>,
        recorder: Box<Recorder>,
        patience: Patience,
        recoding: Option<Recoding>,
    ) -> Self {
        let ended = connection.has_ended();
        let mut body =
            UpstreamBody { connection: Some(connection), recorder, patience, trailers: None };
        if ended {
            body.finish();
            return Self::Local(None);
        }
        match recoding {
            None => Self::Upstream(body),
            Some(recoding) => Self::Recoded(Box::new(RecodedBody {
                body,
                recoding: Some(recoding),
                data: Bytes::new(),
                is_dirty: false,
            })),
        }
    }

    /// Whether no target has a part in it any more.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Whether all of it has been taken.
    pub(crate) const fn has_ended(&self) -> bool {
        match self {
            Self::Local(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.connection.is_none(),
            Self::Recoded(body) => body.recoding.is_none(),
        }
    }

    /// How many bytes are still to come, when that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Local(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(body) => {
                body.connection.as_ref().map_or(Some(0), |connection| connection.left())
            }
            Self::Recoded(body) => body.recoding.is_none().then_some(0),
        }
    }

    /// The next data.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        match self {
            Self::Local(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Upstream(body) => body.poll_data(context),
            Self::Recoded(body) => body.poll_data(context),
        }
    }

    /// Whether trailers come behind a body that has ended.
    pub(crate) fn has_trailers(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Upstream(body) => body.trailers.is_some(),
            Self::Recoded(body) => body.body.trailers.is_some(),
        }
    }

    /// The trailers of a body that has ended.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Local(_) => None,
            Self::Upstream(body) => body.trailers.take(),
            Self::Recoded(body) => body.body.trailers.take(),
        }
    }
}

impl UpstreamBody {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        match self.recorder.with_scratch(|scratch| connection.poll_data(context, scratch)) {
            Poll::Ready(Some(Ok(data))) => {
                let ended = connection.has_ended();
                self.recorder.add_response_bytes(data.len());
                if let Some(idle) = self.patience.idle {
                    self.patience.deadline = self.recorder.extend(idle);
                }
                if ended {
                    self.finish();
                }
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(_broken))) => self.break_off(UpstreamFault::Broken),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending if self.recorder.is_past(self.patience.deadline) => {
                self.break_off(UpstreamFault::Timeout)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The whole answer has arrived: the call is recorded, and the connection can carry another.
    fn finish(&mut self) {
        self.recorder.finish(Fault::None);
        let Some(mut connection) = self.connection.take() else { return };
        self.trailers = connection.take_trailers();
        if connection.is_reusable() {
            self.recorder.keep(connection);
        }
    }

    fn break_off<T>(&mut self, fault: UpstreamFault) -> Poll<Option<Result<T, BrokenOff>>> {
        self.connection = None;
        self.recorder.break_off(fault);
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

impl RecodedBody {
    /// Recodes a piece at a time. When nothing comes for a while, everything so far is given out.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            let Some(recoding) = &mut self.recoding else { return Poll::Ready(None) };
            if self.data.is_empty() {
                match self.body.poll_data(context) {
                    Poll::Ready(Some(Ok(data))) => self.data = data,
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                    Poll::Ready(None) => return Poll::Ready(self.finish()),
                    Poll::Pending => {
                        let flushed = match recoding {
                            Recoding::Encode(encoder) if std::mem::take(&mut self.is_dirty) => {
                                encoder.flush()
                            }
                            _ => Bytes::new(),
                        };
                        return if flushed.is_empty() {
                            Poll::Pending
                        } else {
                            Poll::Ready(Some(Ok(flushed)))
                        };
                    }
                }
            }
            let piece = self.data.split_to(self.data.len().min(PIECE));
            self.is_dirty = true;
            let recoded = match recoding {
                Recoding::Encode(encoder) => encoder.push(&piece),
                Recoding::Decode(decoder) => match decoder.push(&piece) {
                    Ok(recoded) => recoded,
                    Err(error) => return Poll::Ready(Some(Err(self.refuse(error)))),
                },
            };
            if !recoded.is_empty() {
                return Poll::Ready(Some(Ok(recoded)));
            }
        }
    }

    fn finish(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let last = match self.recoding.take()? {
            Recoding::Encode(encoder) => encoder.finish(),
            Recoding::Decode(decoder) => match decoder.finish() {
                Ok(last) => last,
                Err(error) => return Some(Err(self.refuse(error))),
            },
        };
        if last.is_empty() { None } else { Some(Ok(last)) }
    }

    /// The target's answer cannot be decoded; what went out already is not taken for the whole.
    fn refuse(&mut self, error: DecodeError) -> BrokenOff {
        tracing::debug!(error = &error as &dyn std::error::Error, "an answer is cut off");
        self.body.connection = None;
        self.body.recorder.break_off(UpstreamFault::Broken);
        BrokenOff
    }
}
