//! Requests compared with the operation of an OpenAPI document that they are for.
//!
//! [`RequestRules::compile`] turns a document into rules that hold nothing but what is needed for that; they are
//! written and read as part of a larger text. Checking them is pure, bounded in work and depth, and says what does not
//! fit by what the document declares, never by what the client sent.

mod check;
mod compile;
mod findings;
mod form;
mod format;
mod json;
mod number;
mod parameters;
mod pattern;
mod schema;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use check::Checker;
use compile::{BodyRules, MediaRules, OperationRules};
use findings::Place;
use json::Document;
use parameters::{Location, Pairs};

pub use compile::RequestRules;
pub use findings::{Finding, Findings};
pub use json::Malformed;
pub(crate) use pattern::is_enforceable;

/// Number of an operation among the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationNumber(usize);

/// What parameters are read from.
pub struct RequestHead<'c> {
    /// The path behind the prefix of the route, percent-encoded.
    pub path: &'c str,
    /// The query, percent-encoded.
    pub query: &'c str,
    /// The value of a header field by its name; several are joined by commas.
    pub header: &'c dyn Fn(&str) -> Option<Cow<'c, str>>,
}

/// What has to be known of a body before it can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyNeed {
    /// There must not be one.
    Absent,
    /// Nothing: its media type is all that is said.
    Nothing,
    /// All of it.
    Whole,
}

/// How much work a check may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// About a millisecond.
    Little,
    /// Some tenths of a second.
    Much,
}

/// What became of checking a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyCheck {
    /// It was compared; findings say what does not fit.
    Done(Findings),
    /// It is not JSON as it has to be.
    Malformed(Malformed),
    /// It takes more work than was granted.
    TooMuch,
}

impl Effort {
    const fn steps(self) -> usize {
        match self {
            Self::Little => 20_000,
            Self::Much => 5_000_000,
        }
    }
}

impl RequestRules {
    /// The operation of a method and a path template as the document spells it.
    #[must_use]
    pub fn operation(&self, method: &str, template: &str) -> Option<OperationNumber> {
        let is_meant = |operation: &OperationRules| {
            *operation.method == *method && *operation.template == *template
        };
        self.operations.iter().position(is_meant).map(OperationNumber)
    }

    /// Compares the parameters of a request with what the operation declares.
    pub fn check_head(
        &self,
        operation: OperationNumber,
        head: &RequestHead<'_>,
        findings: &mut Findings,
    ) {
        let Some(operation) = self.operations.get(operation.0) else { return };
        if operation.parameters.is_empty() {
            return;
        }
        let mut checker = Checker::new(&self.schemas, Effort::Much.steps() / 10);
        let segments = path_values(&operation.template, head.path);
        let mut query = None;
        for parameter in &operation.parameters {
            match parameter.location {
                Location::Path => {
                    let value = segments.iter().find(|(name, _)| **name == *parameter.name);
                    parameter.check_text(value.map(|(_, value)| *value), &mut checker, findings);
                }
                Location::Query => match query.get_or_insert_with(|| Pairs::parse(head.query)) {
                    Ok(pairs) => parameter.check_query(pairs, &mut checker, findings),
                    Err(_unreadable) => {}
                },
                Location::Header => {
                    let value = (head.header)(&parameter.name);
                    parameter.check_text(value.as_deref(), &mut checker, findings);
                }
                Location::Cookie => {
                    let cookies = (head.header)("cookie");
                    let value =
                        cookies.as_deref().and_then(|cookies| cookie(cookies, &parameter.name));
                    parameter.check_text(value, &mut checker, findings);
                }
            }
        }
        if let Some(Err(unreadable)) = query {
            findings.add("/query", unreadable.message());
        }
        if checker.is_exhausted() {
            findings.add("/query", "takes too much work to check");
        }
    }

    /// Whether the operation must have a body.
    #[must_use]
    pub fn requires_body(&self, operation: OperationNumber) -> bool {
        self.body(operation).is_some_and(|body| body.required)
    }

    /// What has to be known of a body of this media type.
    #[must_use]
    pub fn body_need(&self, operation: OperationNumber, media_type: &str) -> BodyNeed {
        let Some(body) = self.body(operation) else { return BodyNeed::Absent };
        match body.find(media_type) {
            Some(media) if media.is_form() || compile::is_json(media_type) => BodyNeed::Whole,
            _ => BodyNeed::Nothing,
        }
    }

    /// Compares a body with what the operation declares for its media type.
    #[must_use]
    pub fn check_body(
        &self,
        operation: OperationNumber,
        media_type: &str,
        bytes: &[u8],
        effort: Effort,
    ) -> BodyCheck {
        let found = self.body(operation).and_then(|body| body.find(media_type));
        let Some(media) = found else { return BodyCheck::Done(Findings::default()) };
        let mut findings = Findings::default();
        let document = if media.is_form() {
            let text = std::str::from_utf8(bytes).ok();
            match text.map(|text| form::read(media, text)) {
                Some(Ok(document)) => document,
                Some(Err(unreadable)) => {
                    findings.add("/body", unreadable.message());
                    return BodyCheck::Done(findings);
                }
                None => {
                    findings.add("/body", "must be percent-encoded UTF-8");
                    return BodyCheck::Done(findings);
                }
            }
        } else {
            match Document::parse(bytes) {
                Ok(document) => document,
                Err(malformed) => return BodyCheck::Malformed(malformed),
            }
        };
        let Some(schema) = media.schema else { return BodyCheck::Done(findings) };
        // Every value may be looked at a few times; hostile schemas look more often.
        let steps = effort.steps() + 8 * document.len();
        let mut checker = Checker::new(&self.schemas, steps);
        checker.find(schema, document.root(), &Place::BODY, &mut findings);
        if !checker.is_exhausted() {
            return BodyCheck::Done(findings);
        }
        BodyCheck::TooMuch
    }

    fn body(&self, operation: OperationNumber) -> Option<&BodyRules> {
        self.operations.get(operation.0)?.body.as_ref()
    }
}

impl BodyRules {
    fn find(&self, media_type: &str) -> Option<&MediaRules> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let (kind, subtype) = essence.split_once('/')?;
        let covers = |range: &str, part: &str| range == "*" || range.eq_ignore_ascii_case(part);
        self.content
            .iter()
            .find(|media| covers(&media.kind, kind) && covers(&media.subtype, subtype))
    }
}

/// The values of a template's parameters in a path that matches it.
fn path_values<'c>(template: &'c str, path: &'c str) -> Vec<(&'c str, &'c str)> {
    let mut values = Vec::new();
    for (pattern, segment) in template.split('/').zip(path.split('/')) {
        let (mut pattern, mut rest) = (pattern, segment);
        while let Some((before, behind)) = pattern.split_once('{') {
            let Some((name, after)) = behind.split_once('}') else { break };
            rest = rest.strip_prefix(before).unwrap_or(rest);
            // Up to what stands before the next parameter, or to the end.
            let end = match after.split('{').next() {
                Some("") | None => rest.len(),
                Some(literal) if after.contains('{') => rest.find(literal).unwrap_or(rest.len()),
                Some(literal) => rest.strip_suffix(literal).map_or(rest.len(), str::len),
            };
            let (value, behind_value) = rest.split_at(end);
            values.push((name, value));
            (pattern, rest) = (after, behind_value);
        }
    }
    values
}

fn cookie<'c>(cookies: &'c str, name: &str) -> Option<&'c str> {
    cookies.split(';').find_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        (known == name).then(|| value.trim_matches('"'))
    })
}
