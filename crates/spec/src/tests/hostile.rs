//! Documents made to break a reader. There must be a report, soon, and within bounds.

use std::fmt::Write;

use proptest::prelude::{any, prop, proptest};

use super::check;
use crate::{Limits, Syntax, convert, validate};

fn first_rule(text: &str) -> &'static str {
    check(text).issues[0].rule
}

#[test]
fn deep_nesting_is_refused() {
    for part in ["[", "{\"a\":", "[{\"a\":"] {
        assert_eq!(first_rule(&part.repeat(100_000)), "too-deep", "{part}");
    }
    for part in ["- ", "a:\n  - ", "? ", "{a: ", "!x [", "&a ["] {
        let report = check(&part.repeat(100_000));
        assert!(!report.is_valid(), "{part}");
    }
    let inner = format!("{}{}", "[".repeat(127), "]".repeat(127));
    assert_eq!(first_rule(&inner), "unsupported-format");
    assert_eq!(first_rule(&format!("[{inner},[{inner}]]")), "too-deep");
}

#[test]
fn the_deepest_nesting_that_is_allowed_fits_the_stack() {
    let limits = Limits { depth: 1_000_000, ..Limits::default() };
    for version in ["3.0.0", "3.1.0"] {
        let head = format!(
            "{{\"openapi\":\"{version}\",\"info\":{{\"title\":\"\",\"version\":\"\"}},\"paths\":{{}},"
        );
        let schemas = format!(
            "{head}\"components\":{{\"schemas\":{{\"a\":{}{{}}{}}}}}}}",
            "{\"allOf\":[".repeat(125),
            "]}".repeat(125)
        );
        let report = validate(schemas.as_bytes(), &limits);
        assert!(report.issues.is_empty(), "{:?}", report.issues);
        for target in [Syntax::Json, Syntax::Yaml] {
            assert!(convert(schemas.as_bytes(), &limits, target).is_ok());
        }
        let twice = schemas.replacen("{}", "{\"a\":1,\"a\":2}", 1);
        assert!(!validate(twice.as_bytes(), &limits).is_valid());
    }
}

#[test]
fn aliases_cannot_multiply_without_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{uses}]").unwrap();
    }
    assert_eq!(first_rule(&text), "too-large");

    let mut merges = "m0: &m0 {k: v}\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        writeln!(merges, "m{level}: &m{level} {{<<: [*m{before}, *m{before}, *m{before}]}}")
            .unwrap();
    }
    assert_eq!(first_rule(&merges), "too-large");

    let mut deep = "d0: &d0 []\n".to_owned();
    for level in 1..200 {
        writeln!(deep, "d{level}: &d{level} [*d{}]", level - 1).unwrap();
    }
    assert_eq!(first_rule(&deep), "too-deep");
}

#[test]
fn long_texts_and_many_values_are_refused() {
    let limits = Limits { document_bytes: 100, ..Limits::default() };
    assert_eq!(validate(&[b' '; 101], &limits).issues[0].rule, "too-large");
    let limits = Limits { values: 100, ..Limits::default() };
    let text = format!("[{}1]", "1,".repeat(200));
    assert_eq!(validate(text.as_bytes(), &limits).issues[0].rule, "too-large");
}

#[test]
fn issues_are_bounded_and_the_last_one_says_so() {
    let mut text = "openapi: 3.0.0\ninfo: {title: t, version: '1'}\npaths:\n".to_owned();
    for number in 0..3000 {
        writeln!(text, "  wrong{number}: {{}}").unwrap();
    }
    let report = check(&text);
    assert_eq!(report.issues.len(), 1001);
    assert_eq!(report.issues[1000].rule, "too-many-issues");
}

#[test]
fn long_chains_and_circles_of_references_end() {
    let mut text =
        "openapi: 3.0.0\ninfo: {title: t, version: '1'}\npaths: {}\ncomponents:\n  schemas:\n"
            .to_owned();
    for number in 0..2000 {
        writeln!(text, "    s{number}: {{$ref: '#/components/schemas/s{}'}}", (number + 1) % 2000)
            .unwrap();
    }
    let report = check(&text);
    assert!(
        report
            .issues
            .iter()
            .all(|issue| matches!(issue.rule, "reference-cycle" | "too-many-issues"))
    );

    let circle = "openapi: 3.0.0\ninfo: {title: t, version: '1'}\npaths:\n  /a/{x}:\n    $ref: '#/paths/~1b~1{y}'\n  /b/{y}:\n    $ref: '#/paths/~1a~1{x}'\n";
    assert!(!check(circle).is_valid());
}

#[test]
fn references_cannot_make_the_work_grow_without_end() {
    let mut text = "openapi: 3.0.0\ninfo: {title: t, version: '1'}\npaths:\n".to_owned();
    for number in 0..3000 {
        writeln!(text, "  /p{number}: {{$ref: '#/x-item'}}").unwrap();
    }
    text.push_str("x-item:\n  parameters:\n");
    for number in 0..3000 {
        writeln!(text, "  - {{name: q{number}, in: query, schema: {{}}}}").unwrap();
    }
    text.push_str("  get: {responses: {200: {description: d}}}\n");
    assert!(check(&text).issues.iter().any(|issue| issue.rule == "too-complex"));
}

#[test]
fn a_document_cut_anywhere_does_not_panic() {
    let yaml = "openapi: 3.1.0 # é\ninfo: &i {title: \"a\\u00e9\", version: '1'}\npaths:\n  /a/{b}:\n    get:\n      description: |-\n        two\n        lines\n      x: [*i, !!str 1, ~]\n";
    let json = "{\"openapi\": \"3.0.0\", \"é\\ud83d\\ude00\": [1.5e3, -0, true, null, {}], \"paths\": {\"/\": {}}}";
    for text in [yaml, json] {
        for end in 0..=text.len() {
            let bytes = &text.as_bytes()[..end];
            let report = validate(bytes, &Limits::default());
            assert!(report.issues.iter().all(|issue| issue.line >= 1 && issue.column >= 1));
            for target in [Syntax::Json, Syntax::Yaml] {
                drop(convert(bytes, &Limits::default(), target));
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(validate(&bytes, &Limits::default()));
    }

    #[test]
    fn arbitrary_text_of_the_right_characters_does_not_panic(
        text in "[\\[\\]{}\"':,&*!|>#%@`\\-?~ \n\ta-c0-9\\\\.<$/]{0,120}",
    ) {
        drop(validate(text.as_bytes(), &Limits::default()));
        drop(convert(text.as_bytes(), &Limits::default(), Syntax::Yaml));
    }

    #[test]
    fn documents_with_arbitrary_parts_do_not_panic(
        parts in prop::collection::vec((0..KEYS.len(), 0..VALUES.len()), 0..12),
    ) {
        let mut text = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\n".to_owned();
        for (key, value) in parts {
            writeln!(text, "{}: {}", KEYS[key], VALUES[value]).unwrap();
        }
        drop(check(&text));
        drop(check(&text.replace("3.1.0", "3.0.0")));
    }
}

const KEYS: &[&str] =
    &["paths", "components", "servers", "security", "tags", "webhooks", "externalDocs", "x-a"];

const VALUES: &[&str] = &[
    "{}",
    "[]",
    "~",
    "1",
    "[{}]",
    "{/a: {get: {responses: {200: {$ref: '#/x-a'}}}}}",
    "{/{a}: {$ref: '#/paths/~1{a}'}}",
    "{schemas: {a: {$ref: '#/components/schemas/a/properties/b', properties: {b: {}}}}}",
    "{schemas: {a: {type: [array, 1], enum: {}, required: 1, items: []}}}",
    "{securitySchemes: {a: {type: oauth2, flows: {implicit: 1}}}, links: {l: {}}}",
    "[{a: [b]}, {url: '{x}', variables: {x: {}}}]",
    "{get: 1, parameters: [{in: path}, {$ref: '#'}], responses: []}",
];
