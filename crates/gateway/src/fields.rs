//! The header fields of a request, in the order in which they came, over the memory in which they arrived.
//!
//! Fields that some part of the gateway looks at are recognised once, when they are read, so that looking for one of
//! them later is a comparison of two small numbers.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, COOKIE, DATE, HOST},
};

use crate::headers;

/// The fields of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    text: Bytes,
    list: FieldList,
}

/// Where the fields of a request stand in its text.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldList {
    entries: Vec<Entry>,
    seen: u64,
    repeated: u64,
}

/// One field. Heads are far smaller than the numbers allow.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: Name,
    name: (u32, u32),
    value: (u32, u32),
}

/// One field as it is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'fields> {
    pub(crate) kind: Name,
    /// As the client wrote it.
    pub(crate) name: &'fields [u8],
    /// Without the white space around it.
    pub(crate) value: &'fields [u8],
    /// The whole line with its end, when it is written as the gateway writes lines; otherwise nothing.
    line: &'fields [u8],
}

/// The names that the gateway looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Name {
    Accept,
    AcceptEncoding,
    AccessControlRequestHeaders,
    AccessControlRequestMethod,
    Authorization,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Date,
    Expect,
    Forwarded,
    Host,
    KeepAlive,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    RateLimit,
    RateLimitPolicy,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    XApiKey,
    /// Any that begins with `X-RateLimit-`.
    XRateLimit,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    /// Another one that begins with `X-Forwarded-`.
    XForwarded,
    XRequestId,
    /// One that nobody looks for.
    Other,
}

impl Field<'_> {
    /// Writes the field as a line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if self.line.is_empty() {
            headers::write_field_bytes(out, self.name, self.value);
        } else {
            out.extend_from_slice(self.line);
        }
    }
}

impl Name {
    /// Recognises a name, in upper or lower case.
    pub(crate) fn of(name: &[u8]) -> Self {
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let known = match (name.len(), first) {
            (2, _) => is(name, b"te", Self::Te),
            (4, b'd') => is(name, b"date", Self::Date),
            (4, _) => is(name, b"host", Self::Host),
            (6, b'a') => is(name, b"accept", Self::Accept),
            (6, b'e') => is(name, b"expect", Self::Expect),
            (6, _) => is(name, b"origin", Self::Origin),
            (7, b'u') => is(name, b"upgrade", Self::Upgrade),
            (7, _) => is(name, b"trailer", Self::Trailer),
            (9, b'r') => is(name, b"ratelimit", Self::RateLimit),
            (9, b'x') => is(name, b"x-api-key", Self::XApiKey),
            (9, _) => is(name, b"forwarded", Self::Forwarded),
            (10, b'c') => is(name, b"connection", Self::Connection),
            (10, b'k') => is(name, b"keep-alive", Self::KeepAlive),
            (10, _) => is(name, b"tracestate", Self::Tracestate),
            (11, _) => is(name, b"traceparent", Self::Traceparent),
            (12, b'x') => is(name, b"x-request-id", Self::XRequestId),
            (12, _) => is(name, b"content-type", Self::ContentType),
            (13, b'a') => is(name, b"authorization", Self::Authorization),
            (14, b'c') => is(name, b"content-length", Self::ContentLength),
            (15, b'a') => is(name, b"accept-encoding", Self::AcceptEncoding),
            (15, _) => is(name, b"x-forwarded-for", Self::XForwardedFor),
            (16, b'c') => is(name, b"content-encoding", Self::ContentEncoding),
            (16, b'p') => is(name, b"proxy-connection", Self::ProxyConnection),
            (16, b'r') => is(name, b"ratelimit-policy", Self::RateLimitPolicy),
            (16, _) => is(name, b"x-forwarded-host", Self::XForwardedHost),
            (17, b't') => is(name, b"transfer-encoding", Self::TransferEncoding),
            (17, _) => is(name, b"x-forwarded-proto", Self::XForwardedProto),
            (18, b'p') => is(name, b"proxy-authenticate", Self::ProxyAuthenticate),
            (19, b'p') => is(name, b"proxy-authorization", Self::ProxyAuthorization),
            (29, _) => is(name, b"access-control-request-method", Self::AccessControlRequestMethod),
            (30, _) => {
                is(name, b"access-control-request-headers", Self::AccessControlRequestHeaders)
            }
            _ => Self::Other,
        };
        if known != Self::Other || first != b'x' {
            return known;
        }
        match name.first_chunk::<12>() {
            Some(start) if is_same(start, b"x-forwarded-") => Self::XForwarded,
            Some(start) if is_same(start, b"x-ratelimit-") => Self::XRateLimit,
            _ => Self::Other,
        }
    }

    const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Whether the field is meant for the next hop alone (RFC 9110, 7.6.1).
    pub(crate) const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// The kind, if the name is `text`, in upper or lower case.
fn is<const LENGTH: usize>(name: &[u8], text: &[u8; LENGTH], kind: Name) -> Name {
    match name.first_chunk() {
        Some(name) if is_same(name, text) => kind,
        _ => Name::Other,
    }
}

/// Whether both are the same in lower case; `text` is in lower case. Of what may stand in a name, this one bit changes
/// capital letters into small ones, and makes nothing else a letter or a hyphen (RFC 9110, 5.6.2).
fn is_same<const LENGTH: usize>(name: &[u8; LENGTH], text: &[u8; LENGTH]) -> bool {
    name.iter().zip(text).fold(0, |other, (one, two)| other | ((one | 0x20) ^ two)) == 0
}

impl FieldList {
    /// Room for the fields of most requests.
    pub(crate) fn new() -> Self {
        Self { entries: Vec::with_capacity(16), seen: 0, repeated: 0 }
    }

    pub(crate) const fn has(&self, kind: Name) -> bool {
        self.seen & kind.bit() != 0
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a field whose name and value stand in these places.
    pub(crate) fn push(&mut self, kind: Name, name: Range<usize>, value: Range<usize>) {
        let place = |range: Range<usize>| {
            let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            (number(range.start), number(range.end))
        };
        self.repeated |= self.seen & kind.bit();
        self.seen |= kind.bit();
        self.entries.push(Entry { kind, name: place(name), value: place(value) });
    }
}

impl Fields {
    /// The fields of `list` in `text`.
    pub(crate) const fn new(text: Bytes, list: FieldList) -> Self {
        Self { text, list }
    }

    /// The fields of a request that came over HTTP/2, with its host. Cookies that came in pieces are joined (RFC 9113,
    /// 8.2.3).
    pub(crate) fn from_map(map: &HeaderMap, host: &[u8]) -> Self {
        let mut text = BytesMut::with_capacity(512);
        let mut list = FieldList::new();
        let mut push = |name: &[u8], value: &[u8]| {
            let start = text.len();
            text.extend_from_slice(name);
            let middle = text.len();
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            list.push(Name::of(name), start..middle, middle + 2..text.len());
            text.extend_from_slice(b"\r\n");
        };
        push(b"host", host);
        for (name, value) in map.iter().filter(|(name, _)| *name != HOST && *name != COOKIE) {
            push(name.as_ref(), value.as_bytes().trim_ascii());
        }
        let cookies: Vec<_> = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if !cookies.is_empty() {
            push(b"cookie", &cookies.join(b"; ".as_slice()));
        }
        Self { text: text.freeze(), list }
    }

    pub(crate) fn has(&self, kind: Name) -> bool {
        self.list.has(kind)
    }

    /// Whether the field is there more than once.
    pub(crate) fn is_repeated(&self, kind: Name) -> bool {
        self.list.repeated & kind.bit() != 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.list.entries.iter().map(|entry| Field {
            kind: entry.kind,
            name: self.slice(entry.name),
            value: self.slice(entry.value),
            line: self.line(*entry),
        })
    }

    /// The values of a field that the gateway looks for.
    pub(crate) fn all(&self, kind: Name) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        let entries = if self.has(kind) { self.list.entries.as_slice() } else { &[] };
        entries.iter().filter(move |entry| entry.kind == kind).map(|entry| self.slice(entry.value))
    }

    /// The values of a field by its name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let matching = move |field: &Field<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
        self.iter().filter(matching).map(|field| field.value)
    }

    /// Takes a field out by its name.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        let is_it = |text: &Bytes, (start, end): (u32, u32)| {
            let known = text.get(start as usize..end as usize).unwrap_or_default();
            known.eq_ignore_ascii_case(name)
        };
        let text = &self.text;
        if self.list.entries.iter().any(|entry| is_it(text, entry.name)) {
            self.list.entries.retain(|entry| !is_it(text, entry.name));
        }
    }

    /// The first value of a field that the gateway looks for.
    pub(crate) fn first(&self, kind: Name) -> Option<&[u8]> {
        self.all(kind).next()
    }

    /// The first value of a field, when it is visible ASCII.
    pub(crate) fn text(&self, kind: Name) -> Option<&str> {
        let value = self.first(kind)?;
        let visible = value.iter().all(|byte| matches!(byte, b'\t' | 0x20..0x7f));
        if visible { std::str::from_utf8(value).ok() } else { None }
    }

    /// The first value of a field as a value of its own that shares the memory.
    pub(crate) fn value(&self, kind: Name) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.text.slice_ref(self.first(kind)?)).ok()
    }

    fn line(&self, entry: Entry) -> &[u8] {
        let ((start, name_end), (value, end)) = (entry.name, entry.value);
        let is_usual = value == name_end + 2
            && self.slice((name_end, value)) == b": "
            && self.slice((end, end + 2)) == b"\r\n";
        if is_usual { self.slice((start, end + 2)) } else { &[] }
    }

    fn slice(&self, (start, end): (u32, u32)) -> &[u8] {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// The fields of an answer: those of the target, over the memory in which they arrived, and those of the gateway.
#[derive(Debug, Default)]
pub(crate) struct AnswerFields {
    received: Fields,
    added: Vec<(HeaderName, HeaderValue)>,
}

/// Room for the fields that the gateway adds to an answer.
const ADDED: usize = 8;

impl AnswerFields {
    pub(crate) fn new(received: Fields) -> Self {
        Self { received, added: Vec::with_capacity(ADDED) }
    }

    /// Sets a field that only the gateway sets, once, in place of what the target says.
    pub(crate) fn set(&mut self, kind: Name, name: HeaderName, value: HeaderValue) {
        if self.received.has(kind) {
            self.received.remove(name.as_str().as_bytes());
        }
        self.added.push((name, value));
    }

    /// Sets a field, in place of all of its name.
    pub(crate) fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.added.push((name, value));
    }

    /// Adds a field beside those of its name.
    pub(crate) fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.added.push((name, value));
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.received.remove(name.as_str().as_bytes());
        self.added.retain(|(known, _)| known != name);
    }

    /// Takes out the fields of the target whose names begin with `prefix`, in lower case.
    pub(crate) fn remove_received(&mut self, prefix: &str) {
        let begins = |field: Field<'_>| {
            let start = field.name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let names: Vec<Vec<u8>> = self
            .received
            .iter()
            .filter(|field| begins(*field))
            .map(|field| field.name.to_vec())
            .collect();
        names.iter().for_each(|name| self.received.remove(name));
    }

    /// The first value of a field.
    pub(crate) fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of a field.
    pub(crate) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let wanted = name.as_str().as_bytes();
        let is_wanted = move |(known, _): &(&[u8], &[u8])| known.eq_ignore_ascii_case(wanted);
        self.iter().filter(is_wanted).map(|(_, value)| value)
    }

    /// Writes the fields as lines, without the length unless it is to be kept. Says whether there is a date.
    pub(crate) fn write(&self, out: &mut Vec<u8>, keeps_length: bool) -> bool {
        let mut has_date = false;
        for field in self.received.iter() {
            has_date |= field.kind == Name::Date;
            if keeps_length || field.kind != Name::ContentLength {
                field.write(out);
            }
        }
        for (name, value) in &self.added {
            has_date |= *name == DATE;
            if keeps_length || *name != CONTENT_LENGTH {
                headers::write_field(out, name.as_str(), value.as_bytes());
            }
        }
        has_date
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let added = self.added.iter();
        self.received
            .iter()
            .map(|field| (field.name, field.value))
            .chain(added.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// The same as a map. What cannot stand in one was not read as a field either.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let received = self.received.iter().filter_map(|field| {
            let value = HeaderValue::from_maybe_shared(self.received.text.slice_ref(field.value));
            Some((HeaderName::from_bytes(field.name).ok()?, value.ok()?))
        });
        let mut map = HeaderMap::with_capacity(self.received.list.len() + self.added.len());
        for (name, value) in received.chain(self.added.iter().cloned()) {
            map.append(name, value);
        }
        map
    }
}

impl From<HeaderMap> for AnswerFields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::default();
        let mut last = None;
        for (name, value) in map {
            // Further values of one name come without it.
            last = name.or(last);
            fields.added.extend(last.clone().map(|name| (name, value)));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case() {
        for (name, kind) in [
            ("Host", Name::Host),
            ("HOST", Name::Host),
            ("x-api-KEY", Name::XApiKey),
            ("X-Forwarded-Prefix", Name::XForwarded),
            ("X-Forwarded-Hoss", Name::XForwarded),
            ("X-Forwarded-For", Name::XForwardedFor),
            ("transfer-encodin_", Name::Other),
            ("x-forwarded", Name::Other),
            ("", Name::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn repeated_fields_are_noticed() {
        let mut map = HeaderMap::new();
        map.append("x-api-key", HeaderValue::from_static("a"));
        map.append("accept", HeaderValue::from_static("b"));
        map.append("x-api-key", HeaderValue::from_static("c"));
        map.append("cookie", HeaderValue::from_static("d=1"));
        map.append("cookie", HeaderValue::from_static("e=2"));
        let fields = Fields::from_map(&map, b"api.example.org");
        assert!(fields.is_repeated(Name::XApiKey) && !fields.is_repeated(Name::Accept));
        assert_eq!(fields.all(Name::XApiKey).collect::<Vec<_>>(), [b"a", b"c"]);
        assert_eq!(fields.text(Name::Host), Some("api.example.org"));
        assert_eq!(fields.first(Name::Origin), None);
        let last = fields.iter().last().expect("there are fields");
        assert_eq!((last.name, last.value), (b"cookie".as_slice(), b"d=1; e=2".as_slice()));
    }
}
