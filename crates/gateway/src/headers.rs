//! What happens to header fields on their way through: what is hop-by-hop ends here, what identifies the caller is
//! never passed on, and what the gateway says about itself is put in last, so that no client can take it out.

use std::net::IpAddr;

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
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

/// What one look over the fields of a request has found.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) api_keys: u8,
    pub(crate) authorizations: u8,
    pub(crate) upgrade: bool,
    hop_by_hop: bool,
    connection: bool,
    expect: bool,
    forwarded: bool,
    via: bool,
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
                Some(b'c') if *name == CONNECTION => {
                    (marks.hop_by_hop, marks.connection) = (true, true);
                }
                Some(b'e') if *name == EXPECT => marks.expect = true,
                Some(b'f') if *name == FORWARDED => marks.forwarded = true,
                Some(b'k' | b'p') if HOP_BY_HOP.contains(name) => marks.hop_by_hop = true,
                Some(b't') if *name == TRACEPARENT || *name == TRACESTATE => marks.traced = true,
                Some(b't') if HOP_BY_HOP.contains(name) => marks.hop_by_hop = true,
                Some(b'u') if *name == UPGRADE => (marks.hop_by_hop, marks.upgrade) = (true, true),
                Some(b'v') if *name == VIA => marks.via = true,
                Some(b'x') if *name == X_API_KEY => {
                    marks.api_keys = marks.api_keys.saturating_add(1);
                }
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
    random: &mut RandomPool,
    now: jiff::Timestamp,
) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
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

/// Makes the fields of a client's request into those of ours.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    marks: Marks,
    connection: &ConnectionState,
    trusted: &[Network],
    request_id: &HeaderValue,
    random: &mut RandomPool,
) {
    if marks.hop_by_hop {
        strip_hop_by_hop(headers, marks.connection);
    }
    if marks.api_keys > 0 {
        headers.remove(X_API_KEY);
    }
    if marks.authorizations > 0 {
        headers.remove(AUTHORIZATION);
    }
    if marks.expect {
        headers.remove(EXPECT);
    }
    let traced = marks.traced && {
        let known = headers.get(TRACEPARENT).is_some_and(|trace| is_traceparent(trace.as_bytes()));
        if !known {
            headers.remove(TRACESTATE);
        }
        known
    };
    if !traced {
        headers.insert(TRACEPARENT, random.traceparent());
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
    forwarded(headers, marks, connection, trusted);
    via(headers, marks.via);
}

/// Makes the fields of a target's answer into those of ours.
pub(crate) fn prepare_response(headers: &mut HeaderMap, request_id: HeaderValue) {
    let mut hop_by_hop = false;
    let mut has_via = false;
    for name in headers.keys() {
        match name.as_str().as_bytes().first() {
            Some(b'c' | b'k' | b'p' | b't' | b'u') if HOP_BY_HOP.contains(name) => {
                hop_by_hop = true;
            }
            Some(b'v') if *name == VIA => has_via = true,
            _ => {}
        }
    }
    if hop_by_hop {
        let connection = headers.contains_key(CONNECTION);
        strip_hop_by_hop(headers, connection);
    }
    headers.insert(X_REQUEST_ID, request_id);
    via(headers, has_via);
}

fn strip_hop_by_hop(headers: &mut HeaderMap, connection: bool) {
    if connection {
        let named: Vec<_> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn via(headers: &mut HeaderMap, already: bool) {
    const OURS: HeaderValue = HeaderValue::from_static("1.1 caduceus");
    if already {
        headers.append(VIA, OURS);
    } else {
        headers.insert(VIA, OURS);
    }
}

/// Says for whom the request is forwarded. What a trusted proxy said before is kept, anything else replaced.
fn forwarded(
    headers: &mut HeaderMap,
    marks: Marks,
    connection: &ConnectionState,
    trusted: &[Network],
) {
    let host = headers.get(HOST).cloned().unwrap_or(HeaderValue::from_static(""));
    let ours = forwarded_value(connection, &host);
    if marks.forwarded && is_trusted(connection.peer, trusted) {
        headers.append(FORWARDED, ours);
        headers.append(X_FORWARDED_FOR, connection.peer_text.clone());
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        headers.entry(X_FORWARDED_HOST).or_insert(host);
        return;
    }
    if marks.forwarded {
        let claimed: Vec<_> = headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-forwarded-"))
            .cloned()
            .collect();
        for name in claimed {
            headers.remove(name);
        }
    }
    headers.insert(FORWARDED, ours);
    headers.insert(X_FORWARDED_FOR, connection.peer_text.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(X_FORWARDED_HOST, host);
}

/// The `Forwarded` element (RFC 7239); made once per connection and host.
fn forwarded_value(connection: &ConnectionState, host: &HeaderValue) -> HeaderValue {
    let mut made = connection.forwarded.borrow_mut();
    if let Some((_, value)) = made.as_ref().filter(|(known, _)| known == host) {
        return value.clone();
    }
    let mut text = BytesMut::with_capacity(64 + host.len());
    let (open, close) = if connection.peer.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    for part in [b"for=", open.as_bytes(), connection.peer_text.as_bytes(), close.as_bytes()] {
        text.extend_from_slice(part);
    }
    if !host.is_empty() {
        for part in [b";host=\"", host.as_bytes(), b"\""] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b";proto=http");
    let value = HeaderValue::from_maybe_shared(text.freeze())
        .expect("an address and a checked host are lawful in a header");
    *made = Some((host.clone(), value.clone()));
    value
}
