//! Schemas as rows of a table, and as examples.

use serde_json::{Map, Value};

use super::{Reference, plain};

/// How deep, and how many rows, a schema is shown.
const DEPTH: usize = 6;
const ROWS: usize = 250;

/// One property.
pub(crate) struct Row {
    /// How far it is from the outermost, beginning with 0.
    pub(crate) depth: usize,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) is_required: bool,
    pub(crate) description: String,
    pub(crate) notes: String,
}

/// The properties of a schema, outermost first, each followed by its own.
pub(crate) fn rows(reference: &Reference, schema: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    add(reference, schema, 0, &mut rows);
    rows
}

fn add(reference: &Reference, schema: &Value, depth: usize, rows: &mut Vec<Row>) {
    if depth >= DEPTH || rows.len() >= ROWS {
        return;
    }
    let Some(schema) = reference.follow(schema) else { return };
    if let Some(items) = schema.get("items") {
        return add(reference, items, depth, rows);
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten().take(20) {
        add(reference, part, depth, rows);
    }
    for kind in ["oneOf", "anyOf"] {
        for (number, part) in
            (1..).zip(schema.get(kind).and_then(Value::as_array).into_iter().flatten().take(20))
        {
            if rows.len() >= ROWS {
                return;
            }
            let shown = reference.follow(part).unwrap_or(part);
            rows.push(Row {
                depth,
                name: format!("variant {number}"),
                kind: self::kind(reference, part),
                is_required: false,
                description: one_line(shown.get("description")),
                notes: String::new(),
            });
            add(reference, part, depth + 1, rows);
        }
    }
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, property) in
        schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        if rows.len() >= ROWS {
            return;
        }
        let shown = reference.follow(property).unwrap_or(property);
        rows.push(Row {
            depth,
            name: name.clone(),
            kind: kind(reference, property),
            is_required: required.contains(&name.as_str()),
            description: one_line(property.get("description").or_else(|| shown.get("description"))),
            notes: notes(shown),
        });
        add(reference, property, depth + 1, rows);
    }
}

/// What a schema admits, in a word or two.
pub(super) fn kind(reference: &Reference, schema: &Value) -> String {
    let Some(schema) = reference.follow(schema) else { return "any".to_owned() };
    let format = schema.get("format").and_then(Value::as_str);
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "array" => {
            let of = schema.get("items").and_then(|items| reference.follow(items));
            let of = of.and_then(|of| of.get("type")).and_then(Value::as_str).unwrap_or("any");
            format!("list of {of}")
        }
        Some(Value::String(kind)) => match format {
            Some(format) => format!("{kind} ({format})"),
            None => kind.clone(),
        },
        Some(Value::Array(kinds)) => {
            let kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
            kinds.join(" or ")
        }
        _ if schema.get("properties").is_some() => "object".to_owned(),
        _ if schema.get("oneOf").is_some() || schema.get("anyOf").is_some() => {
            "one of several".to_owned()
        }
        _ => "any".to_owned(),
    }
}

/// The bounds of a schema, in words.
pub(super) fn notes(schema: &Value) -> String {
    let mut notes = Vec::new();
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        let shown: Vec<_> = all.iter().take(20).map(plain).collect();
        let more = if all.len() > shown.len() { ", …" } else { "" };
        notes.push(format!("one of {}{more}", shown.join(", ")));
    }
    for (name, words) in [
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
        ("minLength", "characters, at least"),
        ("maxLength", "characters, at most"),
        ("minItems", "entries, at least"),
        ("maxItems", "entries, at most"),
        ("pattern", "matches"),
        ("default", "otherwise"),
    ] {
        match schema.get(name) {
            None | Some(Value::Bool(_) | Value::Object(_) | Value::Array(_)) => {}
            Some(value) => notes.push(format!("{words} {}", plain(value))),
        }
    }
    for (name, word) in [
        ("readOnly", "only in answers"),
        ("writeOnly", "only in requests"),
        ("deprecated", "deprecated"),
    ] {
        if schema.get(name) == Some(&Value::Bool(true)) {
            notes.push(word.to_owned());
        }
    }
    notes.join("; ")
}

fn one_line(text: Option<&Value>) -> String {
    let text = text.and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

/// A value that a schema admits, as far as its types say.
pub(crate) fn example(reference: &Reference, schema: &Value) -> Value {
    let mut left = ROWS;
    made(reference, schema, 0, &mut left)
}

fn made(reference: &Reference, schema: &Value, depth: usize, left: &mut usize) -> Value {
    let Some(schema) = reference.follow(schema).filter(|_| depth < DEPTH && *left > 0) else {
        return Value::Null;
    };
    *left -= 1;
    let given =
        schema.get("example").or_else(|| schema.get("const")).or_else(|| schema.get("default"));
    let given = given.or_else(|| schema.get("examples").and_then(|all| all.get(0)));
    if let Some(given) = given.or_else(|| schema.get("enum").and_then(|all| all.get(0))) {
        return given.clone();
    }
    for kind in ["oneOf", "anyOf"] {
        if let Some(first) = schema.get(kind).and_then(|all| all.get(0)) {
            return made(reference, first, depth + 1, left);
        }
    }
    let mut object = Map::new();
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        if let Value::Object(more) = made(reference, part, depth + 1, left) {
            object.extend(more);
        }
    }
    for (name, property) in
        schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        let is_answer_only = property.get("readOnly") == Some(&Value::Bool(true));
        if !is_answer_only {
            object.insert(name.clone(), made(reference, property, depth + 1, left));
        }
    }
    if !object.is_empty() {
        return Value::Object(object);
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    match (kind, schema.get("format").and_then(Value::as_str)) {
        (Some("array"), _) => {
            let item =
                made(reference, schema.get("items").unwrap_or(&Value::Null), depth + 1, left);
            Value::Array(vec![item])
        }
        (Some("object"), _) => Value::Object(object),
        (Some("integer"), _) => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        (Some("number"), _) => schema.get("minimum").cloned().unwrap_or_else(|| 1.5.into()),
        (Some("boolean"), _) => true.into(),
        (Some("string"), Some("date")) => "2026-01-31".into(),
        (Some("string"), Some("date-time")) => "2026-01-31T09:30:00Z".into(),
        (Some("string"), Some("uuid")) => "3f2c1b0a-1111-4222-8333-444455556666".into(),
        (Some("string"), Some("email")) => "someone@example.org".into(),
        (Some("string"), Some("uri")) => "https://example.org/".into(),
        (Some("string"), _) => "text".into(),
        _ => Value::Null,
    }
}
