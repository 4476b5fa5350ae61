//! Routes and operations against the plainest way to find them.

use http::Method;
use model::{OperationEntry, Route};

use super::{Operations, Prefixes};
use crate::path;

/// The first line is a path; each further one is a prefix of a route, and the template of an operation as well.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let Some(Ok(path)) = lines.next().map(path::normalize) else { return };
    let others: Vec<&str> = lines.take(16).collect();
    routes(&path, &others);
    operations(&path, &others);
}

fn routes(path: &str, prefixes: &[&str]) {
    let routes = prefixes.iter().filter_map(|prefix| Route::new(None, prefix, false).ok());
    let mut all: Vec<String> = Vec::new();
    let mut table = Prefixes::default();
    for route in routes {
        let prefix = route.path_prefix().trim_end_matches('/').to_owned();
        let known = all.contains(&prefix);
        assert_eq!(table.insert(route.path_prefix(), prefix.clone()).is_some(), known);
        all.push(prefix);
    }
    let leads_to = |prefix: &&String| {
        path.strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let longest = all.iter().filter(leads_to).max_by_key(|prefix| prefix.len());
    assert_eq!(table.longest(path), longest, "{path} among {all:?}");
}

fn operations(path: &str, templates: &[&str]) {
    let entries: Vec<OperationEntry> = templates
        .iter()
        .filter(|template| template.starts_with('/'))
        .map(|template| OperationEntry {
            method: "GET".to_owned(),
            template: (*template).to_owned(),
            request_media_types: Vec::new(),
            response_media_types: Vec::new(),
        })
        .collect();
    let compiled = Operations::compile(&entries);
    let found = compiled.find(&Method::GET, path);
    let found = found.and_then(|index| entries.get(usize::from(index)));
    let fits = |entry: &&OperationEntry| matches(&entry.template, path);
    let any = entries.iter().find(fits);
    assert_eq!(found.is_some(), any.is_some(), "{path} among {templates:?}");
    assert!(found.is_none_or(|found| fits(&found)), "{path} is not {found:?}");
    let exact = entries.iter().any(|entry| entry.template == path && !path.contains('{'));
    assert!(!exact || found.is_some_and(|found| found.template == path), "{path} is {found:?}");
    assert_eq!(compiled.methods(path).is_empty(), any.is_none());
    assert_eq!(compiled.find(&Method::PUT, path), None);
}

/// Whether a path fits a template, segment by segment.
fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(template, segment)| {
            let parameter = template
                .split_once('{')
                .and_then(|(before, rest)| Some((before, rest.rsplit_once('}')?.1)));
            match parameter {
                None => template == segment,
                Some((before, after)) => {
                    let least = before.len() + after.len();
                    segment.len() > least && segment.starts_with(before) && segment.ends_with(after)
                }
            }
        })
}
