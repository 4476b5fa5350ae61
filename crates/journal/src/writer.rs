//! Appending to a journal.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    JournalError, Key,
    format::{FRAME_MAX, HEADER, SegmentCipher, push_record},
    segment,
};

const ROLL_BYTES: u64 = 16 << 20;

/// Appends records to a journal.
///
/// Records are gathered with [`Writer::push`] and written together, as one frame, by [`Writer::commit`].
pub struct Writer {
    dir: PathBuf,
    key: Key,
    current: Option<Segment>,
    /// The segment before, until it is made durable.
    full: Option<Segment>,
    next_segment: u64,
    roll_bytes: u64,
    content: Vec<u8>,
    frame: Vec<u8>,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is full: {FRAME_MAX} bytes wait to be written")]
pub struct PushError;

/// The segment being written.
struct Segment {
    file: File,
    path: PathBuf,
    cipher: SegmentCipher,
    offset: u64,
    counter: u64,
    in_folder: InFolder,
}

/// Whether the segment's entry in its folder is known to be durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InFolder {
    Written,
    Durable,
}

impl Writer {
    /// Begins a new segment in `dir`, which is made when it does not exist.
    pub fn open(dir: &Path, key: &Key) -> Result<Self, JournalError> {
        Self::open_rolling(dir, key, ROLL_BYTES)
    }

    /// As [`Writer::open`], with segments of about `roll_bytes`.
    pub(crate) fn open_rolling(
        dir: &Path,
        key: &Key,
        roll_bytes: u64,
    ) -> Result<Self, JournalError> {
        fs::create_dir_all(dir).map_err(|source| JournalError::Io {
            action: "create",
            path: dir.to_owned(),
            source,
        })?;
        let next_segment = segment::list(dir)?.last().map_or(0, |last| last + 1);
        let mut writer = Self {
            dir: dir.to_owned(),
            key: key.clone(),
            current: None,
            full: None,
            next_segment,
            roll_bytes,
            content: Vec::new(),
            frame: Vec::new(),
        };
        writer.current = Some(writer.begin_segment()?);
        Ok(writer)
    }

    /// Adds a record to the next frame; fails when the frame is full, as happens when commits keep failing.
    pub fn push(&mut self, record: &[u8]) -> Result<(), PushError> {
        let Ok(length) = u32::try_from(record.len()) else { return Err(PushError) };
        if self.content.len() + 4 + record.len() > FRAME_MAX {
            return Err(PushError);
        }
        push_record(&mut self.content, length, record);
        Ok(())
    }

    /// Writes all pushed records as one frame with one system call.
    ///
    /// After it the records survive the death of the process. When it fails they stay and are part of the
    /// next attempt; what a failed attempt left behind is cut off or left in an abandoned segment.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.content.is_empty() {
            return Ok(());
        }
        let mut segment = match self.current.take() {
            Some(segment) if segment.offset < self.roll_bytes => segment,
            full => {
                self.retire(full)?;
                self.begin_segment()?
            }
        };
        segment
            .cipher
            .seal_frame(&mut self.frame, &self.content, segment.counter, segment.offset)
            .expect("a frame is far below the cipher's limits");
        segment.counter += 1;
        match segment.file.write_all_at(&self.frame, segment.offset) {
            Ok(()) => {
                segment.offset += self.frame.len() as u64;
                self.content.clear();
                self.current = Some(segment);
                Ok(())
            }
            Err(source) => {
                let error =
                    JournalError::Io { action: "append to", path: segment.path.clone(), source };
                if segment.file.set_len(segment.offset).is_ok() {
                    self.current = Some(segment);
                }
                Err(error)
            }
        }
    }

    /// Makes everything committed so far survive the death of the machine.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if let Some(full) = self.full.take() {
            full.sync(&self.dir)?;
        }
        if let Some(segment) = &mut self.current {
            segment.sync(&self.dir)?;
            segment.in_folder = InFolder::Durable;
        }
        Ok(())
    }

    /// Sets a full segment aside for the next [`Writer::sync`]. Whoever never calls that pays here, one segment
    /// later, when the system has long written most of it.
    fn retire(&mut self, full: Option<Segment>) -> Result<(), JournalError> {
        let Some(full) = full else { return Ok(()) };
        match self.full.replace(full) {
            Some(older) => older.sync(&self.dir),
            None => Ok(()),
        }
    }

    fn begin_segment(&mut self) -> Result<Segment, JournalError> {
        let number = self.next_segment;
        let path = segment::path(&self.dir, number);
        let failed = |action, source| JournalError::Io { action, path: path.clone(), source };
        let Ok((cipher, header)) = SegmentCipher::begin(&self.key, number) else {
            return Err(JournalError::Random);
        };
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| failed("create", source))?;
        if let Err(source) = file.write_all_at(&header, 0) {
            // A segment without a whole header holds nothing; the number is free again once the file is gone.
            if fs::remove_file(&path).is_err() {
                self.next_segment += 1;
            }
            return Err(failed("write the header of", source));
        }
        self.next_segment += 1;
        let offset = HEADER as u64;
        Ok(Segment { file, path, cipher, offset, counter: 0, in_folder: InFolder::Written })
    }
}

impl Segment {
    fn sync(&self, dir: &Path) -> Result<(), JournalError> {
        let failed = |path: &Path, source| JournalError::Io {
            action: "make durable",
            path: path.to_owned(),
            source,
        };
        self.file.sync_data().map_err(|source| failed(&self.path, source))?;
        if self.in_folder == InFolder::Written {
            sync_dir(dir).map_err(|source| failed(dir, source))?;
        }
        Ok(())
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
