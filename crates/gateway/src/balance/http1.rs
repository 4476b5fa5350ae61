//! One connection to a target, and the exchange of requests and answers over it (HTTP/1.1, RFC 9112).
//!
//! The task of the call reads and writes itself, so that nothing is handed over. An answer may begin before the request
//! has been sent whole; what is left of the request is sent on while the answer arrives. What a target sends is read into
//! memory that all connections of a worker share, so that an idle connection holds none.

use std::{
    future::{Future as _, poll_fn},
    io::{self, IoSlice, Write as _},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};

use super::{
    chunks::Chunks,
    connection::{AnswerHead, Broken, RequestHead},
    endpoint::Open,
    head::{self, Head},
    stream::UpstreamStream,
};
use crate::{
    body::{BodyTrouble, RequestBody},
    fields::AnswerFields,
    headers, trailers,
};

/// A target that sends this much at once is read from in large pieces.
const BULK_FROM: usize = 16 << 10;
const BULK_FIRST: usize = 128 << 10;
const BULK_MOST: usize = 512 << 10;

/// A connection to a target.
pub(crate) struct Http1 {
    stream: UpstreamStream,
    pub(super) open: Open,
    /// Where it leads.
    pub(super) peer: Option<SocketAddr>,
    /// Whether it has carried a call before.
    pub(super) reused: bool,
    sending: Sending,
    receiving: Receiving,
    /// Whether the answer has no body whatever it says.
    to_head: bool,
    /// Whether the target may switch to another protocol.
    to_upgrade: bool,
    /// Whether another request may follow.
    keep: bool,
    /// What came after the body.
    trailers: Option<HeaderMap>,
    /// What was read and not taken yet.
    unread: Bytes,
    /// How much of it was looked through for the end of a head in vain.
    searched: usize,
    /// Where a large body is read into, and how much of it at once; nothing while a target sends little.
    room: BytesMut,
    bulk: usize,
}

/// What is left to send of a request.
#[derive(Default)]
struct Sending {
    /// The head, or the size of the next chunk.
    text: Vec<u8>,
    sent: usize,
    data: Bytes,
    body: Option<RequestBody>,
    chunks: ChunksSent,
    /// Whether something may still be held back by the protection of the stream.
    unflushed: bool,
}

/// Whether the body is sent in chunks, and whether one has to be closed.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum ChunksSent {
    #[default]
    Unchunked,
    None,
    Some,
}

/// What is to come of an answer.
#[derive(PartialEq, Eq)]
enum Receiving {
    Nothing,
    Head,
    Length(u64),
    Chunks(Chunks),
    UntilClose,
}

/// Why a request was not sent whole.
enum SendError {
    Body,
    Connection,
}

impl Http1 {
    pub(super) fn new(stream: UpstreamStream, open: Open) -> Self {
        Self {
            peer: stream.peer().ok(),
            stream,
            open,
            reused: false,
            sending: Sending::default(),
            receiving: Receiving::Nothing,
            to_head: false,
            to_upgrade: false,
            keep: true,
            trailers: None,
            unread: Bytes::new(),
            searched: 0,
            room: BytesMut::new(),
            bulk: 0,
        }
    }

    /// Whether the target is quiet, as it should be before a request: it has neither closed the connection nor sent
    /// anything unasked.
    pub(super) async fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        poll_fn(|context| Poll::Ready(self.poll_read(context, &mut byte).is_pending())).await
    }

    /// Waits for another call, holding no memory for what it may read.
    pub(super) fn rest(&mut self) {
        self.reused = true;
        self.room = BytesMut::new();
        self.bulk = 0;
    }

    /// Begins to send a request; [`Http1::poll_answer`] carries on with it.
    pub(super) fn begin(&mut self, head: &RequestHead<'_>, body: RequestBody) {
        self.sending.begin(head, body);
        self.receiving = Receiving::Head;
        self.to_head = head.method == Method::HEAD;
        self.to_upgrade = head.upgrade.is_some();
        self.trailers = None;
        self.keep = true;
    }

    /// Sends on, and waits for the head of the answer.
    pub(super) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<AnswerHead, Broken>> {
        self.send_on(context)?;
        loop {
            if !self.unread.is_empty()
                && let Some(head) = self.take_head()?
            {
                return Poll::Ready(Ok(head));
            }
            match self.poll_read(context, scratch) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Err(Broken)),
                // The rest of the request cannot be sent, and nothing has been said about it.
                Poll::Pending if !self.keep => return Poll::Ready(Err(Broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends on, and waits for more of the answer's body.
    pub(super) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Err(broken) = self.send_on(context) {
            return Poll::Ready(Some(Err(broken)));
        }
        loop {
            match self.take_data() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) if self.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(broken) => return Poll::Ready(Some(Err(broken))),
            }
            match ready!(self.poll_read(context, scratch)) {
                Ok(0) if self.receiving == Receiving::UntilClose => {
                    self.receiving = Receiving::Nothing;
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Broken))),
                Ok(_) => {}
            }
        }
    }

    /// Whether the answer has arrived whole.
    pub(super) fn has_ended(&self) -> bool {
        self.receiving == Receiving::Nothing
    }

    /// How many bytes of the body are still to come, when that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.receiving {
            Receiving::Nothing => Some(0),
            Receiving::Length(left) => Some(left),
            Receiving::Head | Receiving::Chunks(_) | Receiving::UntilClose => None,
        }
    }

    /// Whether it can carry another call.
    pub(super) fn is_reusable(&self) -> bool {
        self.keep && self.has_ended() && self.sending.has_ended() && self.unread.is_empty()
    }

    /// What came after the body, once it has ended.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// The stream after the protocol was switched, and what was read of it already.
    pub(super) fn into_upgraded(self) -> (UpstreamStream, Bytes) {
        (self.stream, self.unread)
    }

    /// Sends as much as possible now. A target may stop to read and answer all the same; that is its last answer.
    fn send_on(&mut self, context: &mut Context<'_>) -> Result<(), Broken> {
        if self.sending.has_ended() {
            return Ok(());
        }
        match self.sending.poll_send(&mut self.stream, context) {
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            Poll::Ready(Err(SendError::Body)) => Err(Broken),
            Poll::Ready(Err(SendError::Connection)) => {
                self.sending = Sending::default();
                self.keep = false;
                Ok(())
            }
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = if self.bulk > 0 {
            self.room.reserve(self.bulk);
            let read = ready!(pin!(self.stream.read_buf(&mut self.room)).poll(context))?;
            if read >= self.bulk {
                self.bulk = (2 * self.bulk).min(BULK_MOST);
            }
            self.room.split().freeze()
        } else {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().len() >= BULK_FROM {
                self.bulk = BULK_FIRST;
            }
            Bytes::copy_from_slice(buffer.filled())
        };
        let read = bytes.len();
        self.unread = if self.unread.is_empty() {
            bytes
        } else {
            Bytes::from([self.unread.as_ref(), bytes.as_ref()].concat())
        };
        Poll::Ready(Ok(read))
    }

    /// Takes the head of the final answer off what was read; none while it is not there whole.
    fn take_head(&mut self) -> Result<Option<AnswerHead>, Broken> {
        while let Some(end) = head::end(&self.unread, &mut self.searched)? {
            let head = head::parse(self.unread.split_to(end))?;
            let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
            if is_switch && (!self.to_upgrade || head.is_old) {
                return Err(Broken);
            }
            if is_switch || !head.status.is_informational() {
                return Ok(Some(self.accept(head)));
            }
        }
        Ok(None)
    }

    /// Makes an answer of a head, and finds out how its body is framed.
    fn accept(&mut self, head: Head) -> AnswerHead {
        let Head { status, is_old, fields, length, is_chunked, closes, keeps_alive } = head;
        let is_bodiless = self.to_head || matches!(status.as_u16(), 101 | 204 | 304);
        self.receiving = match length {
            _ if is_bodiless => Receiving::Nothing,
            _ if is_chunked => Receiving::Chunks(Chunks::new()),
            Some(0) => Receiving::Nothing,
            Some(length) => Receiving::Length(length),
            None => Receiving::UntilClose,
        };
        self.keep &= !closes
            && status != StatusCode::SWITCHING_PROTOCOLS
            && (!is_old || keeps_alive)
            && self.receiving != Receiving::UntilClose;
        AnswerHead { status, fields: AnswerFields::new(fields) }
    }

    /// Takes the next of the body off what was read.
    fn take_data(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        match &mut self.receiving {
            Receiving::Nothing | Receiving::Head => Ok(None),
            Receiving::UntilClose => Ok(Some(std::mem::take(&mut self.unread))),
            Receiving::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.unread.len());
                *left -= here as u64;
                if *left == 0 {
                    self.receiving = Receiving::Nothing;
                }
                Ok(Some(self.unread.split_to(here)))
            }
            Receiving::Chunks(chunks) => {
                let data = chunks.take(&mut self.unread).map_err(|_malformed| Broken)?;
                if chunks.has_ended() {
                    self.trailers = chunks.take_trailers();
                    self.receiving = Receiving::Nothing;
                }
                Ok(data)
            }
        }
    }
}

impl Sending {
    fn begin(&mut self, head: &RequestHead<'_>, body: RequestBody) {
        self.sent = 0;
        self.chunks = ChunksSent::Unchunked;
        let text = &mut self.text;
        text.clear();
        for part in [head.method.as_str(), " ", head.path.path()] {
            text.extend_from_slice(part.as_bytes());
        }
        if let Some(query) = head.path.query() {
            text.push(b'?');
            text.extend_from_slice(query.as_bytes());
        }
        text.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        text.extend_from_slice(head.host.as_bytes());
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(head.fields);
        if let Some(protocol) = head.upgrade {
            text.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
            text.extend_from_slice(protocol.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        self.unflushed = true;
        let expected = matches!(*head.method, Method::POST | Method::PUT | Method::PATCH);
        match body.length() {
            Some(0) if !expected => {}
            Some(length) => headers::write_length(text, length),
            None => {
                text.extend_from_slice(b"transfer-encoding: chunked\r\n");
                self.chunks = ChunksSent::None;
            }
        }
        text.extend_from_slice(b"\r\n");
        (self.data, self.body) = match body {
            RequestBody::Empty => (Bytes::new(), None),
            RequestBody::Whole(bytes) => (bytes, None),
            RequestBody::Streamed { .. } | RequestBody::Resumed { .. } => {
                (Bytes::new(), Some(body))
            }
        };
    }

    fn has_ended(&self) -> bool {
        !self.unflushed && self.text.is_empty() && self.data.is_empty() && self.body.is_none()
    }

    fn poll_send(
        &mut self,
        stream: &mut UpstreamStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            ready!(self.poll_write(stream, context)).map_err(|_io| SendError::Connection)?;
            let flushed = Pin::new(&mut *stream).poll_flush(context);
            ready!(flushed).map_err(|_io| SendError::Connection)?;
            let Some(body) = &mut self.body else {
                self.unflushed = false;
                return Poll::Ready(Ok(()));
            };
            let data = ready!(body.poll_data(context))
                .transpose()
                .map_err(|_trouble: BodyTrouble| SendError::Body)?;
            if self.chunks != ChunksSent::Unchunked {
                let trailers = if data.is_none() { body.take_trailers() } else { None };
                self.frame(data.as_ref(), trailers);
            }
            match data {
                Some(data) => self.data = data,
                None => self.body = None,
            }
        }
    }

    /// Closes the chunk before, and opens one for `data` or ends the body.
    fn frame(&mut self, data: Option<&Bytes>, trailers: Option<HeaderMap>) {
        // An empty chunk would end the body.
        if data.is_some_and(Bytes::is_empty) {
            return;
        }
        if self.chunks == ChunksSent::Some {
            self.text.extend_from_slice(b"\r\n");
        }
        self.chunks = ChunksSent::Some;
        match data {
            Some(data) => write!(self.text, "{:x}\r\n", data.len())
                .expect("a vector takes whatever is written"),
            None => {
                self.text.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.map(trailers::lawful).iter().flatten() {
                    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                        self.text.extend_from_slice(part);
                    }
                }
                self.text.extend_from_slice(b"\r\n");
            }
        }
    }

    fn poll_write(
        &mut self,
        stream: &mut UpstreamStream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let text = self.text.get(self.sent..).unwrap_or_default();
            let written = match (text.is_empty(), self.data.is_empty()) {
                (true, true) => break,
                (false, true) => Pin::new(&mut *stream).poll_write(context, text),
                (true, false) => Pin::new(&mut *stream).poll_write(context, &self.data),
                (false, false) => {
                    let parts = [IoSlice::new(text), IoSlice::new(&self.data)];
                    Pin::new(&mut *stream).poll_write_vectored(context, &parts)
                }
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero)));
            }
            let of_text = written.min(text.len());
            self.sent += of_text;
            self.data.advance(written - of_text);
        }
        self.text.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}
