//! A connection that has switched to another protocol (RFC 9110, 7.8): bytes pass both ways until either side ends it,
//! or nothing passes for too long.

use std::{
    cell::Cell,
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use model::Fault;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};

use super::wire::Wire;
use crate::{balance::UpstreamStream, stages::Recorder};

/// The far end of a connection that has switched to another protocol.
pub(crate) struct Tunnel {
    stream: UpstreamStream,
    /// What the target has said already.
    unread: Bytes,
    recorder: Box<Recorder>,
    /// Nanoseconds after which it ends when nothing passes.
    idle: u64,
}

/// The near end, and how many bytes have passed it.
struct Near<'wire> {
    wire: &'wire Wire,
    received: Rc<Cell<u64>>,
    sent: Rc<Cell<u64>>,
}

impl Tunnel {
    pub(crate) fn new(
        (stream, unread): (UpstreamStream, Bytes),
        recorder: Box<Recorder>,
        idle: u64,
    ) -> Self {
        Self { stream, unread, recorder, idle }
    }

    /// Carries bytes both ways until the end.
    pub(super) async fn run(self, wire: &Wire) {
        let Self { mut stream, unread, mut recorder, idle } = self;
        let (received, sent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let mut near = Near { wire, received: Rc::clone(&received), sent: Rc::clone(&sent) };
        let mut deadline = recorder.extend(idle);
        let joined = async {
            near.write_all(&unread).await?;
            copy_bidirectional(&mut near, &mut stream).await
        };
        let mut joined = pin!(joined);
        let mut passed = 0;
        let ended = poll_fn(|context| {
            if let Poll::Ready(ended) = joined.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            let now_passed = received.get() + sent.get();
            if now_passed != passed {
                passed = now_passed;
                deadline = recorder.extend(idle);
            }
            if recorder.is_past(deadline) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        if !matches!(ended, Some(Ok(_))) {
            tracing::debug!("a connection that had switched protocols was cut");
        }
        recorder.passed(received.get(), sent.get());
        recorder.finish(Fault::None);
    }
}

impl AsyncRead for Near<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.wire.poll_read_raw(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.received.set(self.received.get() + read as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Near<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.wire.with_stream(|stream| stream.poll_write(context, bytes)))?;
        self.sent.set(self.sent.get() + written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.with_stream(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.with_stream(|stream| stream.poll_shutdown(context))
    }
}
