//! Reads the heads of requests (HTTP/1.1, RFC 9112), strictly.
//!
//! A gateway and an upstream that disagree about where a request ends can be made to mix up the requests of two
//! callers. So what is not framed in the one strict way is refused: both `Content-Length` and `Transfer-Encoding`,
//! either of them twice, no or several `Host`, folded lines, bare CR or LF, NUL and other controls, a head that is
//! too large. Each line is looked at once, as soon as it is there.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, uri::PathAndQuery};

use crate::fields::{FieldList, Fields, Name};

/// Why the bytes of a client were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    /// A line does not end in CR LF, or has a control character in it.
    Line,
    /// The request line is not `METHOD SP target SP HTTP/1.x`.
    RequestLine,
    /// The method is one that a gateway does not carry.
    Method,
    /// A header field is not `name: value` on one line.
    Field,
    /// The host is missing, repeated or malformed.
    Host,
    /// The length of the body is given twice, in two ways, or not as a number.
    Length,
    /// A chunk is malformed.
    Chunk,
    /// The client expects something other than `100-continue`.
    Expectation,
    /// The head is too large or has too many fields.
    HeadSize,
}

impl Offence {
    /// What is wrong, as told to the client.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Line => {
                "A line of the request is not ended by CR LF or holds a control character."
            }
            Self::RequestLine => "The request line is malformed.",
            Self::Method => "The methods CONNECT and TRACE are not supported.",
            Self::Field => "A header field is malformed.",
            Self::Host => "The Host header must be given exactly once and be well-formed.",
            Self::Length => "The length of the request body is not given in exactly one way.",
            Self::Chunk => "A chunk of the request body is malformed.",
            Self::Expectation => "Only the expectation 100-continue is supported.",
            Self::HeadSize => "The head of the request is too large.",
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) target: RequestTarget,
    pub(crate) fields: Fields,
}

/// What is called.
#[derive(Debug, Clone)]
pub(crate) struct RequestTarget {
    /// Path and query as the client wrote them; a target in absolute form without a path has `/`.
    pub(crate) path: PathAndQuery,
    /// The scheme and authority of a target in absolute form.
    pub(crate) authority: Option<(HeaderValue, HeaderValue)>,
}

/// How a request over HTTP/1.1 goes on behind its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continuation {
    pub(super) body: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// Whether the client speaks HTTP/1.0, which knows no chunks.
    pub(super) is_old: bool,
    /// Whether another request may follow.
    pub(super) keep_alive: bool,
}

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes; 0 is no body.
    Length(u64),
    Chunks,
}

/// Reads one head after the other.
pub(super) struct HeadReader {
    pub(super) text: BytesMut,
    /// Where the first line begins that has not been looked at.
    line: usize,
    /// Up to where that line is known to have no end.
    searched: usize,
    head: Partial,
    max_bytes: usize,
    max_fields: usize,
}

/// What is known of a head that has not ended.
#[derive(Default)]
struct Partial {
    method: Option<Method>,
    target: (usize, usize),
    old: bool,
    length: Option<u64>,
    chunked: bool,
    fields: FieldList,
}

impl HeadReader {
    pub(super) fn new(max_bytes: usize, max_fields: usize) -> Self {
        let (text, head) = (BytesMut::new(), Partial::default());
        Self { text, line: 0, searched: 0, head, max_bytes, max_fields }
    }

    /// Whether nothing of the next head has come.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the next head off the text; none when it is not there whole.
    pub(super) fn take(&mut self) -> Result<Option<(RequestHead, Continuation)>, Offence> {
        while let Some(found) =
            self.text.get(self.searched..).and_then(|text| memchr::memchr(b'\n', text))
        {
            let end = self.searched + found;
            if end >= self.max_bytes {
                return Err(Offence::HeadSize);
            }
            let start = std::mem::replace(&mut self.line, end + 1);
            self.searched = end + 1;
            let line = self.text.get(start..end).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else { return Err(Offence::Line) };
            // Without an early end, so that many bytes are looked at in one step.
            let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
            if line.iter().fold(false, |found, byte| found | control(*byte)) {
                return Err(Offence::Line);
            }
            match (&self.head.method, line) {
                // An empty line before a request is tolerated (RFC 9112, 2.2); its bytes count as head.
                (None, []) => {}
                (None, line) => self.head.request_line(line, start)?,
                (Some(_), []) => return self.finish().map(Some),
                (Some(_), line) => self.head.field(line, start, self.max_fields)?,
            }
        }
        self.searched = self.text.len();
        if self.searched >= self.max_bytes { Err(Offence::HeadSize) } else { Ok(None) }
    }

    fn finish(&mut self) -> Result<(RequestHead, Continuation), Offence> {
        let text = self.text.split_to(self.line).freeze();
        (self.line, self.searched) = (0, 0);
        let head = std::mem::take(&mut self.head);
        let Some(method) = head.method else { return Err(Offence::RequestLine) };
        let target = RequestTarget::read(&text, head.target)?;
        let fields = Fields::new(text, head.fields);
        if !fields.has(Name::Host) && !head.old {
            return Err(Offence::Host);
        }
        let body =
            if head.chunked { Framing::Chunks } else { Framing::Length(head.length.unwrap_or(0)) };
        let option = |wanted: &[u8]| {
            let options =
                fields.all(Name::Connection).flat_map(|value| value.split(|byte| *byte == b','));
            options.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted))
        };
        let named = fields.has(Name::Connection);
        let keep_alive = if head.old {
            named && option(b"keep-alive") && !option(b"close")
        } else {
            !(named && option(b"close"))
        };
        let expects = fields.first(Name::Expect);
        if expects.is_some_and(|value| !value.eq_ignore_ascii_case(b"100-continue")) {
            return Err(Offence::Expectation);
        }
        let expects_continue = expects.is_some() && !head.old && body != Framing::Length(0);
        let continuation = Continuation { body, expects_continue, is_old: head.old, keep_alive };
        Ok((RequestHead { method, target, fields }, continuation))
    }
}

impl Partial {
    fn request_line(&mut self, line: &[u8], start: usize) -> Result<(), Offence> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Offence::RequestLine);
        };
        let plain = |byte: &u8| (0x21..0x7f).contains(byte) & (*byte != b'#');
        if target.is_empty() || !target.iter().fold(true, |all, byte| all & plain(byte)) {
            return Err(Offence::RequestLine);
        }
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Offence::Method);
        }
        self.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Offence::RequestLine),
        };
        self.method = Some(Method::from_bytes(method).map_err(|_invalid| Offence::RequestLine)?);
        let begin = start + method.len() + 1;
        self.target = (begin, begin + target.len());
        self.fields = FieldList::new();
        Ok(())
    }

    fn field(&mut self, line: &[u8], start: usize, max_fields: usize) -> Result<(), Offence> {
        if self.fields.len() >= max_fields {
            return Err(Offence::HeadSize);
        }
        let colon = line.iter().position(|byte| !is_token(*byte)).ok_or(Offence::Field)?;
        let (name, rest) = line.split_at(colon);
        let Some((b':', rest)) = rest.split_first() else { return Err(Offence::Field) };
        if name.is_empty() {
            return Err(Offence::Field);
        }
        let value = rest.trim_ascii_start();
        let begin = start + line.len() - value.len();
        let value = value.trim_ascii_end();
        let kind = Name::of(name);
        match kind {
            Name::Host => self.host(value)?,
            Name::ContentLength => {
                if self.length.is_some() || self.chunked {
                    return Err(Offence::Length);
                }
                self.length = Some(number(value, 10).ok_or(Offence::Length)?);
            }
            Name::TransferEncoding => {
                let only = !self.chunked && self.length.is_none() && !self.old;
                if !only || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Offence::Length);
                }
                self.chunked = true;
            }
            _ => {}
        }
        self.fields.push(kind, start..start + colon, begin..begin + value.len());
        Ok(())
    }

    /// The host must be given once.
    fn host(&self, value: &[u8]) -> Result<(), Offence> {
        if self.fields.has(Name::Host) || !is_authority(value) {
            Err(Offence::Host)
        } else {
            Ok(())
        }
    }
}

impl RequestTarget {
    /// Takes the target of a request apart: `/path?query`, or `scheme://authority/path?query`.
    fn read(text: &Bytes, (start, end): (usize, usize)) -> Result<Self, Offence> {
        let target = text.slice(start..end);
        let value = |part: &[u8]| {
            HeaderValue::from_maybe_shared(target.slice_ref(part))
                .map_err(|_invalid| Offence::RequestLine)
        };
        let scheme_end = if target.first() == Some(&b'/') {
            None
        } else {
            memchr::memmem::find(&target, b"://")
        };
        let (authority, path) = match scheme_end {
            None => (None, target.clone()),
            Some(at) => {
                let (scheme, rest) = target.split_at(at);
                let rest = rest.get(3..).unwrap_or_default();
                let end =
                    rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                if authority.is_empty() {
                    return Err(Offence::RequestLine);
                }
                (Some((value(scheme)?, value(authority)?)), target.slice_ref(path))
            }
        };
        // An empty path, with or without a query, reads as a slash.
        let path = if path.is_empty() { Bytes::from_static(b"/") } else { path };
        let path =
            PathAndQuery::from_maybe_shared(path).map_err(|_invalid| Offence::RequestLine)?;
        Ok(Self { path, authority })
    }
}

/// A non-empty number of at most 16 digits.
pub(crate) fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// Whether `value` is made of the characters of a host with an optional port.
pub(super) fn is_authority(value: &[u8]) -> bool {
    value.len() <= 260
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte))
}

/// Whether `byte` may stand in a method or the name of a field.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        #[expect(clippy::indexing_slicing, reason = "the table has a place for every byte")]
        {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
