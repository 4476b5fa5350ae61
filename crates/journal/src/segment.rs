//! The files of a journal: names and listing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::JournalError;

const EXTENSION: &str = "journal";
const DIGITS: usize = 20;

/// The file of a segment.
pub(crate) fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}.{EXTENSION}"))
}

/// The numbers of all segments in `dir`, ascending; none when the folder does not exist.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let failed =
        |source| JournalError::Io { action: "list the journal", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        segments.extend(number(&entry.map_err(failed)?.path()));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn number(path: &Path) -> Option<u64> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let digits = path.file_stem()?.to_str()?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}
