//! The bytes between a client and hyper.
//!
//! On the way in every byte passes the framing checks; on the way out nothing is sent before the usage of the call it
//! belongs to has been written.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    framing::{Found, Framing, Offence},
    state::{Command, ConnectionState},
};
use crate::{
    rejection::{Rejection, Subject},
    worker::Worker,
};

/// How long, and for how many bytes, a client that is being refused is listened to, so that it sees why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// Up to this size an answer is sent as one piece.
const FLAT_MAX: usize = 4 << 10;

/// A client's socket.
pub(crate) struct Wire {
    stream: TcpStream,
    worker: Rc<Worker>,
    state: Rc<ConnectionState>,
    framing: Framing,
    offence: Option<Offence>,
    /// Whether hyper waits to send something.
    holding: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, worker: Rc<Worker>, state: Rc<ConnectionState>) -> Self {
        let settings = &worker.shared.settings;
        let framing = Framing::new(settings.max_header_bytes, settings.max_headers);
        Self { stream, worker, state, framing, offence: None, holding: false }
    }

    /// Ends the connection so that the client can read what was sent last.
    pub(crate) async fn close(mut self) {
        if self.state.command() == Command::Abort && self.state.is_slow_head() {
            self.refuse(&Rejection::HeadTimeout);
        }
        if self.state.is_broken() {
            // A reset, so that an answer cut off is never taken for a whole one.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            return;
        }
        let unread = self.offence.is_some() || !self.framing.is_between_requests();
        // The client may be gone already.
        let _ = self.stream.shutdown().await;
        if unread {
            let mut left = LINGER_BYTES;
            let mut bytes = vec![0; 8 << 10];
            let discard = async {
                while left > 0 {
                    match self.stream.read(&mut bytes).await {
                        Ok(read) if read > 0 => left = left.saturating_sub(read),
                        _ => break,
                    }
                }
            };
            let _ = timeout(LINGER, discard).await;
        }
    }

    /// Answers past hyper, which holds nothing back at this point.
    fn refuse(&mut self, rejection: &Rejection) {
        self.worker.shared.metrics.malformed.inc();
        let at = self.worker.shared.clock.now();
        let request_id = self.worker.random.borrow_mut().request_id(at);
        let subject = Subject { path: None, request_id: &request_id, at };
        let (status, headers, body) = rejection.answer(subject);
        let mut bytes =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len()).into_bytes();
        for (name, value) in &headers {
            bytes.extend_from_slice(name.as_ref());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"x-request-id: ");
        bytes.extend_from_slice(request_id.as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&body);
        // A client that has not read its earlier answers does not get to see this one.
        let _ = self.stream.try_write(&bytes);
    }

    /// Answers an offence as soon as the answers to all earlier calls are sent.
    fn poll_offence(&mut self, offence: Offence) -> Poll<io::Result<()>> {
        if self.state.has_calls() || self.holding {
            return Poll::Pending;
        }
        self.refuse(&Rejection::Framing(offence));
        Poll::Ready(Err(io::Error::from(io::ErrorKind::InvalidData)))
    }

    /// Writes once the usage of what is written is in the journal.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        send: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let sent = match self.worker.usage.poll_written(self.state.ticket(), context) {
            Poll::Ready(()) => send(Pin::new(&mut self.stream), context),
            Poll::Pending => Poll::Pending,
        };
        self.holding = sent.is_pending();
        if sent.is_ready() && self.offence.is_some() {
            // Reading was put off until now.
            context.waker().wake_by_ref();
        }
        sent
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if let Some(offence) = wire.offence {
            return wire.poll_offence(offence);
        }
        let worker = Rc::clone(&wire.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let room = cursor.remaining().min(scratch.len());
        let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
        match Pin::new(&mut wire.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let in_body = wire.framing.is_in_body();
        match wire.framing.inspect(bytes) {
            Ok(()) => {
                wire.state.saw_bytes(wire.framing.is_between_requests(), worker.coarse_now());
                cursor.put_slice(bytes);
                Poll::Ready(Ok(()))
            }
            Err(Found { offence, clean }) => {
                wire.offence = Some(offence);
                if in_body && clean == 0 && wire.state.has_calls() {
                    // The call whose body this is fails, and answers for itself.
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::InvalidData)));
                }
                match bytes.get(..clean) {
                    Some(clean) if !clean.is_empty() => {
                        cursor.put_slice(clean);
                        Poll::Ready(Ok(()))
                    }
                    _ => wire.poll_offence(offence),
                }
            }
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    /// The socket is shut down by [`Wire::close`], when hyper is done.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let worker = Rc::clone(&wire.worker);
        wire.poll_send(context, |stream, context| {
            let total: usize = parts.iter().map(|part| part.len()).sum();
            if total > FLAT_MAX {
                return stream.poll_write_vectored(context, parts);
            }
            // The system takes one small piece faster than several.
            let mut scratch = worker.scratch.borrow_mut();
            let mut rest = &mut **scratch;
            for part in parts {
                let (place, tail) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = tail;
            }
            stream.poll_write(context, scratch.get(..total).unwrap_or_default())
        })
    }
}
