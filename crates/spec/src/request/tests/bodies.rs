//! Bodies against schemas: rules, messages, bounds.

use proptest::prelude::*;

use super::{body_rules, check, document_rules, found, malformed};
use crate::request::{BodyCheck, Effort, OperationNumber};

const PATIENT: &str = r#"{
    "type": "object",
    "required": ["id", "name", "birthDate"],
    "additionalProperties": false,
    "properties": {
        "id": {"type": "integer", "readOnly": true},
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "birthDate": {"type": "string", "format": "date"},
        "kind": {"enum": ["in", "out"]},
        "limit": {"type": "integer", "maximum": 100},
        "notes": {"type": "array", "maxItems": 2, "uniqueItems": true, "items": {"type": "string"}}
    }
}"#;

#[test]
fn every_finding_says_where_and_which_rule() {
    let rules = body_rules("3.1.0", PATIENT);
    assert_eq!(found(&rules, r#"{"name":"Ann","birthDate":"2020-02-29","limit":1e2}"#), [""; 0]);
    assert_eq!(
        found(
            &rules,
            r#"{"id":1,"name":"","birthDate":"2021-02-29","kind":"x","limit":1e400,"other":1,"notes":["a",7,"a"]}"#
        ),
        [
            "/body/id is read-only and must not be sent",
            "/body/name must have 1 to 5 characters",
            "/body/birthDate must be a date such as 2026-01-31",
            "/body/kind must be one of in, out",
            "/body/limit must be at most 100",
            "/body must not have properties that are not declared (see property 6)",
            "/body/notes must have at most 2 items",
            "/body/notes/1 must be a string",
            "/body/notes/2 must not be equal to an earlier item",
        ]
    );
    assert_eq!(found(&rules, "{}"), ["/body/birthDate is required", "/body/name is required"]);
    assert_eq!(found(&rules, "[]"), ["/body must be an object"]);
}

#[test]
fn lengths_count_characters() {
    let rules = body_rules("3.1.0", r#"{"maxLength": 2, "minLength": 2}"#);
    for fine in [r#""ää""#, r#""😀😀""#, r#""\ud83d\ude00a""#, "7"] {
        assert_eq!(found(&rules, fine), [""; 0], "{fine}");
    }
    for bad in [r#""ä""#, r#""😀""#, r#""abc""#] {
        assert_eq!(found(&rules, bad).len(), 1, "{bad}");
    }
}

#[test]
fn version_30_has_nullable_and_flags_for_exclusive_bounds() {
    let rules = body_rules(
        "3.0.3",
        r#"{"type":"object","properties":{
            "a":{"type":"string","nullable":true,"enum":["x"]},
            "b":{"type":"number","minimum":0,"exclusiveMinimum":true,"maximum":9,"exclusiveMaximum":false}}}"#,
    );
    assert_eq!(found(&rules, r#"{"a":null,"b":9}"#), [""; 0]);
    assert_eq!(
        found(&rules, r#"{"a":"y","b":0}"#),
        ["/body/a must be x", "/body/b must be more than 0"]
    );
}

#[test]
fn siblings_of_a_reference_count_in_31_only() {
    let schema = r##"{"$ref":"#/components/schemas/Name","maxLength":1}"##;
    let components = r#"{"Name":{"type":"string"}}"#;
    assert_eq!(found(&document_rules("3.1.0", schema, components), r#""ab""#).len(), 1);
    assert_eq!(found(&document_rules("3.0.0", schema, components), r#""ab""#).len(), 0);
}

#[test]
fn what_is_read_only_elsewhere_in_all_of_is_not_required() {
    let components = r##"{"Base":{"type":"object","properties":{"id":{"$ref":"#/components/schemas/Id"}}},
        "Id":{"type":"string","readOnly":true}}"##;
    let schema = r##"{"allOf":[{"$ref":"#/components/schemas/Base"},{"required":["id","name"]}]}"##;
    let rules = document_rules("3.0.0", schema, components);
    assert_eq!(found(&rules, r#"{"name":1}"#), [""; 0]);
    assert_eq!(
        found(&rules, r#"{"id":"1"}"#),
        ["/body/id is read-only and must not be sent", "/body/name is required"]
    );
}

#[test]
fn a_discriminator_says_which_branch_is_meant() {
    let components = r#"{
        "Cat":{"type":"object","required":["kind","lives"],"properties":{"kind":{"type":"string"},"lives":{"type":"integer"}}},
        "Dog":{"type":"object","required":["kind","bark"],"properties":{"kind":{"type":"string"},"bark":{"type":"string"}}}}"#;
    let schema = r##"{"oneOf":[{"$ref":"#/components/schemas/Cat"},{"$ref":"#/components/schemas/Dog"}],
        "discriminator":{"propertyName":"kind","mapping":{"cat":"#/components/schemas/Cat"}}}"##;
    let rules = document_rules("3.0.0", schema, components);
    assert_eq!(found(&rules, r#"{"kind":"cat","lives":"x"}"#), ["/body/lives must be an integer"]);
    assert_eq!(found(&rules, r#"{"kind":"Dog"}"#), ["/body/bark is required"]);
    assert_eq!(
        found(&rules, r#"{"kind":"bird"}"#),
        ["/body/kind must name one of the possible forms"]
    );
    assert_eq!(found(&rules, "{}"), ["/body/kind is required"]);
}

#[test]
fn the_only_branch_that_can_be_meant_explains_itself() {
    let rules =
        body_rules("3.1.0", r#"{"anyOf":[{"type":"null"},{"type":"object","required":["a"]}]}"#);
    assert_eq!(found(&rules, "{}"), ["/body/a is required"]);
    assert_eq!(found(&rules, "7"), ["/body must have one of the possible forms"]);
}

#[test]
fn recursion_in_schemas_ends_with_the_value() {
    let components = r##"{"Tree":{"type":"object","additionalProperties":false,"properties":{"next":{"$ref":"#/components/schemas/Tree"}}}}"##;
    let rules = document_rules("3.1.0", r##"{"$ref":"#/components/schemas/Tree"}"##, components);
    assert_eq!(
        found(&rules, r#"{"next":{"next":{"next":7}}}"#),
        ["/body/next/next/next must be an object"]
    );
}

#[test]
fn schemas_that_never_end_or_explode_are_given_up() {
    let endless = r##"{"A":{"anyOf":[{"type":"string"},{"$ref":"#/components/schemas/B"}]},"B":{"allOf":[{"$ref":"#/components/schemas/A"}]}}"##;
    let rules = document_rules("3.1.0", r##"{"$ref":"#/components/schemas/A"}"##, endless);
    assert_eq!(check(&rules, b"7"), BodyCheck::TooMuch);
    let mut levels: Vec<String> = (0..40)
        .map(|level| format!(r##""L{level}":{{"allOf":[{{"$ref":"#/components/schemas/L{0}"}},{{"$ref":"#/components/schemas/L{0}"}}]}}"##, level + 1))
        .collect();
    levels.push(r#""L40":{"type":"integer"}"#.to_owned());
    let rules = document_rules(
        "3.1.0",
        r##"{"$ref":"#/components/schemas/L0"}"##,
        &format!("{{{}}}", levels.join(",")),
    );
    assert_eq!(check(&rules, b"7"), BodyCheck::TooMuch);
}

#[test]
fn dynamic_references_lead_to_their_only_anchor() {
    let schema = r##"{"$dynamicAnchor":"node","type":"object","properties":{"next":{"$dynamicRef":"#node"}},"unevaluatedProperties":false}"##;
    let rules = body_rules("3.1.0", schema);
    assert_eq!(found(&rules, r#"{"next":{"next":{}}}"#), [""; 0]);
    assert_eq!(
        found(&rules, r#"{"next":{"x":{}}}"#),
        ["/body/next must not have properties that are not declared (see property 1)"]
    );
}

#[test]
fn embedded_resources_have_their_own_definitions() {
    let schema = r##"{"$id":"https://example.org/a","$defs":{"Text":{"type":"string"}},"items":{"$ref":"#/$defs/Text"},
        "prefixItems":[{"$ref":"https://example.org/a#/$defs/Text"}]}"##;
    let rules = body_rules("3.1.0", schema);
    assert_eq!(
        found(&rules, r#"[1,"a",2]"#),
        ["/body/0 must be a string", "/body/2 must be a string"]
    );
}

#[test]
fn patterns_that_cannot_be_enforced_refuse_nothing() {
    for schema in [
        r#"{"type":"string","pattern":"^(?=a)"}"#,
        r#"{"not":{"pattern":"^(?=a)"}}"#,
        r#"{"oneOf":[{"pattern":"^(?=a)"},{"type":"string"}]}"#,
        r#"{"if":{"pattern":"^(?=a)"},"then":false,"else":false}"#,
        r#"{"patternProperties":{"^(?=a)":{}},"additionalProperties":false}"#,
    ] {
        let rules = body_rules("3.1.0", schema);
        assert_eq!(
            found(&rules, if schema.contains("Properties") { r#"{"a":1}"# } else { r#""b""# }),
            [""; 0],
            "{schema}"
        );
    }
    let rules = body_rules("3.1.0", r#"{"type":"string","pattern":"^(?=a)","maxLength":1}"#);
    assert_eq!(found(&rules, r#""bc""#).len(), 1);
}

#[test]
fn malformed_bodies_are_located() {
    for (body, line, column, problem) in [
        (&b""[..], 1, 1, "a value was expected"),
        (b"{\"a\":1,}", 1, 8, "a key in double quotes was expected"),
        (b"{\"a\":1 \"b\":2}", 1, 8, "a comma or closing brace was expected"),
        (b"[1\n, 2\n, \x01]", 3, 3, "a value was expected"),
        (b"[\"\xc3\xa4\", x]", 1, 7, "a value was expected"),
        (b"{\"a\":1,\"\\u0061\":2}", 1, 19, "the object that ends here has a key twice"),
        (b"\"\xff\"", 1, 2, "the text is not UTF-8"),
        (b"01", 1, 1, "this is not a number"),
        (b"[1.]", 1, 2, "this is not a number"),
        (b"1 2", 1, 3, "the end was expected"),
        (b"\"a\nb\"", 1, 3, "a control character must be escaped"),
        (b"\"\\ud800\"", 1, 8, "half of a surrogate pair stands alone"),
        (b"\"abc", 1, 5, "a string has no end"),
        (b"NaN", 1, 1, "a value was expected"),
        ("\u{FEFF}1".as_bytes(), 1, 1, "a value was expected"),
    ] {
        let found = malformed(body);
        assert_eq!(
            (found.line, found.column, found.problem),
            (line, column, problem),
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
    let many: String = (0..100).map(|number| format!("\"k{number}\":1,")).collect();
    assert_eq!(
        malformed(format!("{{{many}\"k50\":2}}").as_bytes()).problem,
        "the object that ends here has a key twice"
    );
    let deep = "[".repeat(1_000_000);
    assert_eq!(malformed(deep.as_bytes()).problem, "arrays and objects are nested too deeply");
}

#[test]
fn large_arrays_are_searched_for_equal_items_in_no_time() {
    let rules = body_rules("3.1.0", r#"{"uniqueItems":true}"#);
    let mut items: Vec<String> =
        (0..50_000).map(|number| format!(r#"{{"a":{number},"b":[{number}]}}"#)).collect();
    assert_eq!(found(&rules, &format!("[{}]", items.join(","))), [""; 0]);
    items.push(r#"{"b":[7.0],"a":70e-1}"#.to_owned());
    assert_eq!(
        found(&rules, &format!("[{}]", items.join(","))),
        ["/body/50000 must not be equal to an earlier item"]
    );
}

#[test]
fn no_more_than_twenty_findings_are_told() {
    let rules = body_rules("3.1.0", r#"{"items":{"type":"string"}}"#);
    assert_eq!(found(&rules, &format!("[{}1]", "1,".repeat(99))).len(), 20);
}

#[test]
fn names_in_pointers_are_escaped() {
    let rules = body_rules(
        "3.1.0",
        r#"{"properties":{"a/b~c":{"type":"string"}},"additionalProperties":{"type":"string"}}"#,
    );
    assert_eq!(
        found(&rules, r#"{"a/b~c":1,"secret":1}"#),
        ["/body/a~1b~0c must be a string", "/body/* must be a string"]
    );
}

/// JSON of any form whose strings, keys and numbers all hold a marker.
fn secrets() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let text = || "[a-z]{0,3}QX7[a-z]{0,3}";
    let leaf = prop_oneof![
        text().prop_map(Value::from),
        (0..99_u64).prop_map(|number| Value::from(7_373_000_000 + number)),
        Just(Value::Null),
    ];
    let key = prop_oneof![
        text().boxed(),
        prop::sample::select(vec!["name", "birthDate", "kind", "limit", "notes", "id"])
            .prop_map(str::to_owned)
            .boxed()
    ];
    leaf.prop_recursive(3, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_of_a_body_is_ever_told(value in secrets(), cut in any::<prop::sample::Index>()) {
        let schema = format!(r#"{{"anyOf":[{PATIENT},{{"type":"object","additionalProperties":{PATIENT},"propertyNames":{{"maxLength":2}}}}],
            "properties":{{"notes":{{"oneOf":[{PATIENT},{{"const":1}}]}}}},"not":{{"type":"array"}}}}"#);
        let rules = body_rules("3.1.0", &schema);
        let text = value.to_string();
        let said = format!("{:?}", check(&rules, text.as_bytes()));
        prop_assert!(!said.contains("QX7") && !said.contains("7373"), "{}", said);
        let said = format!("{:?}", check(&rules, &text.as_bytes()[..cut.index(text.len())]));
        prop_assert!(!said.contains("QX7") && !said.contains("7373"), "{}", said);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:0-9eE.+\\-a-z\\\\ ]{0,40}") {
        let rules = body_rules("3.1.0", PATIENT);
        for body in [&bytes[..], text.as_bytes()] {
            let ours = check(&rules, body);
            let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(body);
            // The other reader takes repeated keys and lone surrogates.
            if theirs.is_err() {
                prop_assert!(matches!(ours, BodyCheck::Malformed(_)), "{:?}", ours);
            }
        }
        drop(rules.check_body(OperationNumber(7), "", &bytes, Effort::Little));
    }
}
