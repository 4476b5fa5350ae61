//! What happens to header fields on their way through: what is hop-by-hop ends here, what identifies the caller is
//! never passed on, and what the gateway says about itself is put in last, so that no client can take it out.

use std::net::IpAddr;

use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, VIA},
};
use model::Network;

use crate::{
    connection::Peer,
    fields::{AnswerFields, Fields, Name},
    random::{RandomPool, is_traceparent, is_uuid},
};

pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const OURS: HeaderValue = HeaderValue::from_static("1.1 caduceus");
/// Room for the fields of most requests.
const REQUEST_ROOM: usize = 1_024;

/// The request's own identifier when it is a UUID, otherwise a new one.
pub(crate) fn request_id(
    fields: &Fields,
    random: &mut RandomPool,
    now: jiff::Timestamp,
) -> HeaderValue {
    match fields.value(Name::XRequestId) {
        Some(id) if is_uuid(id.as_bytes()) => id,
        _ => random.request_id(now),
    }
}

/// The address of the client: the nearest one that is not a trusted proxy.
pub(crate) fn client_address(fields: &Fields, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let mut client = peer;
    let lines = fields.all(Name::XForwardedFor).rev();
    let hops = lines.filter_map(|line| std::str::from_utf8(line).ok());
    for hop in hops.flat_map(|line| line.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !is_trusted(client, trusted) {
            break;
        }
    }
    client
}

fn is_trusted(peer: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(peer))
}

/// The one valid `traceparent` of a request, unless it is meant for this hop alone.
pub(crate) fn traceparent(fields: &Fields) -> Option<&[u8]> {
    let is_named = || {
        let mut options = fields.all(Name::Connection).flat_map(connection_options);
        options.any(|option| option.eq_ignore_ascii_case(b"traceparent"))
    };
    let is_single = fields.has(Name::Traceparent) && !fields.is_repeated(Name::Traceparent);
    let given = if is_single { fields.first(Name::Traceparent) } else { None };
    given.filter(|given| is_traceparent(given) && !is_named())
}

/// Writes the fields of a client's request as they go to a target, without host and length. The `traceparent` that was
/// made here, if any, comes last.
pub(crate) fn write_request(
    fields: &Fields,
    peer: &Peer,
    trusted: &[Network],
    request_id: &HeaderValue,
    random: &mut RandomPool,
    made: Option<&[u8; 55]>,
) -> Vec<u8> {
    let named: Vec<&[u8]> = fields.all(Name::Connection).flat_map(connection_options).collect();
    let is_named = |name: &[u8]| named.iter().any(|option| option.eq_ignore_ascii_case(name));
    let stays = |kind: Name, name: &[u8]| fields.has(kind) && !is_named(name);
    let traced = traceparent(fields).is_some();
    // What a trusted proxy said before is kept, anything else replaced.
    let believed = is_trusted(peer.address, trusted);
    let mut text = Vec::with_capacity(REQUEST_ROOM);
    for field in fields.iter() {
        let ends_here = match field.kind {
            Name::Authorization
            | Name::ContentLength
            | Name::Expect
            | Name::Host
            | Name::XApiKey
            | Name::XRequestId => true,
            Name::Forwarded
            | Name::XForwardedFor
            | Name::XForwardedHost
            | Name::XForwardedProto
            | Name::XForwarded => !believed,
            Name::Traceparent => !traced || made.is_some(),
            Name::Tracestate => !traced,
            kind => kind.is_hop_by_hop(),
        };
        if !ends_here && !is_named(field.name) {
            field.write(&mut text);
        }
    }
    if !traced && made.is_none() {
        write_field(&mut text, TRACEPARENT.as_str(), &random.traceparent());
    }
    write_field(&mut text, X_REQUEST_ID.as_str(), request_id.as_bytes());
    let host = fields.first(Name::Host).unwrap_or_default();
    write_forwarded(&mut text, peer, host);
    write_field(&mut text, X_FORWARDED_FOR.as_str(), peer.text.as_bytes());
    if !(believed && stays(Name::XForwardedProto, b"x-forwarded-proto")) {
        write_field(&mut text, X_FORWARDED_PROTO.as_str(), peer.scheme().as_bytes());
    }
    if !(believed && stays(Name::XForwardedHost, b"x-forwarded-host")) {
        write_field(&mut text, X_FORWARDED_HOST.as_str(), host);
    }
    write_field(&mut text, VIA.as_str(), OURS.as_bytes());
    if let Some(made) = made {
        write_field(&mut text, TRACEPARENT.as_str(), made);
    }
    text
}

/// Makes the fields of a target's answer, which are already without those meant for one hop, into those of ours.
pub(crate) fn prepare_response(fields: &mut AnswerFields, request_id: HeaderValue) {
    fields.set(Name::XRequestId, X_REQUEST_ID, request_id);
    fields.append(VIA, OURS);
}

/// Whether the field is meant for the next hop alone.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    Name::of(name.as_str().as_bytes()).is_hop_by_hop()
}

/// The options of a `Connection` field; they are also names of fields meant for the next hop alone.
pub(crate) fn connection_options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Writes the length of a body.
pub(crate) fn write_length(text: &mut Vec<u8>, length: u64) {
    let mut digits = Digits::default();
    write_field(text, CONTENT_LENGTH.as_str(), digits.of(length));
}

pub(crate) fn write_field(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    write_field_bytes(text, name.as_bytes(), value);
}

pub(crate) fn write_field_bytes(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.reserve(name.len() + value.len() + 4);
    for part in [name, b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

/// Writes the `Forwarded` element (RFC 7239).
fn write_forwarded(text: &mut Vec<u8>, peer: &Peer, host: &[u8]) {
    let (open, close) = if peer.address.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    for part in ["forwarded: for=".as_bytes(), open.as_bytes(), peer.text.as_bytes()] {
        text.extend_from_slice(part);
    }
    text.extend_from_slice(close.as_bytes());
    if !host.is_empty() {
        for part in [b";host=\"", host, b"\""] {
            text.extend_from_slice(part);
        }
    }
    for part in [";proto=", peer.scheme(), "\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
}

/// The digits of a number.
#[derive(Default)]
pub(crate) struct Digits([u8; 20]);

impl Digits {
    /// `number` in decimal.
    pub(crate) fn of(&mut self, number: u64) -> &[u8] {
        let mut rest = number;
        let mut used = 0;
        for place in self.0.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        self.0.get(self.0.len() - used..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 1_234_567, u64::MAX] {
            assert_eq!(Digits::default().of(number), number.to_string().as_bytes());
        }
    }
}
