//! A client's socket, with or without TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

/// A client's socket, with or without TLS.
pub(super) enum ClientStream {
    Plain(TcpStream),
    /// The bytes were read before anybody knew which protocol they belong to.
    Sniffed(Bytes, TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a client begins that speaks HTTP/2 without having asked (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl ClientStream {
    /// Finds out whether a client without TLS speaks HTTP/2; none when it says nothing in time.
    pub(super) async fn sniff(mut stream: TcpStream, patience: Duration) -> Option<(Self, bool)> {
        let mut bytes = BytesMut::with_capacity(PREFACE.len());
        let reading = async {
            while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
                match (&mut stream)
                    .take((PREFACE.len() - bytes.len()) as u64)
                    .read_buf(&mut bytes)
                    .await
                {
                    Ok(read) if read > 0 => {}
                    _ => return false,
                }
            }
            true
        };
        if !timeout(patience, reading).await.unwrap_or(false) {
            return None;
        }
        let is_http2 = *bytes == *PREFACE;
        Some((Self::Sniffed(bytes.freeze(), stream), is_http2))
    }

    /// Whether HTTP/2 was agreed on (RFC 7301).
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Sniffed(..) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Sees to it that the connection is reset when it is dropped.
    pub(super) fn reset_on_close(&self) {
        let socket = match self {
            Self::Plain(stream) | Self::Sniffed(_, stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // A socket that cannot be told is gone already.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Sniffed(bytes, stream) if bytes.is_empty() => {
                Pin::new(stream).poll_read(context, buffer)
            }
            Self::Sniffed(bytes, _) => {
                buffer.put_slice(&bytes.split_to(bytes.len().min(buffer.remaining())));
                Poll::Ready(Ok(()))
            }
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) | Self::Sniffed(_, stream) => {
                Pin::new(stream).poll_write(context, bytes)
            }
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) | Self::Sniffed(_, stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) | Self::Sniffed(_, stream) => {
                Pin::new(stream).poll_shutdown(context)
            }
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) | Self::Sniffed(_, stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) | Self::Sniffed(_, stream) => {
                Pin::new(stream).poll_write_vectored(context, parts)
            }
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }
}
