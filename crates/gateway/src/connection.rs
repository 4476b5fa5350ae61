//! One client connection: accepted, served, closed.

mod head;
mod http1;
mod http2;
mod incoming;
mod redirect;
mod state;
mod stream;
mod tunnel;
mod wire;

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

pub(crate) use head::{Offence, RequestHead, is_token, number};
pub(crate) use http2::StreamBody;
pub(crate) use state::{Command, ConnectionState, Connections, Peer};
pub(crate) use tunnel::Tunnel;
pub(crate) use wire::{Incomplete, Wire};

use crate::{rejection::Rejection, worker::Worker};
use stream::ClientStream;

/// How long a client that goes is listened to, so that it sees why.
const LINGER: Duration = Duration::from_secs(1);
const ALPN_HTTP2: &[u8] = b"h2";

/// What clients of a listener are met with.
#[derive(Clone)]
pub(crate) enum Entrance {
    Plain,
    /// Everybody is sent to the listener that speaks TLS, on this port.
    Redirect(u16),
    Tls(TlsAcceptor),
}

/// Serves one connection until either side closes it.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    address: SocketAddr,
    entrance: Entrance,
) {
    let is_secure = matches!(entrance, Entrance::Tls(_));
    let open = Connections::open(&worker, Peer::new(address, is_secure));
    let state = &open.state;
    match entrance {
        Entrance::Plain if worker.shared.settings.accepts_h2c => {
            let sniffed = ClientStream::sniff(stream, worker.shared.settings.header_timeout).await;
            match sniffed {
                Some((stream, true)) => {
                    unless_aborted(state, http2::serve(&worker, stream, state)).await;
                }
                Some((stream, false)) => serve_http1(&worker, stream, state).await,
                None => {}
            }
        }
        Entrance::Plain => serve_http1(&worker, ClientStream::Plain(stream), state).await,
        Entrance::Redirect(port) => {
            let stream = ClientStream::Plain(stream);
            let wire = Wire::new(stream, Rc::clone(&worker), Rc::clone(state));
            unless_aborted(state, redirect::serve(&worker, &wire, port)).await;
            close(&worker, &wire, state).await;
        }
        Entrance::Tls(acceptor) => {
            let patience = worker.shared.settings.header_timeout;
            let Ok(Ok(stream)) = timeout(patience, acceptor.accept(stream)).await else {
                worker.shared.metrics.tls_failures.inc();
                return;
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
            let stream = ClientStream::Tls(Box::new(stream));
            if is_http2 {
                unless_aborted(state, http2::serve(&worker, stream, state)).await;
            } else {
                serve_http1(&worker, stream, state).await;
            }
        }
    }
}

async fn serve_http1(worker: &Rc<Worker>, stream: ClientStream, state: &Rc<ConnectionState>) {
    let wire = Wire::new(stream, Rc::clone(worker), Rc::clone(state));
    unless_aborted(state, http1::serve(worker, &wire, state)).await;
    close(worker, &wire, state).await;
}

async fn close(worker: &Worker, wire: &Wire, state: &ConnectionState) {
    if state.command() == Command::Abort && state.is_slow_head() {
        http1::refuse(worker, wire, &Rejection::HeadTimeout).await;
    }
    wire.close().await;
}

/// Carries on until the end, or until the connection is told to close at once.
async fn unless_aborted(state: &ConnectionState, serving: impl Future<Output = ()>) {
    let mut serving = pin!(serving);
    poll_fn(|context| {
        state.remember(context.waker());
        match state.command() {
            Command::Abort => Poll::Ready(()),
            Command::Serve | Command::Drain => serving.as_mut().poll(context),
        }
    })
    .await;
}
