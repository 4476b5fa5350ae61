//! A client's socket over HTTP/1.1: what is read from it, and what may be written to it when.
//!
//! On the way in every byte passes the strict readers of heads and bodies; on the way out nothing is sent before the
//! usage of the call it belongs to has been written.

use std::{
    cell::RefCell,
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::{
    LINGER,
    head::{Continuation, Framing, HeadReader, Offence, RequestHead},
    incoming::BodyReader,
    state::{Command, ConnectionState},
    stream::ClientStream,
};
use crate::worker::Worker;

/// How many bytes a client that is being refused is listened to, so that it sees why.
const LINGER_BYTES: usize = 1 << 20;
/// Up to this size the head and the first data of an answer are sent as one piece.
const FLAT_MAX: usize = 4 << 10;
/// A client that sends this much at once is read from in large pieces.
const BULK_FROM: usize = 16 << 10;
const BULK: usize = 128 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's socket.
pub(crate) struct Wire {
    worker: Rc<Worker>,
    state: Rc<ConnectionState>,
    stream: RefCell<ClientStream>,
    input: RefCell<Input>,
}

struct Input {
    /// Holds what was read and not taken yet, of heads and bodies alike.
    heads: HeadReader,
    body: BodyReader,
    /// Whether the client waits to be told to send the body.
    awaits_continue: bool,
    /// Whether the body is read in large pieces.
    is_bulk: bool,
    /// Whether the client was caught in an offence; nothing it sends is believed any more.
    is_offensive: bool,
}

/// What is to be written next.
#[derive(Default)]
pub(super) struct Output {
    pub(super) text: Vec<u8>,
    sent: usize,
    data: Bytes,
}

/// A request body did not arrive whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incomplete;

impl Wire {
    pub(super) fn new(
        stream: ClientStream,
        worker: Rc<Worker>,
        state: Rc<ConnectionState>,
    ) -> Rc<Self> {
        let settings = &worker.shared.settings;
        let input = Input {
            heads: HeadReader::new(settings.max_header_bytes, settings.max_headers),
            body: BodyReader::new(Framing::Length(0)),
            awaits_continue: false,
            is_bulk: false,
            is_offensive: false,
        };
        Rc::new(Self { worker, state, stream: RefCell::new(stream), input: RefCell::new(input) })
    }

    /// Waits for the next request; none when the client has closed the connection, or is to.
    pub(super) async fn next_head(&self) -> Result<Option<(RequestHead, Continuation)>, Offence> {
        poll_fn(|context| self.poll_head(context)).await
    }

    fn poll_head(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<(RequestHead, Continuation)>, Offence>> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        loop {
            if !input.heads.is_empty() {
                match input.heads.take() {
                    Ok(Some((head, continuation))) => {
                        input.body = BodyReader::new(continuation.body);
                        input.awaits_continue = continuation.expects_continue;
                        self.state.saw_bytes(true, self.worker.coarse_now());
                        return Poll::Ready(Ok(Some((head, continuation))));
                    }
                    Ok(None) => self.state.saw_bytes(false, self.worker.coarse_now()),
                    Err(offence) => {
                        input.is_offensive = true;
                        return Poll::Ready(Err(offence));
                    }
                }
            } else if self.state.command() == Command::Drain {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.poll_fill(input, context)) {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// The next data of the body of the request that was read last.
    pub(crate) fn poll_body(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Incomplete>>> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        loop {
            match input.body.take(&mut input.heads.text) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) if input.body.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(_offence) => {
                    input.is_offensive = true;
                    return Poll::Ready(Some(Err(Incomplete)));
                }
            }
            if std::mem::take(&mut input.awaits_continue) && input.heads.is_empty() {
                // So few bytes fit into any socket that nothing waits in; if not, the client gives up waiting.
                let mut stream = self.stream.borrow_mut();
                let sent = Pin::new(&mut *stream).poll_write(context, CONTINUE);
                if !matches!(sent, Poll::Ready(Ok(sent)) if sent == CONTINUE.len()) {
                    return Poll::Ready(Some(Err(Incomplete)));
                }
                let _ = Pin::new(&mut *stream).poll_flush(context);
            }
            match ready!(self.poll_fill(input, context)) {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(Some(Err(Incomplete))),
            }
        }
    }

    /// Waits until the client goes away, which shows only once the whole request has been read.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        let most = self.worker.shared.settings.max_header_bytes;
        while input.body.has_ended() && input.heads.text.len() < most {
            match ready!(self.poll_fill(input, context)) {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// How many bytes of the request's body are still to come, when that is known.
    pub(crate) fn body_left(&self) -> Option<u64> {
        self.input.borrow().body.left()
    }

    /// The trailers of a body that has been read whole.
    pub(crate) fn take_trailers(&self) -> Option<HeaderMap> {
        self.input.borrow_mut().body.take_trailers()
    }

    /// Whether the request has been read whole, or what is left of it is here already and can be passed over.
    pub(super) fn pass_over_rest(&self) -> bool {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        while let Ok(Some(_)) = input.body.take(&mut input.heads.text) {}
        input.body.has_ended()
    }

    /// Reads what the client sends once it has switched to another protocol.
    pub(super) fn poll_read_raw(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let text = &mut self.input.borrow_mut().heads.text;
        if text.is_empty() {
            return self.with_stream(|stream| stream.poll_read(context, buffer));
        }
        buffer.put_slice(&text.split_to(text.len().min(buffer.remaining())));
        Poll::Ready(Ok(()))
    }

    /// Lends the socket.
    pub(super) fn with_stream<T>(&self, lend: impl FnOnce(Pin<&mut ClientStream>) -> T) -> T {
        lend(Pin::new(&mut *self.stream.borrow_mut()))
    }

    fn poll_fill(&self, input: &mut Input, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let text = &mut input.heads.text;
        if input.is_bulk {
            text.reserve(BULK);
            let read = ready!(pin!(stream.read_buf(text)).poll(context))?;
            input.is_bulk = !input.body.has_ended();
            return Poll::Ready(Ok(read));
        }
        let mut scratch = self.worker.client_scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        let bytes = buffer.filled();
        input.is_bulk = bytes.len() >= BULK_FROM && !input.body.has_ended();
        text.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Writes all of `output` once the usage of what is written is in the journal.
    pub(super) async fn write(&self, output: &mut Output) -> io::Result<()> {
        poll_fn(|context| self.poll_write(output, context)).await
    }

    fn poll_write(&self, output: &mut Output, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.worker.usage.poll_written(self.state.ticket(), context));
        let mut stream = self.stream.borrow_mut();
        let mut stream = Pin::new(&mut *stream);
        loop {
            let text = output.text.get(output.sent..).unwrap_or_default();
            let written = match (text.is_empty(), output.data.is_empty()) {
                (true, true) => break,
                (false, true) => stream.as_mut().poll_write(context, text),
                (true, false) => stream.as_mut().poll_write(context, &output.data),
                (false, false) => {
                    let parts = [IoSlice::new(text), IoSlice::new(&output.data)];
                    stream.as_mut().poll_write_vectored(context, &parts)
                }
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero)));
            }
            let of_text = written.min(text.len());
            output.sent += of_text;
            output.data.advance(written - of_text);
        }
        output.text.clear();
        output.sent = 0;
        stream.poll_flush(context)
    }

    /// Ends the connection so that the client can read what was sent last.
    pub(super) async fn close(&self) {
        if self.state.is_broken() {
            // A reset, so that an answer cut off is never taken for a whole one.
            self.stream.borrow().reset_on_close();
            return;
        }
        let is_unread = {
            let input = self.input.borrow();
            input.is_offensive || !input.body.has_ended() || !input.heads.is_empty()
        };
        let close = async {
            // The client may be gone already.
            let _ =
                poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(context))
                    .await;
            if is_unread {
                self.discard().await;
            }
        };
        let _ = timeout(LINGER, close).await;
    }

    /// Reads on and forgets, so that what was sent is not lost in a reset.
    async fn discard(&self) {
        let mut left = LINGER_BYTES;
        poll_fn(|context| {
            let mut stream = self.stream.borrow_mut();
            let mut scratch = self.worker.client_scratch.borrow_mut();
            while left > 0 {
                let mut buffer = ReadBuf::new(&mut scratch);
                match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {
                        left = left.saturating_sub(buffer.filled().len());
                    }
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Output {
    /// Adds data; a little is joined to the text before it, so that one piece is sent.
    pub(super) fn push(&mut self, data: Bytes) {
        if self.data.is_empty() && self.text.len() + data.len() <= FLAT_MAX {
            self.text.extend_from_slice(&data);
        } else {
            self.data = data;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.data.is_empty()
    }

    /// Whether more text may be added behind what is there.
    pub(super) fn is_flat(&self) -> bool {
        self.data.is_empty()
    }
}
