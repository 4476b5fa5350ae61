//! Parameters and forms: texts in one of the styles of OpenAPI, read by the types that their schemas allow.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    check::Checker,
    findings::{Findings, Place},
    json::{Document, is_number},
    schema::{Rule, Schema, SchemaId, Types},
};
use crate::openapi::percent_decode;

/// A parameter of an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Parameter {
    pub(super) name: Box<str>,
    pub(super) location: Location,
    pub(super) required: bool,
    pub(super) style: Style,
    pub(super) explode: bool,
    pub(super) may_be_empty: bool,
    /// Whether the text is JSON; none when it is written in a style.
    pub(super) is_json: Option<bool>,
    pub(super) schema: Option<SchemaId>,
    pub(super) shape: Shape,
}

/// How a field of a form is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Form {
    pub(super) name: Box<str>,
    pub(super) style: Style,
    pub(super) explode: bool,
    /// Whether objects in it are written in the style, and not as JSON.
    pub(super) is_styled: bool,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Location {
    Path,
    Query,
    Header,
    Cookie,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
}

/// Which types a text may stand for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) types: Types,
    /// Of the items, when it is an array.
    pub(super) items: Types,
    /// When it is an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) properties: Vec<PropertyShape>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PropertyShape {
    pub(super) name: Box<str>,
    pub(super) shape: Shape,
}

/// The parts of a query or form, still encoded.
pub(super) struct Pairs<'q>(Vec<(Cow<'q, str>, &'q str)>);

/// A text that is not written as it has to be.
#[derive(Debug)]
pub(super) struct Unreadable(&'static str);

const NOT_ENCODED: Unreadable = Unreadable("must be percent-encoded UTF-8");

impl Location {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "path" => Self::Path,
            "query" => Self::Query,
            "header" => Self::Header,
            "cookie" => Self::Cookie,
            _ => return None,
        })
    }

    /// The style of parameters that do not say one.
    pub(super) const fn style(self) -> Style {
        match self {
            Self::Path | Self::Header => Style::Simple,
            Self::Query | Self::Cookie => Style::Form,
        }
    }

    const fn part(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

impl Style {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "label" => Self::Label,
            "matrix" => Self::Matrix,
            "form" => Self::Form,
            "spaceDelimited" => Self::SpaceDelimited,
            "pipeDelimited" => Self::PipeDelimited,
            "deepObject" => Self::DeepObject,
            _ => return None,
        })
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self { types: Types::ANY, items: Types::ANY, properties: Vec::new() }
    }
}

impl Shape {
    /// What a schema says about types, as far as that can be told without a value.
    pub(super) fn of(schemas: &[Schema], id: Option<SchemaId>) -> Self {
        let mut shape = Self::default();
        if let Some(id) = id {
            shape.learn(schemas, id, 0, 0);
        }
        shape
    }

    fn learn(&mut self, schemas: &[Schema], id: SchemaId, depth: usize, level: usize) {
        let Some(schema) = usize::try_from(id).ok().and_then(|id| schemas.get(id)) else { return };
        if depth > 8 {
            return;
        }
        self.types = self.types.and(schema.types);
        for rule in &schema.rules {
            match rule {
                Rule::Ref(id) => self.learn(schemas, *id, depth + 1, level),
                Rule::AllOf(ids) => {
                    ids.iter().for_each(|id| self.learn(schemas, *id, depth + 1, level))
                }
                Rule::AnyOf(branches) | Rule::OneOf(branches) => {
                    let mut types = Types::NONE;
                    for id in branches.schemas.iter().take(32) {
                        let mut branch = Self::default();
                        branch.learn(schemas, *id, depth + 2, level);
                        types = types.or(branch.types);
                        if branch.items != Types::ANY {
                            self.items = branch.items;
                        }
                        self.properties.extend(branch.properties);
                    }
                    self.types = self.types.and(types);
                }
                Rule::Array(rules) if level < 2 => {
                    if let Some(items) = rules.items {
                        let mut inner = Self::default();
                        inner.learn(schemas, items, depth + 1, level + 1);
                        self.items = self.items.and(inner.types);
                    }
                }
                Rule::Object(rules) if level < 2 => {
                    for property in &rules.properties {
                        let Some(id) = property.schema else { continue };
                        let mut shape = Self::default();
                        shape.learn(schemas, id, depth + 1, level + 1);
                        self.properties.push(PropertyShape { name: property.name.clone(), shape });
                    }
                }
                _ => {}
            }
        }
    }

    /// What the text most likely is, of what the types allow: a container only if they ask for one.
    const fn is_array(&self) -> bool {
        self.types.has(Types::ARRAY) && !self.types.has(Types::STRING)
    }

    const fn is_object(&self) -> bool {
        self.types.has(Types::OBJECT)
            && !self.types.has(Types::STRING)
            && !self.types.has(Types::ARRAY)
    }

    fn property(&self, name: &str) -> Self {
        let known = self.properties.iter().find(|property| *property.name == *name);
        known.map_or_else(Self::default, |property| property.shape.clone())
    }
}

impl<'q> Pairs<'q> {
    /// The most parts that are looked at.
    const MAX: usize = 10_000;

    pub(super) fn parse(text: &'q str) -> Result<Self, Unreadable> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() >= Self::MAX {
                return Err(Unreadable("has too many parts"));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name, true)?, value));
        }
        Ok(Self(pairs))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl Parameter {
    fn place(&self) -> Place<'_> {
        Place::parameter(self.location.part(), &self.name)
    }

    /// Checks the value of a path, header or cookie parameter.
    pub(super) fn check_text(
        &self,
        text: Option<&str>,
        checker: &mut Checker<'_>,
        findings: &mut Findings,
    ) {
        let Some(text) = text else {
            if self.required {
                findings.add(self.place().write(), "is required");
            }
            return;
        };
        let is_encoded = self.location == Location::Path;
        let read = match self.is_json {
            Some(is_json) => {
                return self.check_content(text, is_encoded, is_json, checker, findings);
            }
            None => self.read_text(text, is_encoded),
        };
        self.check_read(read, checker, findings);
    }

    /// Checks what a query says about the parameter.
    pub(super) fn check_query(
        &self,
        pairs: &Pairs<'_>,
        checker: &mut Checker<'_>,
        findings: &mut Findings,
    ) {
        let mut values = pairs.values(&self.name);
        let first = values.next();
        if let (Some(is_json), Some(text)) = (self.is_json, first) {
            return self.check_content(text, true, is_json, checker, findings);
        }
        let mut document = Document::default();
        let read = if self.style == Style::DeepObject {
            read_deep(pairs, &self.name, &self.shape, &mut document)
        } else if self.shape.is_object() && self.explode {
            read_spread(pairs, &self.shape, &mut document)
        } else {
            match first {
                None => Ok(false),
                Some("") if self.may_be_empty => return,
                Some(first) => {
                    let form =
                        FormStyle { style: self.style, explode: self.explode, shape: &self.shape };
                    form.read(first, values, &mut document).map(|()| true)
                }
            }
        };
        match read {
            Ok(false) if self.required => findings.add(self.place().write(), "is required"),
            Ok(false) => {}
            Ok(true) => self.check_read(Ok(document), checker, findings),
            Err(unreadable) => self.check_read(Err(unreadable), checker, findings),
        }
    }

    fn check_content(
        &self,
        text: &str,
        is_encoded: bool,
        is_json: bool,
        checker: &mut Checker<'_>,
        findings: &mut Findings,
    ) {
        if !is_json {
            return;
        }
        let decoded = if is_encoded {
            decode(text, self.location == Location::Query)
        } else {
            Ok(text.into())
        };
        match decoded {
            Err(Unreadable(message)) => findings.add(self.place().write(), message),
            Ok(text) => match Document::parse_text(&text) {
                Err(_malformed) => findings.add(self.place().write(), "must be well-formed JSON"),
                Ok(document) => self.check_value(&document, checker, findings),
            },
        }
    }

    fn check_read(
        &self,
        read: Result<Document<'_>, Unreadable>,
        checker: &mut Checker<'_>,
        findings: &mut Findings,
    ) {
        match read {
            Err(Unreadable(message)) => findings.add(self.place().write(), message),
            Ok(document) => self.check_value(&document, checker, findings),
        }
    }

    fn check_value(
        &self,
        document: &Document<'_>,
        checker: &mut Checker<'_>,
        findings: &mut Findings,
    ) {
        if let Some(schema) = self.schema {
            checker.find(schema, document.root(), &self.place(), findings);
        }
    }

    /// Reads a path, header or cookie parameter.
    fn read_text(&self, text: &str, is_encoded: bool) -> Result<Document<'static>, Unreadable> {
        let mut document = Document::default();
        let shape = &self.shape;
        let is_container = shape.is_array() || shape.is_object();
        let (text, separator) = match self.style {
            Style::Label => {
                let text = text.strip_prefix('.').ok_or(Unreadable("must begin with a dot"))?;
                let is_dotted = self.explode || !text.contains(',');
                (text, if is_dotted { '.' } else { ',' })
            }
            Style::Matrix => {
                let text =
                    text.strip_prefix(';').ok_or(Unreadable("must begin with a semicolon"))?;
                if self.explode && is_container {
                    self.read_matrix_parts(text, &mut document)?;
                    return Ok(document);
                }
                let value = text.strip_prefix(&*self.name).and_then(|rest| match rest {
                    "" => Some(""),
                    rest => rest.strip_prefix('='),
                });
                (value.ok_or(Unreadable("must be named"))?, ',')
            }
            _ => (text, ','),
        };
        if !is_container {
            push_scalar(&mut document, &decode_part(text, is_encoded)?, shape.types);
        } else if shape.is_array() {
            let opened = document.open_array();
            let parts = text.split(separator).filter(|_| !text.is_empty());
            let mut count = 0;
            for part in parts {
                push_scalar(&mut document, &decode_part(part, is_encoded)?, shape.items);
                count += 1;
            }
            document.close(opened, count);
        } else {
            let parts = text.split(separator).filter(|_| !text.is_empty());
            let pairs = if self.explode { named_parts(parts) } else { alternating_parts(parts)? };
            push_object(&mut document, shape, &pairs, |text| decode_part(text, is_encoded))?;
        }
        Ok(document)
    }

    /// Reads `;a=1;a=2`, where every part of an array has the parameter's name, or `;R=100;G=200`.
    fn read_matrix_parts(&self, text: &str, document: &mut Document<'_>) -> Result<(), Unreadable> {
        let pairs = named_parts(text.split(';'));
        if self.shape.is_object() {
            return push_object(document, &self.shape, &pairs, |text| decode(text, false));
        }
        if pairs.iter().any(|(name, _)| **name != *self.name) {
            return Err(Unreadable("must be named"));
        }
        let opened = document.open_array();
        let count = pairs.len();
        for (_, value) in pairs {
            push_scalar(document, &decode(value, false)?, self.shape.items);
        }
        document.close(opened, count);
        Ok(())
    }
}

/// How a value stands in a query or form.
pub(super) struct FormStyle<'s> {
    pub(super) style: Style,
    pub(super) explode: bool,
    pub(super) shape: &'s Shape,
}

impl FormStyle<'_> {
    /// Reads a value that is there once or several times under its name.
    pub(super) fn read<'q>(
        &self,
        first: &'q str,
        rest: impl Iterator<Item = &'q str>,
        document: &mut Document<'_>,
    ) -> Result<(), Unreadable> {
        let mut rest = rest.peekable();
        let is_array = self.shape.is_array();
        if is_array && self.explode {
            let opened = document.open_array();
            let mut count = 0;
            let is_empty = first.is_empty() && rest.peek().is_none();
            for value in std::iter::once(first).chain(rest).filter(|_| !is_empty) {
                push_scalar(document, &decode(value, true)?, self.shape.items);
                count += 1;
            }
            document.close(opened, count);
            return Ok(());
        }
        if rest.peek().is_some() {
            return Err(Unreadable("must not be there more than once"));
        }
        if !is_array && !self.shape.is_object() {
            push_scalar(document, &decode(first, true)?, self.shape.types);
            return Ok(());
        }
        let parts = self.split(first);
        if is_array {
            let opened = document.open_array();
            for part in &parts {
                push_scalar(document, &decode(part, true)?, self.shape.items);
            }
            document.close(opened, parts.len());
            return Ok(());
        }
        let pairs = alternating_parts(parts.into_iter())?;
        push_object(document, self.shape, &pairs, |text| decode(text, true))
    }

    /// Delimiters count before anything is decoded, so that items may contain them.
    fn split<'q>(&self, text: &'q str) -> Vec<&'q str> {
        if text.is_empty() {
            return Vec::new();
        }
        match self.style {
            Style::SpaceDelimited => {
                text.split("%20").flat_map(|part| part.split(['+', ' '])).collect()
            }
            Style::PipeDelimited => text
                .split("%7C")
                .flat_map(|part| part.split("%7c"))
                .flat_map(|part| part.split('|'))
                .collect(),
            _ => text.split(',').collect(),
        }
    }
}

/// Reads `name[key]=value`; false if there is none.
fn read_deep(
    pairs: &Pairs<'_>,
    name: &str,
    shape: &Shape,
    document: &mut Document<'_>,
) -> Result<bool, Unreadable> {
    let key_of = |full: &str| {
        let key = full.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
        Some(key.to_owned())
    };
    let keys: Vec<String> = pairs.names().filter_map(key_of).collect();
    read_members(pairs, &keys, |key| format!("{name}[{key}]"), shape, document)
}

/// Reads an object whose properties are parameters of their own; false if there is none.
fn read_spread(
    pairs: &Pairs<'_>,
    shape: &Shape,
    document: &mut Document<'_>,
) -> Result<bool, Unreadable> {
    let is_known = |name: &&str| shape.properties.iter().any(|property| *property.name == **name);
    let keys: Vec<String> = pairs.names().filter(is_known).map(str::to_owned).collect();
    read_members(pairs, &keys, str::to_owned, shape, document)
}

fn read_members(
    pairs: &Pairs<'_>,
    keys: &[String],
    full_name: impl Fn(&str) -> String,
    shape: &Shape,
    document: &mut Document<'_>,
) -> Result<bool, Unreadable> {
    let opened = document.open_object();
    let mut seen: Vec<&str> = Vec::new();
    for key in keys {
        if seen.contains(&key.as_str()) {
            continue;
        }
        seen.push(key);
        let shape = shape.property(key);
        let full_name = full_name(key);
        let mut values = pairs.values(&full_name);
        let Some(first) = values.next() else { continue };
        document.push_string(key.clone());
        FormStyle { style: Style::Form, explode: true, shape: &shape }
            .read(first, values, document)?;
    }
    document.close(opened, seen.len());
    Ok(!seen.is_empty())
}

/// `R=100,G=200`
fn named_parts<'p>(parts: impl Iterator<Item = &'p str>) -> Vec<(&'p str, &'p str)> {
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect()
}

/// `R,100,G,200`
fn alternating_parts<'p>(
    parts: impl Iterator<Item = &'p str>,
) -> Result<Vec<(&'p str, &'p str)>, Unreadable> {
    let mut parts = parts;
    let mut pairs = Vec::new();
    while let Some(key) = parts.next() {
        let value = parts.next().ok_or(Unreadable("must have a value for every key"))?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn push_object<'p>(
    document: &mut Document<'_>,
    shape: &Shape,
    pairs: &[(&'p str, &'p str)],
    read: impl Fn(&'p str) -> Result<Cow<'p, str>, Unreadable>,
) -> Result<(), Unreadable> {
    let opened = document.open_object();
    let mut seen: Vec<String> = Vec::new();
    for (key, value) in pairs {
        let key = read(key)?.into_owned();
        if seen.contains(&key) {
            return Err(Unreadable("must not have a key twice"));
        }
        document.push_string(key.clone());
        push_scalar(document, &read(value)?, shape.property(&key).types);
        seen.push(key);
    }
    document.close(opened, seen.len());
    Ok(())
}

/// Adds a text as the first of number, boolean and null that it can be and may be; otherwise as what it is.
pub(super) fn push_scalar(document: &mut Document<'_>, text: &str, types: Types) {
    // A schema that says nothing about types takes texts as texts.
    let is_open = types == Types::ANY;
    if !is_open && types.has(Types::INTEGER) && is_number(text) {
        return document.push_number(text.to_owned());
    }
    match text {
        "true" if !is_open && types.has(Types::BOOLEAN) => document.push_bool(true),
        "false" if !is_open && types.has(Types::BOOLEAN) => document.push_bool(false),
        "" | "null" if types.has(Types::NULL) && !types.has(Types::STRING) => document.push_null(),
        _ => document.push_string(text.to_owned()),
    }
}

/// A part of a path, which is percent-encoded, or of a header field, which is not.
fn decode_part(text: &str, is_encoded: bool) -> Result<Cow<'_, str>, Unreadable> {
    if is_encoded { decode(text, false) } else { Ok(Cow::Borrowed(text.trim())) }
}

/// Decodes percent-encoding, and `+` for a blank where queries have it.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> Result<Cow<'_, str>, Unreadable> {
    if plus_is_blank && text.contains('+') {
        let spaced = text.replace('+', " ");
        return Ok(Cow::Owned(percent_decode(&spaced).ok_or(NOT_ENCODED)?.into_owned()));
    }
    percent_decode(text).ok_or(NOT_ENCODED)
}

impl Unreadable {
    pub(super) const fn message(&self) -> &'static str {
        self.0
    }
}
