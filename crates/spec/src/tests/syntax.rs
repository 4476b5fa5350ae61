//! Faults of JSON and YAML, and documents of other formats.

use super::check;
use crate::{Format, Limits, Syntax, validate};

/// The only issue of a text: rule, line, column.
fn fault(text: &str) -> (&'static str, u32, u32) {
    let report = check(text);
    assert_eq!(report.issues.len(), 1, "{text}\n{:#?}", report.issues);
    let issue = &report.issues[0];
    (issue.rule, issue.line, issue.column)
}

#[test]
fn json_faults_are_found_where_they_are() {
    for (text, line, column) in [
        ("{\"a\": 1,}", 1, 9),
        ("{\"a\": 1\n \"b\": 2}", 2, 2),
        ("{\"a\" 1}", 1, 6),
        ("[1, 2", 1, 6),
        ("{\"é\": 01}", 1, 7),
        ("[\"\\x\"]", 1, 3),
        ("[\"a\nb\"]", 1, 4),
        ("[\"\\ud800\"]", 1, 3),
        ("[\"open", 1, 2),
        ("{\"a\": 1.}", 1, 9),
        ("{a: b", 1, 2),
        ("{} x", 1, 4),
        ("{\"a\": tru}", 1, 7),
        ("{\"a\": [1}", 1, 9),
    ] {
        let report = check(text);
        let issue = &report.issues[0];
        assert_eq!((issue.rule, issue.line, issue.column), ("syntax", line, column), "{text}");
    }
}

#[test]
fn yaml_faults_are_found_where_they_are() {
    for (text, line) in [
        ("", 1),
        ("# nothing\n", 1),
        ("a: 1\n b: 2", 2),
        ("a: [1, 2", 1),
        ("a: 1\n---\nb: 2", 2),
        ("a: *nowhere", 1),
        ("a: &x [*x]", 1),
        ("? [a]\n: b", 1),
        ("a: \"b\u{1}\"", 1),
        ("a: b\n<<: 1", 2),
        ("a: !!int x", 1),
        ("a: 1\0", 1),
    ] {
        let report = check(text);
        assert_eq!(report.issues.len(), 1, "{text:?}\n{:#?}", report.issues);
        assert_eq!((report.issues[0].rule, report.issues[0].line), ("syntax", line), "{text:?}");
    }
}

#[test]
fn flow_yaml_is_not_taken_for_json() {
    let report = check("{openapi: 3.0.0, info: {title: t, version: '1'}, paths: {}}");
    assert_eq!(report.issues, []);
    assert_eq!(report.syntax, Some(Syntax::Yaml));
    assert_eq!(Syntax::detect(b"\n {\"a\":1}"), Syntax::Json);
    assert_eq!(Syntax::detect(b"a: {}"), Syntax::Yaml);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let report = validate(b"{\n \"a\": \"\xFF\"}", &Limits::default());
    let issue = &report.issues[0];
    assert_eq!((issue.rule, issue.line, issue.column), ("syntax", 2, 8));
    assert!(!validate(b"\xFF\xFEo\0", &Limits::default()).is_valid());
}

#[test]
fn aliases_and_merge_keys_stand_for_what_they_repeat() {
    let report = check(
        "openapi: 3.0.0\ninfo: {title: t, version: '1'}\nx-base: &base\n  responses: &r {200: {description: d}}\n  tags: []\npaths:\n  /a: {get: {<<: *base, operationId: a}}\n  /b: {get: {responses: *r}}\n",
    );
    let rules: Vec<_> = report.issues.iter().map(|issue| (issue.rule, issue.line)).collect();
    assert_eq!(rules, [("merge-key", 7)]);
    assert_eq!(report.summary.map(|summary| summary.operations.len()), Some(2));
}

#[test]
fn quoted_scalars_are_strings_and_plain_ones_are_typed() {
    let head = "openapi: 3.0.0\npaths: {}\ninfo:\n  title: t\n  version: ";
    assert_eq!(fault(&format!("{head}1.0")), ("type", 5, 12));
    assert_eq!(fault(&format!("{head}true")), ("type", 5, 12));
    assert_eq!(fault(&format!("{head}~")), ("type", 5, 12));
    for version in ["'1.0'", "\"true\"", "1.0.0", "!!str 1.0", "yes"] {
        assert_eq!(check(&format!("{head}{version}")).issues, [], "{version}");
    }
}

#[test]
fn other_formats_are_told_apart_but_not_validated() {
    for (text, format) in [
        ("swagger: '2.0'\ninfo: {}", Format::Swagger),
        ("{\"asyncapi\": \"3.0.0\"}", Format::AsyncApi),
        ("#%RAML 1.0\ntitle: T", Format::Raml),
        ("<?xml version='1.0'?><!-- > --><w:definitions/>", Format::Wsdl),
        ("<CapabilityStatement xmlns='x'/>", Format::CapabilityStatement),
        ("{\"resourceType\": \"CapabilityStatement\"}", Format::CapabilityStatement),
        ("# schema\n\"\"\"doc\"\"\"\ntype Query {\n a: Int\n}", Format::GraphQl),
        ("\"Old\"\ndirective @old on FIELD", Format::GraphQl),
        ("schema {\n query: Q\n}", Format::GraphQl),
    ] {
        let report = check(text);
        assert_eq!(report.format, Some(format), "{text}");
        assert_eq!(report.issues[0].rule, "unsupported-format", "{text}");
    }
}

#[test]
fn unknown_versions_are_said_at_their_place() {
    assert_eq!(fault("{\"info\": {},\n \"openapi\": \"3.2.0\"}"), ("unsupported-version", 2, 13));
    assert_eq!(fault("openapi: 4.0.0"), ("unsupported-version", 1, 10));
    assert_eq!(fault("a: 1"), ("unsupported-format", 1, 1));
    assert_eq!(fault("just text"), ("unsupported-format", 1, 1));
    let head = "info: {title: t, version: '1'}\npaths: {}\nopenapi: ";
    assert_eq!(fault(&format!("{head}3.0.x")), ("openapi-version", 3, 10));
    assert_eq!(fault(&format!("{head}'3.1'")), ("openapi-version", 3, 10));
}
