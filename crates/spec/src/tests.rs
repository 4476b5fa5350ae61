//! What the crate promises as a whole. Details are tested beside the code.

mod conversions;
mod hostile;
mod rules_30;
mod rules_31;
mod summaries;
mod syntax;
mod valid_documents;

use crate::{Issue, Limits, Report, Severity, validate};

fn check(text: &str) -> Report {
    validate(text.as_bytes(), &Limits::default())
}

/// A document that breaks one rule, and where.
struct Case {
    rule: &'static str,
    severity: Severity,
    location: &'static str,
    line: u32,
    body: &'static str,
}

const fn error(rule: &'static str, location: &'static str, line: u32, body: &'static str) -> Case {
    Case { rule, severity: Severity::Error, location, line, body }
}

const fn warning(
    rule: &'static str,
    location: &'static str,
    line: u32,
    body: &'static str,
) -> Case {
    Case { rule, severity: Severity::Warning, location, line, body }
}

const fn info(rule: &'static str, location: &'static str, line: u32, body: &'static str) -> Case {
    Case { rule, severity: Severity::Info, location, line, body }
}

/// Checks every case, with `head` (two lines) before its body, and that a document reports
/// nothing worse than the case says.
fn check_cases(head: &str, cases: &[Case]) {
    for case in cases {
        let text = format!("{head}{}", case.body);
        let report = check(&text);
        let is_expected = |issue: &Issue| {
            issue.rule == case.rule
                && issue.severity == case.severity
                && issue.location == case.location
                && issue.line == case.line
        };
        assert!(
            report.issues.iter().any(is_expected),
            "{} at {} (line {}) is not reported for\n{text}\n{:#?}",
            case.rule,
            case.location,
            case.line,
            report.issues
        );
        let worst = report.issues.iter().map(|issue| issue.severity).max();
        assert_eq!(worst, Some(case.severity), "{text}\n{:#?}", report.issues);
        let others: Vec<_> = report
            .issues
            .iter()
            .filter(|issue| issue.severity == Severity::Error && issue.rule != case.rule)
            .collect();
        assert!(others.is_empty(), "{text}\n{others:#?}");
    }
}
