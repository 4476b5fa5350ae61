//! From a text to what it asks for: references resolved, every unknown field named with its place.

use serde_json::Value;
use spec::{Issue, Part, Syntax};

use crate::{
    document::{Below, Mistake, Source, limits, steps},
    file::Desired,
    references::{self, Lookup},
};

/// More mistakes than this are not listed.
const MISTAKES_MAX: usize = 50;
/// How much a name must look like a known one to be taken for it.
const ALIKE: f64 = 0.75;

/// Reads a file; `variable` reads the environment.
///
/// # Errors
///
/// Everything that is wrong with its syntax or references; then everything that is wrong with its content.
pub fn read(
    source: &Source,
    variable: fn(&str) -> Option<String>,
) -> Result<Desired, Vec<Mistake>> {
    let json = spec::convert(&source.bytes, &limits(), Syntax::Json).map_err(|issue| {
        let Issue { message, line, column, .. } = issue;
        vec![Mistake { file: source.name.clone(), line, column, path: String::new(), message }]
    })?;
    let mut value: Value = serde_json::from_str(&json)
        .map_err(|error| vec![source.mistake(&[], Part::Value, error.to_string())])?;
    drop(json);
    let lookup = Lookup { folder: &source.folder, variable };
    let mut mistakes = Vec::new();
    resolve(&mut value, &mut Vec::new(), source, lookup, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let desired = loop {
        let error = match serde_path_to_error::deserialize::<_, Desired>(&value) {
            Ok(desired) => break Some(desired),
            Err(error) => error,
        };
        if mistakes.len() >= MISTAKES_MAX {
            break None;
        }
        let path = steps(error.path());
        let Some(taken) = note(source, &mut value, path, &error.inner().to_string(), &mut mistakes)
        else {
            break None;
        };
        // What is known now is taken out, so that the next mistake comes to light.
        if !take_out(&mut value, &taken) {
            break None;
        }
    };
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    desired.filter(|_| mistakes.is_empty()).ok_or(mistakes)
}

/// Notes a mistake, and says what has to be taken out before the next one can be found.
fn note(
    source: &Source,
    value: &mut Value,
    mut path: Vec<Below>,
    said: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<Below>> {
    if let Some(unknown) = quoted_after(said, "unknown field `") {
        // The path ends at the object or at the field itself, whichever the reader had begun.
        let field = Below::Key(unknown.to_owned());
        if path.last() != Some(&field) || find(value, &path).is_none() {
            path.push(field);
        }
        mistakes.push(source.mistake(&path, Part::Key, with_suggestion(said)));
        return Some(path);
    }
    let part = match quoted_after(said, "missing field `") {
        None => Part::Value,
        Some(missing) => {
            let mistake = source.mistake(&path, Part::Key, String::new());
            // A field that is wrong or misspelt was taken out, and is not missing.
            let within = |other: &Mistake| {
                other.path.strip_prefix(mistake.path.as_str()).is_some_and(|below| {
                    let below = below.trim_start_matches('.');
                    below == missing
                        || (!below.contains(['.', '[']) && likeness(below, missing) >= ALIKE)
                })
            };
            if mistakes.iter().any(within) {
                return Some(path);
            }
            Part::Key
        }
    };
    mistakes.push(source.mistake(&path, part, with_suggestion(said)));
    (!path.is_empty()).then_some(path)
}

/// Takes an entry out of the object that it is in; says whether it was there. Items of lists stay, because those behind
/// them would be somewhere else then.
fn take_out(value: &mut Value, path: &[Below]) -> bool {
    let Some((Below::Key(key), above)) = path.split_last() else { return false };
    let entries = find(value, above).and_then(Value::as_object_mut);
    entries.is_some_and(|entries| entries.remove(key).is_some())
}

fn resolve(
    value: &mut Value,
    path: &mut Vec<Below>,
    source: &Source,
    lookup: Lookup<'_>,
    mistakes: &mut Vec<Mistake>,
) {
    match value {
        Value::String(text) => match references::resolve(text, lookup) {
            Ok(resolved) => *text = resolved,
            Err(message) if mistakes.len() < MISTAKES_MAX => {
                mistakes.push(source.mistake(path, Part::Value, message));
            }
            Err(_) => {}
        },
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(Below::Index(index));
                resolve(item, path, source, lookup, mistakes);
                path.pop();
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries.iter_mut() {
                path.push(Below::Key(key.clone()));
                resolve(item, path, source, lookup, mistakes);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn find<'v>(value: &'v mut Value, path: &[Below]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, below| match below {
        Below::Key(key) => value.get_mut(key),
        Below::Index(index) => value.get_mut(index),
    })
}

/// What a message quotes after its first words.
fn quoted_after<'s>(said: &'s str, words: &str) -> Option<&'s str> {
    said.strip_prefix(words)?.split_once('`').map(|(quoted, _)| quoted)
}

fn likeness(given: &str, known: &str) -> f64 {
    strsim::jaro_winkler(&given.to_lowercase(), &known.to_lowercase())
}

/// "unknown field `ownr`, expected one of `description`, `owner`" becomes "unknown field `ownr`; did you mean `owner`?".
fn with_suggestion(said: &str) -> String {
    let mut quoted = said.split('`').skip(1).step_by(2);
    let is_unknown = said.starts_with("unknown field") || said.starts_with("unknown variant");
    let (Some(given), true) = (quoted.next(), is_unknown) else { return said.to_owned() };
    let best = quoted
        .max_by(|one, other| likeness(given, one).total_cmp(&likeness(given, other)))
        .filter(|known| likeness(given, known) >= ALIKE);
    match best {
        Some(known) => {
            let (what, _) = said.split_once(',').unwrap_or((said, ""));
            format!("{what}; did you mean `{known}`?")
        }
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let source = Source {
            name: "clinic.yaml".to_owned(),
            folder: "/nonexistent".into(),
            bytes: text.as_bytes().to_vec(),
        };
        let read = read(&source, |_| None);
        read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_unknown_field_is_named_with_its_place_and_a_suggestion() {
        let text = "\
caduceus: 1
tenants:
  north-clinic:
    name: North Clinic
    apis:
      Beds:
        ownr: Ward
        owner: Ward
        contactEmail: ward@north-clinic.example
        deployments:
          - route: {pathPrefix: /beds, stripPrefx: true}
            version: 1.0.0
            upstream: {targets: [], colour: red}
";
        assert_eq!(
            mistakes(text),
            [
                "clinic.yaml:7:9: tenants.north-clinic.apis.Beds.ownr: unknown field `ownr`; did you mean `owner`?",
                "clinic.yaml:11:40: tenants.north-clinic.apis.Beds.deployments[0].route.stripPrefx: unknown field \
                 `stripPrefx`; did you mean `stripPrefix`?",
                "clinic.yaml:13:37: tenants.north-clinic.apis.Beds.deployments[0].upstream.colour: unknown field \
                 `colour`, expected one of `targets`, `balance`, `hashOn`, `protocol`, `tls`, `healthCheck`, \
                 `timeoutSeconds`, `retries`, `resilience`",
            ]
        );
    }

    #[test]
    fn other_mistakes_are_named_with_their_place() {
        assert_eq!(
            mistakes("caduceus: 2\n"),
            ["clinic.yaml:1:11: caduceus: format 2 is not known; this is format 1"]
        );
        assert_eq!(
            mistakes(
                "caduceus: 1\ntenants:\n  a: {name: A, people: {x@y.example: {name: X, roles: [provder]}}}\n"
            ),
            [
                "clinic.yaml:3:56: tenants.a.people.x@y.example.roles[0]: unknown variant `provder`; did you mean `provider`?"
            ]
        );
        assert_eq!(
            mistakes("caduceus: 1\ncaduceus: 1\n"),
            ["clinic.yaml:2:1: the key \"caduceus\" is there twice"]
        );
        assert_eq!(
            mistakes("caduceus: 1\nsettings: {name: '${env:NAME}', usageRetentionDays: 40}\n"),
            ["clinic.yaml:2:18: settings.name: the environment has no text \"NAME\""]
        );
        assert_eq!(mistakes("caduceus: [\n").len(), 1);
        assert_eq!(mistakes("[]\n").len(), 1);
        assert_eq!(
            mistakes("caduceus: 1\ntenants: {A: {}, b: {name: '', nam: B}, c: {}}\n"),
            [
                "clinic.yaml:2:14: tenants.A: must be lower-case letters, digits and single hyphens",
                "clinic.yaml:2:28: tenants.b.name: must not be empty",
                "clinic.yaml:2:32: tenants.b.nam: unknown field `nam`; did you mean `name`?",
                "clinic.yaml:2:41: tenants.c: missing field `name`",
            ]
        );
    }
}
