//! From bytes to a report: read, recognise, check, summarise.

use serde::Serialize;

use crate::{
    format::{self, Format, Recognised},
    issue::{Findings, Issue, ReadError, Severity},
    limits::Limits,
    node::{Node, Tree},
    openapi::{self, Version},
    path::Path,
    read::{self, Source, Syntax},
    summary::{self, Summary},
    write,
};

/// What there is to say about a document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The format, if it was recognised.
    pub format: Option<Format>,
    /// The version of the format as the document says it.
    pub format_version: Option<String>,
    /// The syntax it is written in, if it could be read.
    pub syntax: Option<Syntax>,
    /// All issues, in document order.
    pub issues: Vec<Issue>,
    /// What the document describes, if it is in a format that is read.
    pub summary: Option<Summary>,
}

impl Report {
    /// Whether there are no errors.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.issues.iter().all(|issue| issue.severity != Severity::Error)
    }

    fn unread(issue: Issue) -> Self {
        Self {
            format: None,
            format_version: None,
            syntax: None,
            issues: vec![issue],
            summary: None,
        }
    }
}

/// Reads a document and says everything that is wrong with it.
#[must_use]
pub fn validate(bytes: &[u8], limits: &Limits) -> Report {
    let text = match read::decode(bytes, limits) {
        Ok(text) => text,
        Err(error) => return Report::unread(error.into_issue(bytes)),
    };
    if let Some(found) = format::recognise_text(text) {
        let offset = text.len() - text.trim_start_matches('\u{FEFF}').trim_start().len();
        let mut report = Report::unread(unsupported(&found, offset).into_issue(bytes));
        report.format = Some(found.format);
        report.format_version = found.version;
        return report;
    }
    match read::read(text, limits) {
        Ok(source) => examine(text, &source, limits),
        Err(error) => Report::unread(error.into_issue(bytes)),
    }
}

/// Writes a document in another syntax, or in its own with regular layout. The order of entries
/// and the spelling of numbers stay as they are.
///
/// # Errors
///
/// When the document cannot be read, has a key twice, has a number JSON cannot say, or becomes
/// longer than the limits allow.
pub fn convert(bytes: &[u8], limits: &Limits, target: Syntax) -> Result<String, Issue> {
    let located = |error: ReadError| error.into_issue(bytes);
    let text = read::decode(bytes, limits).map_err(located)?;
    let source = read::read(text, limits).map_err(located)?;
    if source.tree.has_duplicates() {
        let mut findings = Findings::new(1);
        report_duplicates(&source.tree, &mut findings);
        if let Some(issue) = findings.into_issues(text).into_iter().next() {
            return Err(issue);
        }
    }
    let root = source.tree.root();
    match target {
        Syntax::Json => write::json(root, limits.output_bytes).map_err(located),
        Syntax::Yaml => write::yaml(root, limits.output_bytes).map_err(located),
    }
}

fn examine(text: &str, source: &Source<'_>, limits: &Limits) -> Report {
    let mut findings = Findings::new(limits.issues);
    report_reading(source, &mut findings);
    let root = source.tree.root();
    let recognised = format::recognise_tree(root);
    let mut report = Report {
        format: recognised.as_ref().map(|found| found.format),
        format_version: recognised.as_ref().and_then(|found| found.version.clone()),
        syntax: Some(source.syntax),
        issues: Vec::new(),
        summary: None,
    };
    match supported_version(root, recognised.as_ref(), &mut findings) {
        None => {}
        Some(version) => {
            findings = openapi::check(root, version, findings);
            match summary::summarise(root, limits.output_bytes) {
                Some(summary) => report.summary = Some(summary),
                None => findings.add(Severity::Error, "too-complex", 0, || {
                    let message = "the references of this document make its summary too large";
                    (message.to_owned(), Path::ROOT.write())
                }),
            }
        }
    }
    report.issues = findings.into_issues(text);
    report
}

/// The version to check against; reports what is not supported.
fn supported_version(
    root: Node<'_>,
    recognised: Option<&Recognised<'_>>,
    findings: &mut Findings,
) -> Option<Version> {
    let Some(found) = recognised else {
        findings.add(Severity::Error, "unsupported-format", root.start(), || {
            let message = if root.is_object() {
                "this is no OpenAPI document: it has no field \"openapi\""
            } else {
                "this is no OpenAPI document: it is not an object"
            };
            (message.to_owned(), Path::ROOT.write())
        });
        return None;
    };
    let (field, node) = found.field?;
    let written = || Path::ROOT.key(field).write();
    if found.format != Format::OpenApi {
        let error = unsupported(found, 0);
        findings.add(Severity::Error, error.rule, node.start(), || (error.message, written()));
        return None;
    }
    let text = found.version.as_deref().unwrap_or_default();
    let version = if text == "3.0" || text.starts_with("3.0.") {
        Version::V30
    } else if text == "3.1" || text.starts_with("3.1.") {
        Version::V31
    } else {
        findings.add(Severity::Error, "unsupported-version", node.start(), || {
            let message = format!("OpenAPI {text:?} is not supported; 3.0 and 3.1 are");
            (message, written())
        });
        return None;
    };
    let patch = text.get(4..).unwrap_or_default();
    let number = patch.split('-').next().unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        findings.add(Severity::Error, "openapi-version", node.start(), || {
            (format!("{text:?} is not a full version like 3.1.1"), written())
        });
    }
    Some(version)
}

fn unsupported(found: &Recognised<'_>, offset: usize) -> ReadError {
    let name = found.format.name();
    let version = found.version.as_deref().map(|text| format!(" {text}")).unwrap_or_default();
    ReadError {
        rule: "unsupported-format",
        message: format!("this is {name}{version}; only OpenAPI 3.0 and 3.1 are validated"),
        offset,
    }
}

/// Reports what reading noticed without failing.
fn report_reading(source: &Source<'_>, findings: &mut Findings) {
    let at = |offset: &usize| u32::try_from(*offset).unwrap_or(u32::MAX);
    for offset in &source.merge_keys {
        findings.add(Severity::Warning, "merge-key", at(offset), || {
            let message = "merge keys (<<) are not part of YAML 1.2, which OpenAPI asks for";
            (message.to_owned(), Path::ROOT.write())
        });
    }
    for offset in &source.foreign_tags {
        findings.add(Severity::Warning, "yaml-tag", at(offset), || {
            let message = "tags beyond those of JSON are ignored";
            (message.to_owned(), Path::ROOT.write())
        });
    }
    if source.tree.has_duplicates() {
        report_duplicates(&source.tree, findings);
    }
}

fn report_duplicates(tree: &Tree<'_>, findings: &mut Findings) {
    visit_duplicates(tree.root(), &Path::ROOT, findings);
}

fn visit_duplicates(node: Node<'_>, path: &Path<'_>, findings: &mut Findings) {
    for member in node.duplicate_members() {
        findings.add(Severity::Error, "duplicate-key", member.key_start, || {
            let message = format!("the key {:?} is there twice", member.key);
            (message, path.key(member.key).write())
        });
    }
    for member in node.members() {
        visit_duplicates(member.value, &path.key(member.key), findings);
    }
    for (index, item) in node.items().enumerate() {
        visit_duplicates(item, &path.index(index), findings);
    }
}
