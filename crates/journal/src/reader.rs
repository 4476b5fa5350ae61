//! Following a journal, and deleting what has been read.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    str::FromStr,
};

use crate::{
    JournalError, Key,
    format::{FRAME_HEAD, FRAME_MAX, HEADER, SegmentCipher, TAG, split_record},
    segment,
};

/// A place between two frames. Later places are greater.
///
/// Its text is `segment:offset`; both numbers are public so that they can be stored as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a position of the form segment:offset")]
pub struct PositionParseError;

/// Records read from a journal, and where to go on.
#[derive(Debug)]
pub struct Batch {
    content: Vec<u8>,
    /// Where the next read begins.
    pub next: Position,
}

/// The records of a [`Batch`], in the order in which they were written.
pub struct Records<'batch>(&'batch [u8]);

/// Reads records from `from` on, about `max_bytes` of them but at least one frame when there is one.
///
/// A frame that was only partly written when its writer died is not an error: reading stops before it in the newest
/// segment, and goes on with the next segment otherwise.
pub fn read(
    dir: &Path,
    key: &Key,
    from: Position,
    max_bytes: usize,
) -> Result<Batch, JournalError> {
    let segments = segment::list(dir)?;
    let mut batch = Batch { content: Vec::new(), next: from };
    for segment in segments.into_iter().filter(|segment| *segment >= from.segment) {
        if segment > batch.next.segment {
            batch.next = Position { segment, offset: 0 };
        }
        read_segment(dir, key, &mut batch, max_bytes)?;
        if batch.content.len() >= max_bytes {
            break;
        }
    }
    Ok(batch)
}

/// Deletes the segments that end before `before`, never the newest; answers how many they were.
pub fn prune(dir: &Path, before: Position) -> Result<usize, JournalError> {
    let mut segments = segment::list(dir)?;
    segments.pop();
    let mut pruned = 0;
    for segment in segments.into_iter().take_while(|segment| *segment < before.segment) {
        let path = segment::path(dir, segment);
        fs::remove_file(&path).map_err(|source| JournalError::Io {
            action: "delete",
            path,
            source,
        })?;
        pruned += 1;
    }
    Ok(pruned)
}

impl Batch {
    /// The records, in the order in which they were written.
    pub fn records(&self) -> Records<'_> {
        Records(&self.content)
    }
}

impl<'batch> Iterator for Records<'batch> {
    type Item = &'batch [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (record, rest) = split_record(self.0)?;
        self.0 = rest;
        Some(record)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.segment, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (segment, offset) = text.split_once(':').ok_or(PositionParseError)?;
        match (segment.parse(), offset.parse()) {
            (Ok(segment), Ok(offset)) => Ok(Self { segment, offset }),
            _ => Err(PositionParseError),
        }
    }
}

/// Adds the frames of one segment from `batch.next` on, until `max_bytes` are reached or whole frames end.
fn read_segment(
    dir: &Path,
    key: &Key,
    batch: &mut Batch,
    max_bytes: usize,
) -> Result<(), JournalError> {
    let number = batch.next.segment;
    let path = segment::path(dir, number);
    let failed = |source| JournalError::Io { action: "read", path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        // Pruned since the folder was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let damaged = |offset| JournalError::Damaged { segment: number, offset };
    let mut header = [0; HEADER];
    if !read_whole(&file, &mut header, 0).map_err(failed)? {
        return Ok(());
    }
    let Ok(cipher) = SegmentCipher::resume(key, number, &header) else { return Err(damaged(0)) };
    batch.next.offset = batch.next.offset.max(HEADER as u64);
    let mut body = Vec::new();
    while batch.content.len() < max_bytes {
        let offset = batch.next.offset;
        let mut head = [0; FRAME_HEAD];
        if !read_whole(&file, &mut head, offset).map_err(failed)? {
            break;
        }
        let Ok(head) = cipher.open_head(&head, offset) else { return Err(damaged(offset)) };
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if length > FRAME_MAX {
            return Err(damaged(offset));
        }
        body.resize(length + TAG, 0);
        if !read_whole(&file, &mut body, offset + FRAME_HEAD as u64).map_err(failed)? {
            break;
        }
        let Ok(content) = cipher.open_body(head, offset, &mut body) else {
            return Err(damaged(offset));
        };
        batch.content.extend_from_slice(content);
        batch.next.offset = offset + (FRAME_HEAD + length + TAG) as u64;
    }
    Ok(())
}

/// Fills `bytes` from `offset` on; false when the file ends before.
fn read_whole(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
