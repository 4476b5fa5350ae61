//! Conversion between the syntaxes keeps values, order and spellings.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use crate::{Limits, Syntax, convert};

fn to(target: Syntax, text: &str) -> String {
    convert(text.as_bytes(), &Limits::default(), target)
        .unwrap_or_else(|issue| panic!("{issue:?}\n{text}"))
}

#[test]
fn yaml_becomes_json() {
    let yaml =
        "b: 1.50\na: [0x10, +1, .5, ~, 'no', no]\ntext: |\n  one\n  two\n200: &x {}\ncopy: *x\n";
    assert_eq!(
        to(Syntax::Json, yaml),
        r#"{
  "b": 1.50,
  "a": [
    16,
    1,
    0.5,
    null,
    "no",
    "no"
  ],
  "text": "one\ntwo\n",
  "200": {},
  "copy": {}
}
"#
    );
}

#[test]
fn json_becomes_yaml() {
    let json = r#"{"z": [1E+2, [], {}, [{"k": "v", "l": []}]], "200": "200", "yes": "a: b", "n": null,
        "text": "one\n\n two", "odd": "\n", "": " x", "é": "\u0001"}"#;
    assert_eq!(
        to(Syntax::Yaml, json),
        "z:\n  - 1E+2\n  - []\n  - {}\n  - - k: v\n      l: []\n\"200\": \"200\"\n\"yes\": \"a: b\"\n\"n\": null\ntext: |-\n  one\n\n   two\nodd: \"\\n\"\n\"\": \" x\"\n\"é\": \"\\u0001\"\n"
    );
}

#[test]
fn what_cannot_be_said_is_refused() {
    let rule = |text: &str, limits: &Limits| {
        convert(text.as_bytes(), limits, Syntax::Json).err().map(|issue| (issue.rule, issue.line))
    };
    let limits = Limits::default();
    assert_eq!(rule("a: 1\nb: .inf", &limits), Some(("not-representable", 2)));
    assert_eq!(rule("a: 1\na: 2", &limits), Some(("duplicate-key", 2)));
    assert_eq!(rule("a: [", &limits), Some(("syntax", 1)));
    let limits = Limits { output_bytes: 5, ..Limits::default() };
    assert_eq!(rule("[1, 2, 3, 4, 5, 6]", &limits), Some(("too-large", 1)));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z :#\\-\\n\\t'\"?|>&*!%@`{}\\[\\],0-9.~]{0,20}",
        Just("null".to_owned()),
        Just("1e5".to_owned()),
        Just("<<".to_owned()),
        Just("k".repeat(1100)),
    ]
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        text().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            prop::collection::hash_map(text(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn there_and_back_is_the_same(value in value()) {
        let json = serde_json::to_string(&value).unwrap();
        let yaml = to(Syntax::Yaml, &json);
        let back = to(Syntax::Json, &yaml);
        let read: serde_json::Value = serde_json::from_str(&back).unwrap();
        assert_eq!(read, value, "{yaml}");
        assert_eq!(to(Syntax::Yaml, &yaml), yaml);
    }
}
