//! One client connection: accepted, checked, served, closed.

mod framing;
mod state;
mod wire;

use std::{
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use hyper::{server::conn::http1, service::service_fn};
use tokio::net::TcpStream;

pub(crate) use framing::Offence;
pub(crate) use state::{Command, ConnectionState, Connections};

use crate::{call, worker::Worker};
use wire::Wire;

/// The number of header fields that hyper has room for without being told.
const HYPER_HEADERS: usize = 100;

/// Serves one connection until either side closes it.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let state = Connections::open(&worker, peer);
    let wire = Wire::new(stream, Rc::clone(&worker), Rc::clone(&state.state));
    let mut builder = http1::Builder::new();
    // The time a head may take is watched by the sweeper, for all connections together.
    builder.header_read_timeout(None);
    if worker.shared.settings.max_headers > HYPER_HEADERS {
        builder.max_headers(worker.shared.settings.max_headers);
    }
    let service = {
        let (worker, state) = (Rc::clone(&worker), Rc::clone(&state.state));
        service_fn(move |request| call::carry(Rc::clone(&worker), Rc::clone(&state), request))
    };
    let mut connection = builder.serve_connection(wire, service);
    let mut draining = false;
    poll_fn(|context| {
        state.state.remember(context.waker());
        match state.state.command() {
            Command::Serve => {}
            Command::Abort => return Poll::Ready(()),
            Command::Drain if draining => {}
            Command::Drain => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        // An error here is the client's, or was already answered; there is nobody left to tell.
        Pin::new(&mut connection).poll(context).map(|_ended| ())
    })
    .await;
    let parts = connection.into_parts();
    // What still holds on to the call, such as an upstream connection, ends before the client is waited for.
    drop(parts.service);
    parts.io.close().await;
}
