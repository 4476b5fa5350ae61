//! Requests in parts and whole, and in their normal form.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{
    head::{Continuation, Framing, HeadReader, RequestHead},
    incoming::BodyReader,
};
use crate::fields::Name;

/// The largest head. A normal form has a space behind each name, which may make it longer.
const HEAD_MAX: usize = 4 << 10;

/// A request that came whole.
#[derive(Debug, PartialEq)]
struct Read {
    line: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    continuation: Continuation,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// The first byte says in parts of how many bytes the rest comes.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let whole = read(stream, usize::MAX, HEAD_MAX);
    assert_eq!(read(stream, usize::from(*step).max(1), HEAD_MAX), whole);
    for request in &whole.0 {
        let (again, is_refused) = read(&request.normal_form(), usize::MAX, 2 * HEAD_MAX);
        assert!(!is_refused, "{request:?}");
        assert_eq!(again.len(), 1);
        let again = again.first().expect("one request");
        assert_eq!((&again.line, &again.fields), (&request.line, &request.fields));
        assert_eq!((&again.body, &again.continuation), (&request.body, &request.continuation));
    }
}

/// All requests of a stream that comes in parts, and whether it was refused at the end.
fn read(stream: &[u8], step: usize, head_max: usize) -> (Vec<Read>, bool) {
    let (mut reader, mut body, mut requests) = (HeadReader::new(head_max, 20), None, Vec::new());
    for part in stream.chunks(step.min(stream.len()).max(1)) {
        reader.text.extend_from_slice(part);
        loop {
            let (request, incoming): &mut (Read, BodyReader) = match &mut body {
                Some(known) => known,
                None => match reader.take() {
                    Err(_offence) => return (requests, true),
                    Ok(None) => break,
                    Ok(Some((head, continuation))) => {
                        let incoming = BodyReader::new(continuation.body);
                        body.insert((Read::begin(&head, continuation), incoming))
                    }
                },
            };
            let mut text: BytesMut = std::mem::take(&mut reader.text);
            let taken = take_all(incoming, &mut text, &mut request.body);
            reader.text = text;
            match taken {
                Err(()) => return (requests, true),
                Ok(false) => break,
                Ok(true) => {
                    let (mut request, mut incoming) = body.take().expect("a request has begun");
                    request.trailers = incoming.take_trailers();
                    let goes_on = request.continuation.keep_alive;
                    requests.push(request);
                    if !goes_on {
                        return (requests, false);
                    }
                }
            }
        }
    }
    (requests, false)
}

/// Takes what there is of a body; says whether it has ended.
fn take_all(
    incoming: &mut BodyReader,
    text: &mut BytesMut,
    body: &mut Vec<u8>,
) -> Result<bool, ()> {
    while let Some(data) = incoming.take(text).map_err(|_offence| ())? {
        body.extend_from_slice(&data);
    }
    Ok(incoming.has_ended())
}

impl Read {
    fn begin(head: &RequestHead, continuation: Continuation) -> Self {
        let lengths = head.fields.all(Name::ContentLength).count();
        let codings = head.fields.all(Name::TransferEncoding).count();
        match continuation.body {
            Framing::Chunks => assert_eq!((lengths, codings), (0, 1)),
            Framing::Length(_) => assert!(lengths <= 1 && codings == 0),
        }
        assert!(head.fields.all(Name::Host).count() <= 1);
        let target = match &head.target.authority {
            None => head.target.path.to_string(),
            Some((scheme, authority)) => {
                let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
                format!("{}://{}{}", text(scheme), text(authority), head.target.path)
            }
        };
        let version = if continuation.is_old { "1.0" } else { "1.1" };
        let fields = head.fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec()));
        Self {
            line: format!("{} {target} HTTP/{version}", head.method),
            fields: fields.collect(),
            continuation,
            body: Vec::new(),
            trailers: None,
        }
    }

    fn normal_form(&self) -> Bytes {
        let mut text = Vec::from(self.line.as_bytes());
        for (name, value) in &self.fields {
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(name);
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
        }
        text.extend_from_slice(b"\r\n\r\n");
        match self.continuation.body {
            Framing::Length(_) => text.extend_from_slice(&self.body),
            Framing::Chunks => {
                if !self.body.is_empty() {
                    text.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
                    text.extend_from_slice(&self.body);
                    text.extend_from_slice(b"\r\n");
                }
                text.extend_from_slice(b"0\r\n\r\n");
            }
        }
        text.into()
    }
}
