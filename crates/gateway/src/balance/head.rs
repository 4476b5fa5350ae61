//! Takes the head of an answer apart (HTTP/1.1, RFC 9112), over the memory in which it arrived.
//!
//! It is as strict as towards clients: an answer that two readers could take apart in two ways is none.

use bytes::Bytes;
use http::StatusCode;

use super::connection::Broken;
use crate::{
    connection::{is_token, number},
    fields::{FieldList, Fields, Name},
    headers::connection_options,
};

/// The largest head of an answer, and the most fields it may have.
const HEAD_MAX: usize = 128 << 10;
const FIELDS_MAX: usize = 100;

/// The head of an answer, without what was meant for this connection alone.
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Whether the target speaks HTTP/1.0.
    pub(super) is_old: bool,
    pub(super) fields: Fields,
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) closes: bool,
    pub(super) keeps_alive: bool,
}

/// Where the head ends that `text` begins with; none when that is still to come. `searched` is how much of it has been
/// looked through in vain.
pub(super) fn end(text: &[u8], searched: &mut usize) -> Result<Option<usize>, Broken> {
    let mut line = *searched;
    while let Some(found) = text.get(line..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let end = line + found + 1;
        if end > HEAD_MAX {
            return Err(Broken);
        }
        if found <= 1 && line > 0 {
            *searched = 0;
            return if text.get(line..end) == Some(b"\r\n") { Ok(Some(end)) } else { Err(Broken) };
        }
        line = end;
    }
    *searched = line;
    if text.len() < HEAD_MAX { Ok(None) } else { Err(Broken) }
}

/// Takes a whole head apart.
pub(super) fn parse(text: Bytes) -> Result<Head, Broken> {
    let mut lines = Lines { text: &text, at: 0 };
    let (_, first) = lines.next_line()?;
    let (status, is_old) = status_line(first)?;
    let (mut list, mut named) = (FieldList::new(), Vec::new());
    let (mut length, mut is_chunked, mut closes, mut keeps_alive) = (None, false, false, false);
    let mut count = 0;
    loop {
        let (start, line) = lines.next_line()?;
        if line.is_empty() {
            break;
        }
        count += 1;
        let colon = line.iter().position(|byte| !is_token(*byte)).ok_or(Broken)?;
        let (name, rest) = line.split_at(colon);
        let Some((b':', rest)) = rest.split_first() else { return Err(Broken) };
        if name.is_empty() || count > FIELDS_MAX {
            return Err(Broken);
        }
        let value = rest.trim_ascii_start();
        let begin = start + line.len() - value.len();
        let value = value.trim_ascii_end();
        let kind = Name::of(name);
        match kind {
            Name::Connection => {
                for option in connection_options(value) {
                    closes |= option.eq_ignore_ascii_case(b"close");
                    keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    named.push(option);
                }
                continue;
            }
            Name::TransferEncoding => {
                if is_chunked || is_old || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Broken);
                }
                is_chunked = true;
                continue;
            }
            Name::ContentLength => {
                let given = number(value, 10).ok_or(Broken)?;
                // The same length again says nothing new.
                match length.replace(given) {
                    Some(known) if known != given => return Err(Broken),
                    Some(_) => continue,
                    None => {}
                }
            }
            kind if kind.is_hop_by_hop() => continue,
            _ => {}
        }
        list.push(kind, start..start + colon, begin..begin + value.len());
    }
    if is_chunked && length.is_some() {
        return Err(Broken);
    }
    let named: Vec<Vec<u8>> = named.into_iter().map(<[u8]>::to_vec).collect();
    let mut fields = Fields::new(text, list);
    named.iter().for_each(|name| fields.remove(name));
    Ok(Head { status, is_old, fields, length, is_chunked, closes, keeps_alive })
}

struct Lines<'text> {
    text: &'text [u8],
    at: usize,
}

impl<'text> Lines<'text> {
    /// The next line, without its end, and where it begins.
    fn next_line(&mut self) -> Result<(usize, &'text [u8]), Broken> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).ok_or(Broken)?;
        self.at = start + end + 1;
        let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Broken)?;
        let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        if line.iter().fold(false, |found, byte| found | control(*byte)) {
            return Err(Broken);
        }
        Ok((start, line))
    }
}

/// `HTTP/1.x SP status [SP reason]`; says whether it is HTTP/1.0.
fn status_line(line: &[u8]) -> Result<(StatusCode, bool), Broken> {
    let is_old = match line.get(..9) {
        Some(b"HTTP/1.1 ") => false,
        Some(b"HTTP/1.0 ") => true,
        _ => return Err(Broken),
    };
    let status = line.get(9..12).and_then(|code| StatusCode::from_bytes(code).ok());
    match line.get(12) {
        None | Some(b' ') => Ok((status.ok_or(Broken)?, is_old)),
        Some(_) => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8], step: usize) -> Result<Option<(u16, String)>, Broken> {
        let mut searched = 0;
        for length in (0..=text.len()).step_by(step).chain([text.len()]) {
            if let Some(end) = end(&text[..length], &mut searched)? {
                let head = parse(Bytes::copy_from_slice(&text[..end]))?;
                let fields = head.fields.iter().map(|field| {
                    format!("{}={}", field.name.escape_ascii(), field.value.escape_ascii())
                });
                return Ok(Some((head.status.as_u16(), fields.collect::<Vec<_>>().join(","))));
            }
        }
        Ok(None)
    }

    #[test]
    fn heads_are_read_however_they_arrive() {
        for (text, status, fields) in [
            ("HTTP/1.1 200 OK\r\n\r\n", 200, ""),
            ("HTTP/1.1 204\r\nA: b\r\n\r\n", 204, "A=b"),
            ("HTTP/1.0 599 So what\r\nA:\t b \r\nC:\r\n\r\nbody\n\n", 599, "A=b,C="),
            (
                "HTTP/1.1 200 OK\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nD: e\r\n\r\n",
                200,
                "D=e",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\n",
                200,
                "Content-Length=2",
            ),
        ] {
            for step in 1..text.len() {
                let read = read(text.as_bytes(), step);
                assert_eq!(read, Ok(Some((status, fields.to_owned()))), "{text:?} by {step}");
            }
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nA: b\r\n", 3), Ok(None));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(HEAD_MAX));
        for text in [
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\r\nA: b\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &many,
            &large,
        ] {
            assert_eq!(read(text.as_bytes(), 1_000), Err(Broken), "{:?}", text.get(..60));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..20) {
            let text = [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat();
            prop_assert_eq!(read(&text, step).is_ok(), read(&text, text.len()).is_ok());
            let _ = read(&bytes, step);
        }
    }
}
