//! Serves a client over HTTP/1.1 (RFC 9112): one request after the other, all in the task of the connection.

use std::{
    future::{Future, poll_fn},
    io::Write as _,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::timeout;

use super::{
    LINGER,
    head::{Continuation, Framing},
    state::{Command, ConnectionState},
    wire::{Output, Wire},
};
use crate::{
    body::{Answer, BrokenOff, ClientBody, ResponseBody},
    call, headers,
    rejection::{Rejection, Subject},
    worker::Worker,
};

/// How the body of an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// There is none, whatever the head says.
    Bodiless,
    Length,
    Chunks,
    /// It ends with the connection.
    UntilClose,
}

/// What comes next of an answer.
enum Next {
    Data(Option<Result<Bytes, BrokenOff>>),
    /// Nothing yet.
    Wait,
    /// The client went away.
    Gone,
}

/// An idle connection holds at most this much memory for what it may write.
const RESTING: usize = 2 << 10;

/// Serves the calls of one connection until either side ends it.
pub(super) async fn serve(worker: &Rc<Worker>, wire: &Rc<Wire>, state: &Rc<ConnectionState>) {
    let mut output = Output::default();
    loop {
        let (head, continuation) = match wire.next_head().await {
            Ok(Some(next)) => next,
            Ok(None) => return,
            Err(offence) => {
                return Box::pin(refuse(worker, wire, &Rejection::Framing(offence))).await;
            }
        };
        let body = if continuation.body == Framing::Length(0) {
            ClientBody::Empty
        } else {
            ClientBody::Http1(Rc::clone(wire))
        };
        let to_head = head.method == Method::HEAD;
        let call = call::carry(Rc::clone(worker), Rc::clone(state), head, body);
        let Some(answer) = unless_gone(wire, pin!(call)).await else { return };
        if !send(worker, wire, state, answer, continuation, to_head, &mut output).await {
            return;
        }
        if output.text.capacity() > RESTING {
            output = Output::default();
        }
    }
}

/// Waits for the answer of a call, unless the client goes away before.
async fn unless_gone<T>(wire: &Wire, mut call: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => wire.poll_gone(context).map(|()| None),
    })
    .await
}

/// Sends an answer; says whether another request may follow.
async fn send(
    worker: &Worker,
    wire: &Wire,
    state: &ConnectionState,
    answer: Answer,
    continuation: Continuation,
    to_head: bool,
    output: &mut Output,
) -> bool {
    let Answer { status, fields, mut body, closes, tunnel } = answer;
    let frame = if to_head || matches!(status.as_u16(), 101 | 204 | 304) {
        Frame::Bodiless
    } else if body.left().is_some() {
        Frame::Length
    } else if continuation.is_old {
        Frame::UntilClose
    } else {
        Frame::Chunks
    };
    let keep = continuation.keep_alive
        && !closes
        && frame != Frame::UntilClose
        && state.command() == Command::Serve
        && (!body.is_local() || wire.pass_over_rest());
    let text = &mut output.text;
    write_status(text, status);
    let keeps_length = frame == Frame::Bodiless && status != StatusCode::NO_CONTENT;
    let has_date = fields.write(text, keeps_length);
    if !has_date {
        worker.date.borrow_mut().write(text, worker.shared.clock.now());
    }
    match (frame, body.left()) {
        (Frame::Length, Some(length)) => headers::write_length(text, length),
        // What a GET would have answered.
        (Frame::Bodiless, Some(length)) if length > 0 => headers::write_length(text, length),
        (Frame::Chunks, _) => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    if let Some(tunnel) = tunnel {
        output.text.extend_from_slice(b"\r\n");
        if wire.write(output).await.is_ok() {
            Box::pin(tunnel.run(wire)).await;
        }
        return false;
    }
    match (keep, continuation.is_old) {
        (false, _) => text.extend_from_slice(b"connection: close\r\n"),
        (true, true) => text.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, false) => {}
    }
    text.extend_from_slice(b"\r\n");
    if frame == Frame::Bodiless {
        body = ResponseBody::Local(None);
    }
    send_body(wire, body, frame, output).await && keep && wire.pass_over_rest()
}

/// Sends the body of an answer behind the head that is in `output`; says whether it went out whole.
async fn send_body(wire: &Wire, mut body: ResponseBody, frame: Frame, output: &mut Output) -> bool {
    let mut is_open = false;
    loop {
        let next = poll_fn(|context| match body.poll_data(context) {
            Poll::Ready(data) => Poll::Ready(Next::Data(data)),
            Poll::Pending if !output.is_empty() => Poll::Ready(Next::Wait),
            Poll::Pending => wire.poll_gone(context).map(|()| Next::Gone),
        })
        .await;
        let mut has_ended = false;
        match next {
            Next::Wait => {}
            Next::Gone | Next::Data(Some(Err(BrokenOff))) => return false,
            Next::Data(None) => has_ended = true,
            Next::Data(Some(Ok(data))) => {
                has_ended = body.has_ended();
                // An empty chunk would end the body.
                if frame == Frame::Chunks && !data.is_empty() {
                    close_chunk(&mut output.text, &mut is_open);
                    is_open = true;
                    write!(output.text, "{:x}\r\n", data.len())
                        .expect("a vector takes whatever is written");
                }
                output.push(data);
            }
        }
        if has_ended && frame == Frame::Chunks {
            if !output.is_flat() && wire.write(output).await.is_err() {
                return false;
            }
            close_chunk(&mut output.text, &mut is_open);
            output.text.extend_from_slice(b"0\r\n");
            for (name, value) in body.take_trailers().iter().flatten() {
                headers::write_field(&mut output.text, name.as_str(), value.as_bytes());
            }
            output.text.extend_from_slice(b"\r\n");
        }
        if wire.write(output).await.is_err() {
            return false;
        }
        if has_ended {
            return true;
        }
    }
}

fn close_chunk(text: &mut Vec<u8>, is_open: &mut bool) {
    if std::mem::take(is_open) {
        text.extend_from_slice(b"\r\n");
    }
}

pub(super) fn write_status(text: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
}

/// Answers what could not be read as a request.
pub(super) async fn refuse(worker: &Worker, wire: &Wire, rejection: &Rejection) {
    worker.shared.metrics.malformed.inc();
    let at = worker.shared.clock.now();
    let request_id = worker.random.borrow_mut().request_id(at);
    let (status, fields, body) =
        rejection.answer(Subject { path: None, request_id: &request_id, at });
    let mut output = Output::default();
    write_status(&mut output.text, status);
    for (name, value) in &fields {
        headers::write_field(&mut output.text, name.as_str(), value.as_bytes());
    }
    headers::write_field(&mut output.text, "x-request-id", request_id.as_bytes());
    headers::write_length(&mut output.text, body.len() as u64);
    output.text.extend_from_slice(b"connection: close\r\n\r\n");
    output.push(body);
    // A client that does not read its answer does not get to see it.
    let _ = timeout(LINGER, wire.write(&mut output)).await;
}
