//! What does not fit, and where. Nothing that the client sent is ever part of it: places are named by what the
//! specification declares, everything else by `*` or its position.

use std::{borrow::Cow, fmt::Write};

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `/body` and a JSON pointer, `/query/NAME`, `/header/NAME`, `/cookie/NAME` or `/path/NAME`. A key that the
    /// specification does not name is written as `*`.
    pub field: String,
    /// The rule that is broken.
    pub message: Cow<'static, str>,
}

/// What was found in a request, at most [`Findings::MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    found: Vec<Finding>,
}

impl Findings {
    /// The most findings that are told.
    pub const MAX: usize = 20;

    /// Adds a finding while there is room.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<Cow<'static, str>>) {
        if !self.is_full() {
            self.found.push(Finding { field: field.into(), message: message.into() });
        }
    }

    /// Whether no more are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.found.len() >= Self::MAX
    }

    /// Whether everything fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.found
    }

    /// Adds what was found elsewhere, while there is room.
    pub fn append(&mut self, other: Self) {
        let room = Self::MAX - self.found.len();
        self.found.extend(other.found.into_iter().take(room));
    }
}

/// The way from a part of the request to a value, as a list on the stack.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    /// Part of the request, and the name of a parameter.
    Part(&'static str, &'p str),
    /// A key that the specification names.
    Name(&'p str),
    /// A key that only the client knows.
    Unnamed,
    Index(usize),
}

impl<'p> Place<'p> {
    pub(super) const BODY: Place<'static> = Place { parent: None, step: Step::Part("body", "") };

    pub(super) fn parameter(part: &'static str, name: &'p str) -> Self {
        Self { parent: None, step: Step::Part(part, name) }
    }

    pub(super) fn name(&'p self, name: &'p str) -> Place<'p> {
        Place { parent: Some(self), step: Step::Name(name) }
    }

    pub(super) fn unnamed(&'p self) -> Place<'p> {
        Place { parent: Some(self), step: Step::Unnamed }
    }

    pub(super) fn index(&'p self, index: usize) -> Place<'p> {
        Place { parent: Some(self), step: Step::Index(index) }
    }

    pub(super) fn write(&self) -> String {
        let mut steps = Vec::new();
        let mut here = Some(self);
        while let Some(place) = here {
            steps.push(place.step);
            here = place.parent;
        }
        let mut written = String::new();
        for step in steps.into_iter().rev() {
            written.push('/');
            match step {
                Step::Part(part, "") => written.push_str(part),
                Step::Part(part, name) => {
                    written.push_str(part);
                    written.push('/');
                    push_token(&mut written, name);
                }
                Step::Name(name) => push_token(&mut written, name),
                Step::Unnamed => written.push('*'),
                // Writing to a string cannot fail.
                Step::Index(index) => drop(write!(written, "{index}")),
            }
        }
        written
    }
}

fn push_token(written: &mut String, name: &str) {
    for c in name.chars() {
        match c {
            '~' => written.push_str("~0"),
            '/' => written.push_str("~1"),
            c => written.push(c),
        }
    }
}
