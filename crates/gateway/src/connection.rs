//! One client connection: accepted, served, closed.

#[cfg(feature = "fuzzing")]
mod fuzz;
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
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz;
pub(crate) use head::{Offence, RequestHead, is_token, number};
pub(crate) use http2::StreamBody;
pub(crate) use state::{Command, ConnectionState, Connections, Peer};
pub(crate) use tunnel::Tunnel;
pub(crate) use wire::{Incomplete, Wire};

use crate::{rejection::Rejection, worker::Worker};
use stream::ClientStream;

/// How long a client that goes is listened to, so that it sees why.
const LINGER: Duration = Duration::from_secs(1);

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
    // Whoever is idle holds the memory of what it might do; so what is large stands in a box of its own.
    match entrance {
        Entrance::Plain if worker.shared.settings.accepts_h2c => {
            Box::pin(serve_sniffed(&worker, stream, state)).await;
        }
        Entrance::Plain => serve_http1(&worker, ClientStream::Plain(stream), state).await,
        Entrance::Redirect(port) => {
            let wire = Wire::new(ClientStream::Plain(stream), Rc::clone(&worker), Rc::clone(state));
            let redirecting = redirect::serve(&worker, &wire, port);
            Box::pin(unless_aborted(state, pin!(redirecting))).await;
            close(&worker, &wire, state).await;
        }
        Entrance::Tls(acceptor) => {
            let Some(stream) = Box::pin(accept_tls(&worker, &acceptor, stream)).await else {
                return;
            };
            if stream.speaks_http2() {
                Box::pin(unless_aborted(state, pin!(http2::serve(&worker, stream, state)))).await;
            } else {
                Box::pin(serve_http1(&worker, stream, state)).await;
            }
        }
    }
}

/// Agrees with a client on TLS; none when that fails, or takes too long.
async fn accept_tls(
    worker: &Worker,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Option<ClientStream> {
    let patience = worker.shared.settings.header_timeout;
    let Ok(Ok(stream)) = timeout(patience, acceptor.accept(stream)).await else {
        worker.shared.metrics.tls_failures.inc();
        return None;
    };
    Some(ClientStream::Tls(Box::new(stream)))
}

/// Serves a client without TLS, which may speak HTTP/2 without having asked.
async fn serve_sniffed(worker: &Rc<Worker>, stream: TcpStream, state: &Rc<ConnectionState>) {
    let patience = worker.shared.settings.header_timeout;
    match ClientStream::sniff(stream, patience).await {
        Some((stream, true)) => {
            unless_aborted(state, pin!(http2::serve(worker, stream, state))).await
        }
        Some((stream, false)) => serve_http1(worker, stream, state).await,
        None => {}
    }
}

async fn serve_http1(worker: &Rc<Worker>, stream: ClientStream, state: &Rc<ConnectionState>) {
    let wire = Wire::new(stream, Rc::clone(worker), Rc::clone(state));
    unless_aborted(state, pin!(http1::serve(worker, &wire, state))).await;
    close(worker, &wire, state).await;
}

async fn close(worker: &Worker, wire: &Wire, state: &ConnectionState) {
    if state.command() == Command::Abort && state.is_slow_head() {
        http1::refuse(worker, wire, &Rejection::HeadTimeout).await;
    }
    Box::pin(wire.close()).await;
}

/// Carries on until the end, or until the connection is told to close at once.
///
/// It takes what it carries on by reference: moved in, it would be kept twice.
async fn unless_aborted(state: &ConnectionState, mut serving: Pin<&mut impl Future<Output = ()>>) {
    poll_fn(|context| {
        state.remember(context.waker());
        match state.command() {
            Command::Abort => Poll::Ready(()),
            Command::Serve | Command::Drain => serving.as_mut().poll(context),
        }
    })
    .await;
}
