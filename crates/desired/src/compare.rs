//! What differs between two values, entry by entry.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// A value that is to change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Where, such as `limits[0].requests`.
    pub field: String,
    /// What is there; absent when there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What should be there; absent when nothing should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Longer values are not shown whole.
const SHOWN: usize = 60;

/// What differs between two values.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect(String::new(), Some(before), Some(after), &mut found);
    found
}

fn collect(
    field: String,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let below = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                collect(below, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                collect(format!("{field}[{index}]"), old.get(index), new.get(index), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            found.push(Difference { field, before: before.cloned(), after: after.cloned() });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, before, after } = self;
        match (before, after) {
            (None, Some(after)) => write!(out, "{field}: {}", shown(after)),
            (Some(before), None) => write!(out, "{field}: {} is taken away", shown(before)),
            (before, after) => {
                let [before, after] = [before, after].map(|value| value.as_ref().map(shown));
                let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
                write!(out, "{field}: {before} → {after}")
            }
        }
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && text.chars().count() <= SHOWN {
        return text;
    }
    let start: String = line.chars().take(SHOWN).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_field() {
        let before =
            json!({ "name": "Beds", "limits": [{ "requests": 600 }], "quota": { "requests": 1 } });
        let after = json!({ "name": "Beds", "limits": [{ "requests": 900 }, { "concurrent": 5 }] });
        let shown: Vec<_> = differences(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "limits[0].requests: 600 → 900",
                "limits[1]: {\"concurrent\":5}",
                "quota: {\"requests\":1} is taken away",
            ]
        );
        assert!(differences(&before, &before).is_empty());
    }
}
