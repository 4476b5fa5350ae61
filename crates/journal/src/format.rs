//! The bytes of a segment.
//!
//! ```text
//! segment  header frame*
//! header   "CADJRNL\0"  version u32  segment u64  salt [32]  tag [16]
//! frame    length u32  counter u64  tag [16]  ciphertext [length]  tag [16]
//! records  (length u32  bytes)*
//! ```
//!
//! Numbers are little-endian. The key of a segment is derived from the journal's key, the salt and the segment's
//! number. The first tag of a frame covers its length, so that a changed length is told from a torn end. Nonces are
//! a part number and the counter, which the writer never repeats within a segment; associated data binds the
//! segment and the offset, so that frames cannot change places.

use aws_lc_rs::{
    aead::{Aad, LessSafeKey, Nonce},
    error::Unspecified,
    rand,
};

use crate::Key;

const MAGIC: &[u8; 8] = b"CADJRNL\0";
const VERSION: u32 = 1;
const PURPOSE: &[u8] = b"caduceus journal segment 1";
const SALT_AT: usize = 20;
const UNSIGNED_HEADER: usize = 52;

pub(crate) const TAG: usize = 16;
pub(crate) const HEADER: usize = UNSIGNED_HEADER + TAG;
const FRAME_HEAD_FIELDS: usize = 12;
pub(crate) const FRAME_HEAD: usize = FRAME_HEAD_FIELDS + TAG;
/// The largest content of a frame, before encryption.
pub(crate) const FRAME_MAX: usize = 4 << 20;

/// Which part of a segment a nonce belongs to.
#[derive(Clone, Copy)]
enum Part {
    Header = 0,
    FrameHead = 1,
    FrameBody = 2,
}

/// The length and counter of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) length: u32,
    pub(crate) counter: u64,
}

/// Seals and opens the parts of one segment.
pub(crate) struct SegmentCipher {
    key: LessSafeKey,
    segment: u64,
}

impl SegmentCipher {
    /// Begins a segment: a fresh key and the header that lets readers derive it.
    pub(crate) fn begin(key: &Key, segment: u64) -> Result<(Self, [u8; HEADER]), Unspecified> {
        let mut salt = [0; 32];
        rand::fill(&mut salt)?;
        let mut header = [0; HEADER];
        let (fields, tag) = header.split_at_mut(UNSIGNED_HEADER);
        put(fields, &[MAGIC, &VERSION.to_le_bytes(), &segment.to_le_bytes(), &salt]);
        let cipher = Self { key: key.derive(&salt, &[PURPOSE, &segment.to_le_bytes()])?, segment };
        put(tag, &[&cipher.sign(Part::Header, 0, fields)?]);
        Ok((cipher, header))
    }

    /// Takes up a segment by its header; fails when it is damaged or belongs to another key.
    pub(crate) fn resume(
        key: &Key,
        segment: u64,
        header: &[u8; HEADER],
    ) -> Result<Self, Unspecified> {
        let (fields, tag) = header.split_at(UNSIGNED_HEADER);
        let salt = fields.get(SALT_AT..).ok_or(Unspecified)?;
        let cipher = Self { key: key.derive(salt, &[PURPOSE, &segment.to_le_bytes()])?, segment };
        cipher.verify(Part::Header, 0, fields, tag)?;
        let known = fields.starts_with(MAGIC)
            && fields.get(MAGIC.len()..MAGIC.len() + 4) == Some(&VERSION.to_le_bytes());
        if known { Ok(cipher) } else { Err(Unspecified) }
    }

    /// Writes the frame for `content` into `frame`, replacing what was there.
    pub(crate) fn seal_frame(
        &self,
        frame: &mut Vec<u8>,
        content: &[u8],
        counter: u64,
        offset: u64,
    ) -> Result<(), Unspecified> {
        let length = u32::try_from(content.len()).map_err(|_too_long| Unspecified)?;
        frame.clear();
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&counter.to_le_bytes());
        let signed = self.head_data(frame, offset);
        frame.extend_from_slice(&self.sign(Part::FrameHead, counter, &signed)?);
        frame.extend_from_slice(content);
        let body = frame.get_mut(FRAME_HEAD..).ok_or(Unspecified)?;
        let data = Aad::from(self.body_data(offset));
        let tag =
            self.key.seal_in_place_separate_tag(nonce(Part::FrameBody, counter), data, body)?;
        frame.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Reads the head of the frame at `offset`; fails when it is damaged.
    pub(crate) fn open_head(
        &self,
        head: &[u8; FRAME_HEAD],
        offset: u64,
    ) -> Result<FrameHead, Unspecified> {
        let (fields, tag) = head.split_at(FRAME_HEAD_FIELDS);
        let (length, counter) = fields.split_first_chunk().ok_or(Unspecified)?;
        let counter = u64::from_le_bytes(counter.try_into().map_err(|_length| Unspecified)?);
        self.verify(Part::FrameHead, counter, &self.head_data(fields, offset), tag)?;
        Ok(FrameHead { length: u32::from_le_bytes(*length), counter })
    }

    /// Decrypts ciphertext and tag of the frame at `offset` in place; fails when they are damaged.
    pub(crate) fn open_body<'body>(
        &self,
        head: FrameHead,
        offset: u64,
        body: &'body mut [u8],
    ) -> Result<&'body [u8], Unspecified> {
        let data = Aad::from(self.body_data(offset));
        let content = self.key.open_in_place(nonce(Part::FrameBody, head.counter), data, body)?;
        Ok(content)
    }

    fn head_data(&self, fields: &[u8], offset: u64) -> [u8; FRAME_HEAD_FIELDS + 16] {
        let mut data = [0; FRAME_HEAD_FIELDS + 16];
        put(&mut data, &[&self.segment.to_le_bytes(), &offset.to_le_bytes(), fields]);
        data
    }

    fn body_data(&self, offset: u64) -> [u8; 16] {
        let mut data = [0; 16];
        put(&mut data, &[&self.segment.to_le_bytes(), &offset.to_le_bytes()]);
        data
    }

    fn sign(&self, part: Part, counter: u64, data: &[u8]) -> Result<[u8; TAG], Unspecified> {
        let nonce = nonce(part, counter);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(data), &mut [])?;
        tag.as_ref().try_into().map_err(|_length| Unspecified)
    }

    fn verify(&self, part: Part, counter: u64, data: &[u8], tag: &[u8]) -> Result<(), Unspecified> {
        let mut tag: [u8; TAG] = tag.try_into().map_err(|_length| Unspecified)?;
        self.key.open_in_place(nonce(part, counter), Aad::from(data), &mut tag)?;
        Ok(())
    }
}

fn nonce(part: Part, counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    put(&mut bytes, &[&(part as u32).to_le_bytes(), &counter.to_le_bytes()]);
    Nonce::assume_unique_for_key(bytes)
}

/// Copies `fields` one after the other to the beginning of `bytes`.
fn put(bytes: &mut [u8], fields: &[&[u8]]) {
    let mut rest = bytes;
    for field in fields {
        let (head, tail) = rest.split_at_mut(field.len());
        head.copy_from_slice(field);
        rest = tail;
    }
}

/// Appends a record to the content of a frame.
pub(crate) fn push_record(content: &mut Vec<u8>, length: u32, record: &[u8]) {
    content.extend_from_slice(&length.to_le_bytes());
    content.extend_from_slice(record);
}

/// Takes the first record off the content of a frame.
pub(crate) fn split_record(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = content.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}
