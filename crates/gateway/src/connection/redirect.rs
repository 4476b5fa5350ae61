//! Sends clients that came without TLS to the listener that speaks it.

use http::{StatusCode, header::LOCATION};

use super::{
    http1::{refuse, write_status},
    wire::{Output, Wire},
};
use crate::{fields::Name, headers, rejection::Rejection, worker::Worker};

/// Answers every request with the same address under `https` (308, so that methods and bodies stay what they are).
pub(super) async fn serve(worker: &Worker, wire: &Wire, port: u16) {
    let mut output = Output::default();
    loop {
        let (head, continuation) = match wire.next_head().await {
            Ok(Some(next)) => next,
            Ok(None) => return,
            Err(offence) => return refuse(worker, wire, &Rejection::Framing(offence)).await,
        };
        let host = head.fields.text(Name::Host).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let path = &head.target.path;
        let location = match port {
            443 => format!("https://{name}{path}"),
            port => format!("https://{name}:{port}{path}"),
        };
        let keep = continuation.keep_alive && wire.pass_over_rest();
        write_status(&mut output.text, StatusCode::PERMANENT_REDIRECT);
        headers::write_field(&mut output.text, LOCATION.as_str(), location.as_bytes());
        headers::write_length(&mut output.text, 0);
        let end: &[u8] = if keep { b"\r\n" } else { b"connection: close\r\n\r\n" };
        output.text.extend_from_slice(end);
        if wire.write(&mut output).await.is_err() || !keep {
            return;
        }
    }
}
