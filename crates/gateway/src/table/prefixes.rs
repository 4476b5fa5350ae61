//! Which of several prefixes of a path is the longest.

use std::collections::HashMap;

use compact_str::CompactString;

/// Values by prefixes of paths, which end where segments do.
pub(super) struct Prefixes<T> {
    by_prefix: HashMap<CompactString, T, ahash::RandomState>,
    /// The most segments that one of them has.
    depth: usize,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { by_prefix: HashMap::default(), depth: 0 }
    }
}

impl<T> Prefixes<T> {
    /// Puts a value under a prefix, with or without a slash at its end; gives the one that was there.
    pub(super) fn insert(&mut self, prefix: &str, value: T) -> Option<T> {
        let prefix = prefix.trim_end_matches('/');
        let depth = prefix.bytes().filter(|byte| *byte == b'/').count();
        self.depth = self.depth.max(depth);
        self.by_prefix.insert(prefix.into(), value)
    }

    /// The value under the longest prefix of `path`.
    pub(super) fn longest(&self, path: &str) -> Option<&T> {
        if self.by_prefix.is_empty() {
            return None;
        }
        // The end of the prefix with `depth` segments, or of the whole path when it has fewer.
        let mut end = path
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'/')
            .map(|(at, _)| at)
            .nth(self.depth)
            .unwrap_or(path.len());
        loop {
            let prefix = path.get(..end)?;
            if let Some(value) = self.by_prefix.get(prefix) {
                return Some(value);
            }
            end = prefix.rfind('/')?;
        }
    }
}
