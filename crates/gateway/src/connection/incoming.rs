//! Takes the body of a request over HTTP/1.1 apart (RFC 9112, 6 and 7), as strictly as its head.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::{Framing, Offence, is_token, number};
use crate::trailers;

/// The longest line with the size of a chunk, and the most bytes of trailers.
const SIZE_LINE_MAX: usize = 1 << 10;
const TRAILERS_MAX: usize = 8 << 10;

/// What is left of the body of a request.
#[derive(Debug)]
pub(super) struct BodyReader {
    state: State,
    trailers: HeaderMap,
    trailer_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    End,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

impl BodyReader {
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunks => State::ChunkSize,
        };
        Self { state, trailers: HeaderMap::new(), trailer_bytes: 0 }
    }

    /// Whether the body has been taken whole.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::End
    }

    /// How many bytes are still to come, when that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self.state {
            State::End => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// The trailers of a body that has ended.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        let trailers = std::mem::take(&mut self.trailers);
        if trailers.is_empty() { None } else { Some(trailers) }
    }

    /// Takes the next data off `text`; none when more bytes are needed or the body has ended.
    pub(super) fn take(&mut self, text: &mut BytesMut) -> Result<Option<Bytes>, Offence> {
        loop {
            match self.state {
                State::End => return Ok(None),
                State::Length(left) | State::ChunkData(left) => {
                    if text.is_empty() {
                        return Ok(None);
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(text.len());
                    let left = left - here as u64;
                    self.state = match (self.state, left) {
                        (State::Length(_), 0) => State::End,
                        (State::Length(_), left) => State::Length(left),
                        (_, 0) => State::ChunkEnd,
                        (_, left) => State::ChunkData(left),
                    };
                    let data = text.split_to(here).freeze();
                    // So that the end shows together with the last data.
                    self.pass_lines(text)?;
                    return Ok(Some(data));
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    if !self.pass_lines(text)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Passes over the lines between data; says whether there are none left to wait for.
    fn pass_lines(&mut self, text: &mut BytesMut) -> Result<bool, Offence> {
        while matches!(self.state, State::ChunkSize | State::ChunkEnd | State::Trailers) {
            let most = match self.state {
                State::Trailers => TRAILERS_MAX - self.trailer_bytes,
                State::ChunkEnd if text.first().is_some_and(|byte| *byte != b'\r') => {
                    return Err(Offence::Chunk);
                }
                State::ChunkEnd => 2,
                _ => SIZE_LINE_MAX,
            };
            let window = text.get(..text.len().min(most)).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', window) else {
                return if text.len() < most { Ok(false) } else { Err(Offence::Chunk) };
            };
            let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r"));
            let line = line.ok_or(Offence::Line)?;
            let control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
            if line.iter().any(control) {
                return Err(Offence::Line);
            }
            self.state = match self.state {
                State::ChunkSize => {
                    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                    match number(digits, 16).ok_or(Offence::Chunk)? {
                        0 => State::Trailers,
                        size => State::ChunkData(size),
                    }
                }
                State::ChunkEnd if line.is_empty() => State::ChunkSize,
                State::Trailers if line.is_empty() => State::End,
                State::Trailers => {
                    self.trailer_bytes += end + 1;
                    if let Some((name, value)) = trailer(line)?
                        && self.trailers.len() < trailers::FIELDS_MAX
                    {
                        self.trailers.append(name, value);
                    }
                    State::Trailers
                }
                _ => return Err(Offence::Chunk),
            };
            text.advance(end + 1);
        }
        Ok(true)
    }
}

/// Reads a trailer; none when it is a field that may not come behind the body (RFC 9110, 6.5.1).
fn trailer(line: &[u8]) -> Result<Option<(HeaderName, HeaderValue)>, Offence> {
    let colon = line.iter().position(|byte| !is_token(*byte)).ok_or(Offence::Field)?;
    let (name, rest) = line.split_at(colon);
    let Some((b':', value)) = rest.split_first() else { return Err(Offence::Field) };
    let name = HeaderName::from_bytes(name).map_err(|_invalid| Offence::Field)?;
    let value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_invalid| Offence::Field)?;
    Ok(trailers::is_lawful(&name).then_some((name, value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of a body that arrives in parts of `step` bytes, whether it ended, and what follows it.
    fn take_all(
        framing: Framing,
        body: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, bool, Vec<u8>), Offence> {
        let (mut reader, mut data) = (BodyReader::new(framing), Vec::new());
        let mut text = BytesMut::new();
        for part in body.chunks(step) {
            text.extend_from_slice(part);
            while let Some(taken) = reader.take(&mut text)? {
                data.extend_from_slice(&taken);
            }
        }
        Ok((data, reader.has_ended(), text.to_vec()))
    }

    #[test]
    fn bodies_arrive_in_any_parts() {
        let chunked = b"5\r\nhello\r\n1;a=\"b\"\r\n\n\r\n0005\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\nGET";
        for step in 1..=chunked.len() {
            let taken = take_all(Framing::Chunks, chunked, step);
            assert_eq!(taken, Ok((b"hello\nworld".to_vec(), true, b"GET".to_vec())), "{step}");
            let taken = take_all(Framing::Length(11), b"hello\0worldGET", step);
            assert_eq!(taken, Ok((b"hello\0world".to_vec(), true, b"GET".to_vec())), "{step}");
        }
    }

    #[test]
    fn trailers_that_decide_something_are_dropped() {
        let mut reader = BodyReader::new(Framing::Chunks);
        let mut text =
            BytesMut::from(&b"0\r\nX-Sum: 1\r\nHost: b\r\nauthorization: x\r\nVary: *\r\n\r\n"[..]);
        assert_eq!(reader.take(&mut text), Ok(None));
        assert!(reader.has_ended());
        let trailers = reader.take_trailers().expect("one is left");
        assert_eq!((trailers.len(), trailers["x-sum"].to_str().unwrap()), (1, "1"));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let long = [b"1;".as_slice(), &[b'x'; SIZE_LINE_MAX]].concat();
        let trailers = [b"0\r\n".as_slice(), &b"X: 1234567890\r\n".repeat(1_000)].concat();
        for bad in [
            b"x\r\n".as_slice(),
            b"\r\n",
            b"-1\r\n",
            b"1 \r\n",
            b"5\nhello",
            b"1;a\nb\r\n",
            b"1;a\rb\r\n",
            b"2\r\nabc\r\n",
            b"2\r\nab\n0\r\n\r\n",
            b"10000000000000000\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\na b\r\n\r\n",
            &long,
            &trailers,
        ] {
            for step in [1, 7, bad.len()] {
                let taken = take_all(Framing::Chunks, bad, step);
                assert!(taken.is_err(), "{:?}: {taken:?}", bad.get(..20));
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), step in 1_usize..20) {
            let whole = take_all(Framing::Chunks, &bytes, bytes.len().max(1));
            prop_assert_eq!(take_all(Framing::Chunks, &bytes, step).is_ok(), whole.is_ok());
        }
    }
}
