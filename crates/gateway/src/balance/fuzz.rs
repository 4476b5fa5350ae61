//! Answers in parts and whole.

use bytes::Bytes;

use super::{chunks::Chunks, head};

/// Status, fields, length, and whether there are chunks.
type Known = (u16, Vec<(Vec<u8>, Vec<u8>)>, Option<u64>, bool);

/// What was read of an answer.
#[derive(Debug, Default, PartialEq)]
struct Read {
    head: Option<Known>,
    data: Vec<u8>,
    has_ended: bool,
}

/// The first byte says in parts of how many bytes the rest comes.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    assert_eq!(read(stream, usize::from(*step).max(1)), read(stream, usize::MAX));
}

/// What can be read of an answer with chunks; nothing when it is none.
fn read(stream: &[u8], step: usize) -> Option<Read> {
    let (mut text, mut searched) = (Vec::new(), 0);
    let (mut read, mut chunks) = (Read::default(), Chunks::new());
    for part in stream.chunks(step.min(stream.len()).max(1)) {
        text.extend_from_slice(part);
        if read.head.is_none() {
            let Some(end) = head::end(&text, &mut searched).ok()? else { continue };
            let rest = text.split_off(end);
            let head = head::parse(Bytes::from(std::mem::replace(&mut text, rest))).ok()?;
            assert!(!(head.is_chunked && head.length.is_some()), "framed in two ways");
            let fields = head.fields.iter();
            let fields = fields.map(|field| (field.name.to_vec(), field.value.to_vec()));
            let status = head.status.as_u16();
            read.head = Some((status, fields.collect(), head.length, head.is_chunked));
        }
        if read.head.as_ref().is_some_and(|(.., is_chunked)| *is_chunked) {
            let mut bytes = Bytes::copy_from_slice(&text);
            while let Some(data) = chunks.take(&mut bytes).ok()? {
                read.data.extend_from_slice(&data);
            }
            text = bytes.to_vec();
            read.has_ended = chunks.has_ended();
        }
    }
    Some(read)
}
