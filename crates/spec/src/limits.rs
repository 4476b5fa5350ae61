//! How much a document may ask for.
//!
//! Nothing in this crate grows without one of these bounds.

/// Bounds on a document and on what is said about it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest document, in bytes.
    pub document_bytes: usize,
    /// Deepest nesting of arrays and objects; more than 256 counts as 256.
    pub depth: usize,
    /// Most values in a document, every use of a YAML alias counted as a copy.
    pub values: usize,
    /// Most issues in a report, besides the one that says there were more.
    pub issues: usize,
    /// Longest converted document and longest text of a summary, in bytes.
    pub output_bytes: usize,
}

impl Limits {
    /// The deepest nesting that is ever accepted, so that walks may recurse safely.
    const DEEPEST: usize = 256;

    pub(crate) fn effective_depth(&self) -> usize {
        self.depth.min(Self::DEEPEST)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 10 * 1024 * 1024,
            depth: 128,
            values: 2_000_000,
            issues: 1_000,
            output_bytes: 64 * 1024 * 1024,
        }
    }
}
