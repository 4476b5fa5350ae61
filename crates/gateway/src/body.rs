//! The bodies of requests on their way to a target, and of answers on their way to a client.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use model::Fault;

use crate::{balance::UpstreamConnection, metrics::UpstreamFault, stages::Recorder};

/// The body of a request on its way to a target.
pub(crate) enum RequestBody {
    Empty,
    Whole(Option<Bytes>),
    Streamed { incoming: Incoming, watch: Rc<BodyWatch> },
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
    Upstream(Box<UpstreamBody>),
}

/// The body of an answer that a target is still sending.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyTrouble;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyTrouble>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed { incoming, watch } => loop {
                return match Pin::new(&mut *incoming).poll_frame(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Ready(Some(Err(_))) => {
                        watch.trouble.set(Some(BodyTrouble::Incomplete));
                        Poll::Ready(Some(Err(BodyTrouble::Incomplete)))
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            Poll::Ready(Some(watch.count(data.len()).map(|()| Frame::data(data))))
                        }
                        // Trailers are meant for the next hop alone.
                        Err(_trailers) => continue,
                    },
                };
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl ResponseBody {
    /// The body of a target's answer; one that is empty ends the call at once.
    pub(crate) fn upstream(
        incoming: Incoming,
        connection: Box<UpstreamConnection>,
        recorder: Box<Recorder>,
        deadline: u64,
    ) -> Self {
        let connection = Some(connection);
        let mut body = UpstreamBody { incoming, connection, recorder, deadline };
        if body.incoming.is_end_stream() {
            body.finish();
            return Self::Local(None);
        }
        Self::Upstream(Box::new(body))
    }
}

impl UpstreamBody {
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Self { incoming, connection, .. } = self;
        let mut incoming = Pin::new(incoming);
        let frame = loop {
            let frame = match connection {
                Some(connection) => {
                    connection.drive(context, |context| incoming.as_mut().poll_frame(context))
                }
                None => return Poll::Ready(None),
            };
            match frame {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => break Some(Ok(data)),
                    // Trailers are meant for the next hop alone.
                    Err(_trailers) => continue,
                },
                Poll::Ready(Some(Err(_))) => break Some(Err(UpstreamFault::Broken)),
                Poll::Ready(None) => break None,
                Poll::Pending if self.recorder.is_past(self.deadline) => {
                    break Some(Err(UpstreamFault::Timeout));
                }
                Poll::Pending => return Poll::Pending,
            }
        };
        match frame {
            Some(Ok(data)) => {
                self.recorder.add_response_bytes(data.len());
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(fault)) => self.break_off(fault),
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    /// The whole answer has arrived: the call is recorded, and the connection can carry another.
    fn finish(&mut self) {
        self.recorder.finish(Fault::None);
        if let Some(mut connection) = self.connection.take()
            && connection.settle()
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
            Self::Upstream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Upstream(body) => body.incoming.size_hint(),
        }
    }
}
