//! The way of one call to a target and back, whichever protocol the target speaks.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::PathAndQuery};

use super::{http1::Http1, http2::Http2, stream::UpstreamStream};
use crate::{body::RequestBody, fields::AnswerFields};

/// The way of one call to a target and back.
///
/// It is large and changes hands often, so it is passed on in a box.
pub(crate) enum UpstreamConnection {
    /// A connection of its own, which may carry further calls afterwards.
    Http1(Http1),
    /// One stream of a connection that carries other calls at the same time.
    Http2(Http2),
}

/// The head of a request. The fields are those of [`crate::headers::write_request`], without host and length.
pub(crate) struct RequestHead<'call> {
    pub(crate) method: &'call Method,
    pub(crate) path: &'call PathAndQuery,
    pub(crate) host: &'call HeaderValue,
    pub(crate) fields: &'call [u8],
    /// The protocol that the client asks to switch to. An answer of 101 is an error without it.
    pub(crate) upgrade: Option<&'call HeaderValue>,
}

/// The head of an answer, without what was meant for this connection alone.
pub(crate) struct AnswerHead {
    pub(crate) status: StatusCode,
    pub(crate) fields: AnswerFields,
}

/// What came, or did not come, is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The connection broke, or what came over it is no answer.
    Broken,
    /// The target said that it has not begun to process the request.
    Unprocessed,
}

impl UpstreamConnection {
    /// Whether it, or the connection beneath it, has carried a call before.
    pub(crate) const fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.reused,
            Self::Http2(stream) => stream.is_reused(),
        }
    }

    /// Whether the target is quiet, as it should be before a request: it has neither closed the connection nor sent
    /// anything unasked.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_quiet().await,
            Self::Http2(stream) => stream.is_usable(),
        }
    }

    /// Begins to send a request; [`UpstreamConnection::poll_answer`] carries on with it.
    pub(crate) fn begin(&mut self, head: &RequestHead<'_>, body: RequestBody) {
        match self {
            Self::Http1(connection) => connection.begin(head, body),
            Self::Http2(stream) => stream.begin(head, body),
        }
    }

    /// Sends on, and waits for the head of the answer.
    pub(crate) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<AnswerHead, NoAnswer>> {
        match self {
            Self::Http1(connection) => connection
                .poll_answer(context, scratch)
                .map(|answer| answer.map_err(|Broken| NoAnswer::Broken)),
            Self::Http2(stream) => stream.poll_answer(context),
        }
    }

    /// The body of a request of which nothing was taken, to be sent another way.
    pub(crate) fn take_back(&mut self) -> Option<RequestBody> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(stream) => stream.take_back(),
        }
    }

    /// Sends on, and waits for more of the answer's body.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        match self {
            Self::Http1(connection) => connection.poll_data(context, scratch),
            Self::Http2(stream) => stream.poll_data(context),
        }
    }

    /// The fields that came after the body, once it has ended; what must not stand there is dropped.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Http1(connection) => connection.take_trailers(),
            Self::Http2(stream) => stream.take_trailers(),
        }
    }

    /// The stream after an answer of 101, and what was read of it already; none where no protocol is switched.
    pub(crate) fn into_upgraded(self: Box<Self>) -> Option<(UpstreamStream, Bytes)> {
        match *self {
            Self::Http1(connection) => Some(connection.into_upgraded()),
            Self::Http2(_) => None,
        }
    }

    /// Whether the answer has arrived whole.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_ended(),
            Self::Http2(stream) => stream.has_ended(),
        }
    }

    /// How many bytes of the body are still to come, when that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Http1(connection) => connection.left(),
            Self::Http2(stream) => stream.left(),
        }
    }

    /// Whether it can carry another call.
    pub(crate) fn is_reusable(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reusable(),
            // The connection beneath it stays where it is.
            Self::Http2(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
