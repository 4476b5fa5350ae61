//! The file's text, and where in it something stands.

use std::{fmt, path::PathBuf};

use serde_path_to_error::{Path, Segment};
use spec::{Limits, Part, Place, Step};

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    /// The folder that `${file:}` starts from.
    pub folder: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Something that is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What the file is called.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Where in the structure, such as `tenants.north-clinic.apis`.
    pub path: String,
    /// What is wrong, in plain words.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, path, message } = self;
        write!(out, "{file}:{line}:{column}: ")?;
        if !path.is_empty() {
            write!(out, "{path}: ")?;
        }
        out.write_str(message)
    }
}

/// Larger than a single specification: a file may hold a thousand of them.
pub(crate) fn limits() -> Limits {
    Limits {
        document_bytes: 256 * 1024 * 1024,
        values: 10_000_000,
        output_bytes: 512 * 1024 * 1024,
        ..Limits::default()
    }
}

/// A step down the structure of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Below {
    Key(String),
    Index(usize),
}

/// The steps of a path; what cannot be named ends it.
pub(crate) fn steps(path: &Path) -> Vec<Below> {
    path.iter()
        .map_while(|segment| match segment {
            Segment::Seq { index } => Some(Below::Index(*index)),
            Segment::Map { key } => Some(Below::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

impl Source {
    /// A mistake at the value, or the key, that a path leads to.
    pub(crate) fn mistake(&self, path: &[Below], part: Part, message: String) -> Mistake {
        let down: Vec<Step<'_>> = path
            .iter()
            .map(|below| match below {
                Below::Key(key) => Step::Key(key),
                Below::Index(index) => Step::Index(*index),
            })
            .collect();
        let place = spec::place_of(&self.bytes, &limits(), &down, part);
        let Place { line, column } = place.unwrap_or(Place { line: 1, column: 1 });
        let mut shown = String::new();
        for below in path {
            match below {
                Below::Key(key) if shown.is_empty() => shown.push_str(key),
                Below::Key(key) => {
                    shown.push('.');
                    shown.push_str(key);
                }
                Below::Index(index) => shown.push_str(&format!("[{index}]")),
            }
        }
        Mistake { file: self.name.clone(), line, column, path: shown, message }
    }
}
