//! What can go wrong with a journal or a sealed file.

use std::{io, path::PathBuf};

/// Why a journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bytes are not what was written under this key.
    #[error(
        "segment {segment} of the journal is damaged at offset {offset}, or belongs to another key"
    )]
    Damaged {
        /// Number of the segment.
        segment: u64,
        /// Where in it the damaged part begins.
        offset: u64,
    },
    /// The system's source of random numbers failed.
    #[error("no random numbers are to be had")]
    Random,
}

/// Why a sealed file could not be written or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bytes are not what was sealed under this key.
    #[error("the sealed bytes are damaged, or belong to another key")]
    Damaged,
    /// The system's source of random numbers failed.
    #[error("no random numbers are to be had")]
    Random,
}
