//! YAML 1.2 from parser events: one document, scalar keys, aliases within bounds, merge keys
//! followed (and noted, because YAML 1.2 has none).

use std::borrow::Cow;

use granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};

use crate::{
    issue::ReadError,
    limits::Limits,
    node::{Builder, Built},
    read::{Plain, Source, Syntax, classify_plain},
};

/// Reads the only document of a text.
pub(super) fn read<'s>(
    text: &'s str,
    builder: Builder<'s>,
    limits: &Limits,
) -> Result<Source<'s>, ReadError> {
    refuse_control_characters(text)?;
    let mut reader = Reader {
        builder,
        anchors: Vec::new(),
        open_anchors: Vec::new(),
        merge_keys: Vec::new(),
        foreign_tags: Vec::new(),
        documents: 0,
    };
    let mut parser: Parser<'s, StrInput<'s>> =
        Parser::new_from_str_with_options(text, options(limits));
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| fault(&error, text.len(), limits))?;
        reader.event(event, &span)?;
    }
    if !reader.builder.is_complete() {
        return Err(ReadError::syntax(0, "the document is empty"));
    }
    let Reader { builder, merge_keys, foreign_tags, .. } = reader;
    let tree = builder.finish().ok_or_else(|| ReadError::syntax(0, "the document is empty"))?;
    Ok(Source { syntax: Syntax::Yaml, tree, merge_keys, foreign_tags })
}

fn options(limits: &Limits) -> Options {
    let depth = limits.effective_depth() + 1;
    let mut options = granit_parser::options! {
        flow_nesting_limit: depth,
        block_nesting_limit: depth,
    };
    options.set_emit_comments(false);
    options
}

fn fault(error: &ScanError, end: usize, limits: &Limits) -> ReadError {
    let offset = error.marker().byte_offset().unwrap_or(end);
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return ReadError {
            rule: "too-deep",
            message: format!(
                "arrays and objects are nested more than {} levels",
                limits.effective_depth()
            ),
            offset,
        };
    }
    ReadError::syntax(offset, format!("the YAML is broken here: {}", error.info()))
}

/// YAML has no control characters but tab and line breaks, and the parser ends at a NUL.
fn refuse_control_characters(text: &str) -> Result<(), ReadError> {
    let is_refused = |byte: &u8| matches!(byte, 0..=0x08 | 0x0B | 0x0C | 0x0E..=0x1F | 0x7F);
    match text.as_bytes().iter().position(is_refused) {
        None => Ok(()),
        Some(offset) => Err(ReadError::syntax(offset, "a control character is not allowed here")),
    }
}

struct Reader<'s> {
    builder: Builder<'s>,
    anchors: Vec<Option<Built>>,
    /// The anchor of each open array and object, 0 where there is none.
    open_anchors: Vec<usize>,
    merge_keys: Vec<usize>,
    foreign_tags: Vec<usize>,
    documents: usize,
}

impl<'s> Reader<'s> {
    fn event(&mut self, event: Event<'s>, span: &Span) -> Result<(), ReadError> {
        let start = span.start.byte_offset().unwrap_or(0);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(ReadError::syntax(start, "a second YAML document starts here"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_deref(), start)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_as_key(start)?;
                self.note_tag(tag.as_deref(), "seq", start);
                self.builder.open_array(start)?;
                self.open_anchors.push(anchor);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_as_key(start)?;
                self.note_tag(tag.as_deref(), "map", start);
                self.builder.open_object(start)?;
                self.open_anchors.push(anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let anchor = self.open_anchors.pop().unwrap_or(0);
                if let Some(built) = self.builder.close()? {
                    self.remember(anchor, built);
                }
            }
            Event::Alias(anchor) => self.alias(anchor, start)?,
            // Ends and comments; the options ask for nothing else.
            _ => {}
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: Cow<'s, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        start: usize,
    ) -> Result<(), ReadError> {
        if self.builder.expects_key() {
            let is_merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
            if is_merge {
                self.merge_keys.push(start);
            }
            if anchor != 0 {
                let built = self.builder.detached(start, text.clone());
                self.remember(anchor, built);
            }
            return self.builder.key(start, text, is_merge);
        }
        let plain = match tag {
            None if style == ScalarStyle::Plain => classify_plain(&text),
            None => Plain::String,
            Some(tag) => self.tagged(tag, &text, start)?,
        };
        let built = match plain {
            Plain::Null => self.builder.null(start)?,
            Plain::Bool(value) => self.builder.bool(start, value)?,
            Plain::Number => self.builder.number(start, text)?,
            Plain::String => self.builder.string(start, text)?,
        };
        self.remember(anchor, built);
        Ok(())
    }

    fn tagged(&mut self, tag: &Tag, text: &str, start: usize) -> Result<Plain, ReadError> {
        let expected = match tag.core_suffix() {
            Some("str") => return Ok(Plain::String),
            Some("null") => Plain::Null,
            Some("bool") => Plain::Bool(true),
            Some("int" | "float") => Plain::Number,
            _ => {
                // `!` alone says that a scalar is a string.
                if tag.handle() != "" || tag.suffix() != "!" {
                    self.foreign_tags.push(start);
                }
                return Ok(Plain::String);
            }
        };
        let found = classify_plain(text);
        if std::mem::discriminant(&found) == std::mem::discriminant(&expected) {
            return Ok(found);
        }
        Err(ReadError::syntax(start, "the value is not what its tag says"))
    }

    fn alias(&mut self, anchor: usize, start: usize) -> Result<(), ReadError> {
        let Some(built) = self.anchors.get(anchor).copied().flatten() else {
            return Err(ReadError::syntax(start, "an alias stands inside the value it repeats"));
        };
        if !self.builder.expects_key() {
            return self.builder.alias(start, built).map(drop);
        }
        match self.builder.text(built) {
            Some(text) => self.builder.key(start, text, false),
            None => self.refuse_as_key(start),
        }
    }

    fn remember(&mut self, anchor: usize, built: Built) {
        if anchor == 0 {
            return;
        }
        if self.anchors.len() <= anchor {
            self.anchors.resize(anchor + 1, None);
        }
        self.anchors[anchor] = Some(built);
    }

    fn refuse_as_key(&self, start: usize) -> Result<(), ReadError> {
        if self.builder.expects_key() {
            return Err(ReadError::syntax(start, "a key must be a single value"));
        }
        Ok(())
    }

    fn note_tag(&mut self, tag: Option<&Tag>, expected: &str, start: usize) {
        if tag.is_some_and(|tag| tag.core_suffix() != Some(expected)) {
            self.foreign_tags.push(start);
        }
    }
}
