//! What happens to header fields on their way through: what is hop-by-hop ends here, what identifies the caller is
//! never passed on, and what the gateway says about itself is put in last, so that no client can take it out.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};
use model::Network;

use crate::{
    connection::ConnectionState,
    random::{RandomPool, is_traceparent, is_uuid},
};

pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that are meant for the next hop alone (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const OURS: HeaderValue = HeaderValue::from_static("1.1 caduceus");
/// Room for the fields of most requests.
const REQUEST_ROOM: usize = 1_024;

/// What one look over the fields of a request has found.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) api_keys: u8,
    pub(crate) authorizations: u8,
    pub(crate) upgrade: bool,
    request_id: bool,
    connection: bool,
    forwarded: bool,
    traced: bool,
}

impl Marks {
    /// Looks over the fields once, so that the rest need not search for what is not there.
    pub(crate) fn scan(headers: &HeaderMap) -> Self {
        let mut marks = Self::default();
        for name in headers.iter().map(|(name, _)| name) {
            // Most fields of most requests are none of these, and tell so by their first letter.
            match name.as_str().as_bytes().first() {
                Some(b'a') if *name == AUTHORIZATION => {
                    marks.authorizations = marks.authorizations.saturating_add(1);
                }
                Some(b'c') if *name == CONNECTION => marks.connection = true,
                Some(b'f') if *name == FORWARDED => marks.forwarded = true,
                Some(b't') if *name == TRACEPARENT || *name == TRACESTATE => marks.traced = true,
                Some(b'u') if *name == UPGRADE => marks.upgrade = true,
                Some(b'x') if *name == X_API_KEY => {
                    marks.api_keys = marks.api_keys.saturating_add(1);
                }
                Some(b'x') if *name == X_REQUEST_ID => marks.request_id = true,
                Some(b'x') if name.as_str().starts_with("x-forwarded-") => marks.forwarded = true,
                _ => {}
            }
        }
        marks
    }
}

/// The request's own identifier when it is a UUID, otherwise a new one.
pub(crate) fn request_id(
    headers: &HeaderMap,
    marks: Marks,
    random: &mut RandomPool,
    now: jiff::Timestamp,
) -> HeaderValue {
    let given = if marks.request_id { headers.get(X_REQUEST_ID) } else { None };
    match given {
        Some(id) if is_uuid(id.as_bytes()) => id.clone(),
        _ => random.request_id(now),
    }
}

/// The address of the client: the nearest one that is not a trusted proxy.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let mut client = peer;
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let hops = lines.iter().rev().filter_map(|line| line.to_str().ok());
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

/// Writes the fields of a client's request as they go to a target, without host and length.
pub(crate) fn write_request(
    headers: &HeaderMap,
    marks: Marks,
    connection: &ConnectionState,
    trusted: &[Network],
    request_id: &HeaderValue,
    random: &mut RandomPool,
) -> Vec<u8> {
    let named: Vec<HeaderName> = if marks.connection {
        let lines = headers.get_all(CONNECTION).iter();
        let options = lines.flat_map(|line| connection_options(line.as_bytes()));
        options.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
    } else {
        Vec::new()
    };
    let stays = |name: &HeaderName| headers.contains_key(name) && !named.contains(name);
    let traced = marks.traced
        && stays(&TRACEPARENT)
        && headers.get(TRACEPARENT).is_some_and(|trace| is_traceparent(trace.as_bytes()));
    // What a trusted proxy said before is kept, anything else replaced.
    let believed = marks.forwarded && is_trusted(connection.peer, trusted);
    let mut text = Vec::with_capacity(REQUEST_ROOM);
    for (name, value) in headers {
        // Most names are told apart by their first letter.
        let ends_here = match name.as_str().as_bytes().first() {
            Some(b'a') => *name == AUTHORIZATION,
            Some(b'c') => *name == CONTENT_LENGTH || *name == CONNECTION,
            Some(b'e') => *name == EXPECT,
            Some(b'f') => *name == FORWARDED && !believed,
            Some(b'h') => *name == HOST,
            Some(b'k' | b'p' | b'u') => is_hop_by_hop(name),
            Some(b't') => {
                is_hop_by_hop(name) || (!traced && (*name == TRACEPARENT || *name == TRACESTATE))
            }
            Some(b'x') => {
                *name == X_API_KEY
                    || *name == X_REQUEST_ID
                    || (!believed && name.as_str().starts_with("x-forwarded-"))
            }
            _ => false,
        };
        if !ends_here && !named.contains(name) {
            write_field(&mut text, name.as_str(), value.as_bytes());
        }
    }
    if !traced {
        write_field(&mut text, TRACEPARENT.as_str(), &random.traceparent());
    }
    write_field(&mut text, X_REQUEST_ID.as_str(), request_id.as_bytes());
    let host = headers.get(HOST).map_or(b"".as_slice(), HeaderValue::as_bytes);
    write_forwarded(&mut text, connection, host);
    write_field(&mut text, X_FORWARDED_FOR.as_str(), connection.peer_text.as_bytes());
    if !(believed && stays(&X_FORWARDED_PROTO)) {
        write_field(&mut text, X_FORWARDED_PROTO.as_str(), b"http");
    }
    if !(believed && stays(&X_FORWARDED_HOST)) {
        write_field(&mut text, X_FORWARDED_HOST.as_str(), host);
    }
    write_field(&mut text, VIA.as_str(), OURS.as_bytes());
    text
}

/// Makes the fields of a target's answer, which are already without those meant for one hop, into those of ours.
pub(crate) fn prepare_response(headers: &mut HeaderMap, request_id: HeaderValue) {
    headers.insert(X_REQUEST_ID, request_id);
    headers.append(VIA, OURS);
}

/// Whether the field is meant for the next hop alone.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes().first(), Some(b'c' | b'k' | b'p' | b't' | b'u'))
        && HOP_BY_HOP.contains(name)
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

fn write_field(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    text.reserve(name.len() + value.len() + 4);
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

/// Writes the `Forwarded` element (RFC 7239).
fn write_forwarded(text: &mut Vec<u8>, connection: &ConnectionState, host: &[u8]) {
    let (open, close) = if connection.peer.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    for part in ["forwarded: for=".as_bytes(), open.as_bytes(), connection.peer_text.as_bytes()] {
        text.extend_from_slice(part);
    }
    text.extend_from_slice(close.as_bytes());
    if !host.is_empty() {
        for part in [b";host=\"", host, b"\""] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b";proto=http\r\n");
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
