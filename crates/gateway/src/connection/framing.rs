//! Checks how a client frames its requests, before anything else reads them.
//!
//! A gateway and an upstream that disagree about where a request ends can be made to mix up the requests of two
//! callers. So every byte that a client sends passes here first, and what is not framed in the one strict way
//! is refused: both `Content-Length` and `Transfer-Encoding`, either of them twice, no or several `Host`,
//! folded lines, bare CR or LF (also inside chunks), NUL and other controls, a head that is too large.

use bytes::BytesMut;

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
            Self::HeadSize => "The head of the request is too large.",
        }
    }
}

/// Where in the stream of requests a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request.
    Start,
    Fields,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

/// What was seen of the current head.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    old: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Follows the stream of requests on one connection.
pub(crate) struct Framing {
    state: State,
    head: Head,
    /// A line whose end has not come yet.
    partial: BytesMut,
    max_bytes: usize,
    max_fields: usize,
}

/// An offence, and how many bytes before it belong to whole earlier requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offence: Offence,
    pub(crate) clean: usize,
}

impl Framing {
    pub(crate) fn new(max_bytes: usize, max_fields: usize) -> Self {
        let partial = BytesMut::new();
        Self { state: State::Start, head: Head::default(), partial, max_bytes, max_fields }
    }

    /// Whether the connection is between two requests.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.state == State::Start && self.partial.is_empty()
    }

    /// Whether the head of a request has ended and its body has not.
    pub(crate) fn is_in_body(&self) -> bool {
        !matches!(self.state, State::Start | State::Fields)
    }

    /// Looks at the next bytes of the stream.
    pub(crate) fn inspect(&mut self, bytes: &[u8]) -> Result<(), Found> {
        let mut rest = bytes;
        let mut clean = 0;
        while !rest.is_empty() {
            if self.state == State::Start && self.partial.is_empty() {
                clean = bytes.len() - rest.len();
            }
            rest = match self.state {
                State::Body(left) => {
                    let (rest, left) = skip(rest, left);
                    self.state = if left == 0 { State::Start } else { State::Body(left) };
                    rest
                }
                State::ChunkData(left) => {
                    let (rest, left) = skip(rest, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    rest
                }
                _ => match self.take_line(rest) {
                    Ok(rest) => rest,
                    Err(offence) => return Err(Found { offence, clean }),
                },
            };
        }
        Ok(())
    }

    fn take_line<'rest>(&mut self, bytes: &'rest [u8]) -> Result<&'rest [u8], Offence> {
        let end = memchr::memchr(b'\n', bytes);
        let (line, rest) = match end {
            Some(end) => bytes.split_at(end + 1),
            None => (bytes, [].as_slice()),
        };
        self.head.bytes += line.len();
        if self.head.bytes > self.max_bytes {
            return Err(Offence::HeadSize);
        }
        if end.is_none() {
            self.partial.extend_from_slice(line);
            return Ok(rest);
        }
        if self.partial.is_empty() {
            self.line(line)?;
        } else {
            self.partial.extend_from_slice(line);
            let line = self.partial.split();
            self.line(&line)?;
        }
        Ok(rest)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Offence> {
        let Some(line) = line.strip_suffix(b"\r\n") else { return Err(Offence::Line) };
        // Without an early end, so that many bytes are looked at in one step.
        let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        if line.iter().fold(false, |found, byte| found | control(*byte)) {
            return Err(Offence::Line);
        }
        match self.state {
            // An empty line before a request is tolerated (RFC 9112, 2.2); its bytes count as head.
            State::Start if line.is_empty() => Ok(()),
            State::Start => self.request_line(line),
            State::Fields if line.is_empty() => self.end_of_head(),
            State::Fields => self.field(line),
            State::ChunkSize => self.chunk_size(line),
            State::ChunkEnd if line.is_empty() => {
                self.head.bytes = 0;
                self.state = State::ChunkSize;
                Ok(())
            }
            State::Trailers if line.is_empty() => {
                self.head = Head::default();
                self.state = State::Start;
                Ok(())
            }
            State::Trailers => self.trailer(line),
            State::ChunkEnd | State::Body(_) | State::ChunkData(_) => Err(Offence::Chunk),
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Offence> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Offence::RequestLine);
        };
        let plain = !method.is_empty()
            && method.iter().all(|byte| is_token(*byte))
            && !target.is_empty()
            && target
                .iter()
                .fold(true, |plain, byte| plain & (0x21..0x7f).contains(byte) & (*byte != b'#'));
        if !plain {
            return Err(Offence::RequestLine);
        }
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Offence::Method);
        }
        self.head.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Offence::RequestLine),
        };
        self.state = State::Fields;
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Offence> {
        self.head.fields += 1;
        if self.head.fields > self.max_fields {
            return Err(Offence::HeadSize);
        }
        let (name, value) = split_field(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            if self.head.host || !is_authority(value) {
                return Err(Offence::Host);
            }
            self.head.host = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() || self.head.chunked {
                return Err(Offence::Length);
            }
            self.head.length = Some(number(value, 10).ok_or(Offence::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let only = !self.head.chunked && self.head.length.is_none() && !self.head.old;
            if !only || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Offence::Length);
            }
            self.head.chunked = true;
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), Offence> {
        let head = std::mem::take(&mut self.head);
        if !head.host && !head.old {
            return Err(Offence::Host);
        }
        self.state = match head.length {
            _ if head.chunked => State::ChunkSize,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Start,
        };
        Ok(())
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Offence> {
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = number(digits, 16).ok_or(Offence::Chunk)?;
        self.head.bytes = 0;
        self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
        Ok(())
    }

    fn trailer(&mut self, line: &[u8]) -> Result<(), Offence> {
        self.head.fields += 1;
        if self.head.fields > self.max_fields {
            return Err(Offence::HeadSize);
        }
        split_field(line).map(|_field| ())
    }
}

fn skip(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (bytes.get(here..).unwrap_or_default(), left - here as u64)
}

fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Offence> {
    let end = line.iter().position(|byte| !is_token(*byte)).ok_or(Offence::Field)?;
    let (name, value) = line.split_at(end);
    if name.is_empty() || value.first() != Some(&b':') {
        return Err(Offence::Field);
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// A non-empty number of at most 16 digits.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// Whether `value` is made of the characters of a host with an optional port.
fn is_authority(value: &[u8]) -> bool {
    value.len() <= 260
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte))
}

fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// For each byte, whether it may stand in a method or the name of a field.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inspect(bytes: &[u8], step: usize) -> Result<bool, Offence> {
        let mut framing = Framing::new(1_000, 10);
        for part in bytes.chunks(step) {
            framing.inspect(part).map_err(|found| found.offence)?;
        }
        Ok(framing.is_between_requests())
    }

    fn every_split(bytes: &[u8]) -> Result<bool, Offence> {
        let whole = inspect(bytes, bytes.len());
        for step in 1..bytes.len() {
            assert_eq!(inspect(bytes, step), whole, "in steps of {step}");
        }
        whole
    }

    #[test]
    fn well_framed_requests_pass() {
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET /a?b=c HTTP/1.1\r\nHost: a.b:80\r\nX-Y:\t z \r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\0\n\r",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nab\n\r\n0\r\nA: b\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            let twice = request.repeat(2);
            assert_eq!(every_split(twice.as_bytes()), Ok(true), "{request:?}");
        }
        assert_eq!(every_split(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(false));
    }

    #[test]
    fn offences_are_found() {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (bytes, offence) in [
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), Offence::Line),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n".to_owned(), Offence::Line),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned(), Offence::Line),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
            ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
            ("GET /\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::Method),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::Method),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".to_owned(), Offence::Field),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), Offence::Field),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), Offence::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), Offence::Host),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), Offence::Host),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n".to_owned(), Offence::Length),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n".to_owned(), Offence::Length),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n".to_owned(), Offence::Length),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), Offence::Length),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n".to_owned(), Offence::Length),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(), Offence::Length),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), Offence::Length),
            (format!("{chunked}x\r\n"), Offence::Chunk),
            (format!("{chunked}1;a\nb\r\n"), Offence::Line),
            (format!("{chunked}1\r\nab\r\n"), Offence::Chunk),
            (format!("{chunked}11111111111111111\r\n"), Offence::Chunk),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10)), Offence::HeadSize),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_000)), Offence::HeadSize),
        ] {
            assert_eq!(every_split(bytes.as_bytes()), Err(offence), "{bytes:?}");
        }
    }

    #[test]
    fn requests_before_an_offence_stay_clean() {
        let first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let both = [first.as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat();
        let found = Framing::new(1_000, 10).inspect(&both).unwrap_err();
        assert_eq!(found, Found { offence: Offence::Host, clean: first.len() });
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Framing::new(100, 5).inspect(&bytes);
        }
    }
}
