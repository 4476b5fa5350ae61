//! Where a walk stands in a document, as a list on the stack, and how that is written: a JSON
//! path of RFC 9535, with `.name` where that is allowed and `['…']` elsewhere.

use std::fmt::Write;

/// The way from the root to a value.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// A path written before; the root is `$`.
    Start(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Start("$") };

    pub(crate) fn starting_at(written: &'a str) -> Self {
        Self { parent: None, step: Step::Start(written) }
    }

    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) fn write(&self) -> String {
        let mut steps = Vec::new();
        let mut here = Some(self);
        while let Some(path) = here {
            steps.push(path.step);
            here = path.parent;
        }
        let mut written = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Start(start) => written.push_str(start),
                Step::Key(key) => push_key(&mut written, key),
                // Writing to a string cannot fail.
                Step::Index(index) => drop(write!(written, "[{index}]")),
            }
        }
        written
    }
}

/// Appends the step to a member.
pub(crate) fn push_key(written: &mut String, key: &str) {
    let is_name_start = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let is_short = key.starts_with(is_name_start)
        && key.chars().all(|c| is_name_start(c) || c.is_ascii_digit());
    if is_short {
        written.push('.');
        written.push_str(key);
        return;
    }
    written.push_str("['");
    for c in key.chars() {
        match c {
            '\'' => written.push_str("\\'"),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            c if u32::from(c) < 0x20 => drop(write!(written, "\\u{:04x}", u32::from(c))),
            c => written.push(c),
        }
    }
    written.push_str("']");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_everything_else_is_quoted() {
        let paths = Path::ROOT.key("paths");
        let route = paths.key("/it's/{id}");
        let list = route.key("parameters");
        assert_eq!(
            list.index(2).key("$ref").write(),
            r"$.paths['/it\'s/{id}'].parameters[2]['$ref']"
        );
    }
}
