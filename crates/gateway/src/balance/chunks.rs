//! Takes the chunks of an answer apart (RFC 9112, 7.1). Extensions are dropped.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::trailers;

/// The longest line that frames a chunk, and the most bytes of trailers.
const LINE_MAX: usize = 8 << 10;
const TRAILERS_MAX: usize = 32 << 10;

/// Where in a chunked body an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    trailer_bytes: usize,
    /// Nothing while there are none, which is nearly always.
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    End,
}

/// What arrived is not chunked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { state: State::Size, trailer_bytes: 0, trailers: None }
    }

    /// The trailers that may be passed on, once the body has ended.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// Whether the body has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::End
    }

    /// Takes the next data off `bytes`; none when more bytes are needed or the body has ended.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
        self.pass_framing(bytes)?;
        let State::Data(left) = self.state else { return Ok(None) };
        if bytes.is_empty() {
            return Ok(None);
        }
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let data = bytes.split_to(here);
        let left = left - here as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
        // So that the end shows together with the last data.
        self.pass_framing(bytes)?;
        Ok(Some(data))
    }

    fn pass_framing(&mut self, bytes: &mut Bytes) -> Result<(), Malformed> {
        while !matches!(self.state, State::Data(_) | State::End) {
            let window = bytes.get(..bytes.len().min(LINE_MAX)).unwrap_or_default();
            let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
                return if bytes.len() < LINE_MAX { Ok(()) } else { Err(Malformed) };
            };
            let line = window.get(..=end).and_then(|line| line.strip_suffix(b"\r\n"));
            self.state = self.after_line(line.ok_or(Malformed)?)?;
            bytes.advance(end + 1);
        }
        Ok(())
    }

    fn after_line(&mut self, line: &[u8]) -> Result<State, Malformed> {
        match self.state {
            State::Size => Ok(match size(line)? {
                0 => State::Trailers,
                size => State::Data(size),
            }),
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::Trailers if line.is_empty() => Ok(State::End),
            State::Trailers => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > TRAILERS_MAX {
                    return Err(Malformed);
                }
                self.keep_trailer(line)?;
                Ok(State::Trailers)
            }
            State::DataEnd | State::Data(_) | State::End => Err(Malformed),
        }
    }
}

impl Chunks {
    fn keep_trailer(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Malformed)?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(name).map_err(|_invalid| Malformed)?;
        let value = HeaderValue::from_bytes(value).map_err(|_invalid| Malformed)?;
        let kept = self.trailers.as_ref().map_or(0, |kept| kept.len());
        if trailers::is_lawful(&name) && kept < trailers::FIELDS_MAX {
            self.trailers.get_or_insert_default().append(name, value);
        }
        Ok(())
    }
}

fn size(line: &[u8]) -> Result<u64, Malformed> {
    // What somebody may take for the end of a line, in an extension say, has two readings.
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed);
    }
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || digits.len() > 16 {
        return Err(Malformed);
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Malformed)?;
        Ok(size << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that arrives in parts of `step` bytes, and whether it ended; the rest is what follows it.
    fn take_all(body: &[u8], step: usize) -> Result<(Vec<u8>, bool, Vec<u8>), Malformed> {
        let (mut chunks, mut data, mut rest) = (Chunks::new(), Vec::new(), Vec::new());
        for part in body.chunks(step) {
            rest.extend_from_slice(part);
            let mut bytes = Bytes::copy_from_slice(&rest);
            while let Some(taken) = chunks.take(&mut bytes)? {
                data.extend_from_slice(&taken);
            }
            rest = bytes.to_vec();
        }
        Ok((data, chunks.has_ended(), rest))
    }

    #[test]
    fn chunks_arrive_in_any_parts() {
        let body = b"5\r\nhello\r\n1; a=\"b\"\r\n \r\n0005 \r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n";
        for step in 1..=body.len() {
            let taken = take_all(body, step);
            assert_eq!(taken, Ok((b"hello world".to_vec(), true, Vec::new())), "{step}");
        }
        assert_eq!(take_all(b"0\r\n\r\nrest", 9), Ok((Vec::new(), true, b"rest".to_vec())));
    }

    #[test]
    fn trailers_are_kept_unless_they_must_not_be_there() {
        let body = b"1\r\nx\r\n0\r\nX-Sum: 1 \r\nContent-Length: 9\r\nx-sum:2\r\nHost: a\r\n\r\n";
        let (mut chunks, mut bytes) = (Chunks::new(), Bytes::from_static(body));
        assert_eq!(chunks.take(&mut bytes), Ok(Some(Bytes::from_static(b"x"))));
        let trailers = chunks.take_trailers().unwrap();
        assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(trailers.len(), 2);
        for bad in ["no colon", ": no name", "a b: c", "a: \u{1}"] {
            let body = format!("0\r\n{bad}\r\n\r\n");
            assert_eq!(Chunks::new().take(&mut Bytes::from(body)), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn the_end_shows_with_the_last_data() {
        let mut chunks = Chunks::new();
        let mut bytes = Bytes::from_static(b"2\r\nok\r\n0\r\n\r\n");
        assert_eq!(chunks.take(&mut bytes), Ok(Some(Bytes::from_static(b"ok"))));
        assert!(chunks.has_ended());
    }

    #[test]
    fn what_is_cut_short_has_not_ended() {
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        for length in 0..body.len() {
            assert!(!take_all(&body[..length], 3).unwrap().1, "{length}");
        }
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; LINE_MAX]].concat();
        let trailers = [b"0\r\n".as_slice(), &b"X: 1234567890\r\n".repeat(4_000)].concat();
        for bad in [
            b"x\r\n".as_slice(),
            b"\r\n",
            b"-1\r\n",
            b"5\nhello",
            b"2\r\nabc\r\n",
            b"2\r\nab\n0\r\n\r\n",
            b"10000000000000000\r\n",
            b"5\r\r\nhello\r\n",
            b"5;a=\rb\r\nhello\r\n",
            b"5;a=\0\r\nhello\r\n",
            &long,
            &trailers,
        ] {
            for step in [1, 7, bad.len()] {
                assert_eq!(take_all(bad, step), Err(Malformed), "{:?}", bad.get(..20));
            }
        }
    }
}
