//! Encrypted append-only files.
//!
//! A journal is a folder of numbered segments. Whoever writes begins a new segment, appends frames of many records
//! with one system call each, and rolls to the next segment when one is full; whoever reads follows behind, in
//! this process or another. A frame that was written survives the death of the process; [`Writer::sync`] makes
//! it survive the death of the machine. Everything is encrypted and authenticated with AES-256-GCM, and a change of
//! any byte is noticed. What the records mean is not known here.
//!
//! One folder has at most one writer at a time.

mod error;
mod format;
mod key;
mod reader;
mod sealed;
mod segment;
mod writer;

pub use error::{JournalError, SealedError};
pub use key::Key;
pub use reader::{Batch, Position, PositionParseError, Records, prune, read};
pub use sealed::{open, read_sealed, seal, write_sealed};
pub use writer::{PushError, Writer};
