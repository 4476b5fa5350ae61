//! Random schemas and random values: this validator and another one must agree.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{check, document_rules};
use crate::request::BodyCheck;

/// Values from a small world, so that they often fit.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-4_i64..8).prop_map(Value::from),
        (-8_i32..16).prop_map(|number| json!(f64::from(number) / 4.0)),
        "[abä]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn keyword(inner: BoxedStrategy<Value>) -> impl Strategy<Value = (String, Value)> {
    let types = prop::sample::select(vec![
        "null", "boolean", "integer", "number", "string", "array", "object",
    ]);
    let one = move |name: &'static str, value: BoxedStrategy<Value>| {
        value.prop_map(move |value| (name.to_owned(), value)).boxed()
    };
    let schemas = prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from).boxed();
    let named = prop::collection::btree_map("[abc]", inner.clone(), 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
        .boxed();
    let small = (0_u32..4).prop_map(Value::from).boxed();
    let number = (-8_i32..16).prop_map(|number| json!(f64::from(number) / 4.0)).boxed();
    let names = prop::collection::btree_set("[abc]", 0..3).prop_map(|names| json!(names)).boxed();
    prop_oneof![
        4 => prop::collection::btree_set(types, 1..4)
            .prop_map(|types| ("type".to_owned(), json!(types))),
        1 => one("enum", prop::collection::vec(value(), 1..4).prop_map(Value::from).boxed()),
        1 => one("const", value().boxed()),
        1 => one("minimum", number.clone()),
        1 => one("exclusiveMaximum", number.clone()),
        1 => one("maximum", number.clone()),
        1 => one("exclusiveMinimum", number),
        1 => one("multipleOf", prop::sample::select(vec![json!(2), json!(0.5), json!(1.25)]).boxed()),
        1 => one("minLength", small.clone()),
        1 => one("maxLength", small.clone()),
        1 => one("pattern", prop::sample::select(vec![json!("^a"), json!("b$"), json!("^\\w*$"), json!("[^a]")]).boxed()),
        1 => one("minItems", small.clone()),
        1 => one("maxItems", small.clone()),
        1 => one("uniqueItems", any::<bool>().prop_map(Value::from).boxed()),
        1 => one("minProperties", small.clone()),
        1 => one("maxProperties", small),
        2 => one("items", inner.clone()),
        1 => one("prefixItems", schemas.clone()),
        1 => one("contains", inner.clone()),
        3 => one("properties", named.clone()),
        1 => one("patternProperties", prop::collection::btree_map(prop::sample::select(vec!["^a", "b|c"]).prop_map(str::to_owned), inner.clone(), 0..3)
            .prop_map(|members| Value::Object(members.into_iter().collect())).boxed()),
        1 => one("additionalProperties", inner.clone()),
        1 => one("propertyNames", inner.clone()),
        1 => one("required", names.clone()),
        1 => one("dependentRequired", prop::collection::btree_map("[abc]", names, 0..3).prop_map(|map| json!(map)).boxed()),
        1 => one("dependentSchemas", named),
        2 => one("allOf", schemas.clone()),
        2 => one("anyOf", schemas.clone()),
        2 => one("oneOf", schemas),
        1 => one("not", inner.clone()),
        1 => one("if", inner.clone()),
        1 => one("then", inner.clone()),
        1 => one("else", inner.clone()),
        2 => one("unevaluatedProperties", inner.clone()),
        2 => one("unevaluatedItems", inner),
        1 => one("$ref", prop::sample::select(vec![json!("#/components/schemas/Tree"), json!("#/components/schemas/Leaf")]).boxed()),
    ]
}

fn schema() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        4 => any::<bool>().prop_map(Value::from),
        2 => Just(json!({"type": "string"})),
        2 => Just(json!({"type": "integer"})),
        1 => Just(json!({"$ref": "#/components/schemas/Tree"})),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop::collection::vec(keyword(inner.boxed()), 0..5)
            .prop_map(|keywords| Value::Object(keywords.into_iter().collect()))
    })
    .boxed()
}

fn components() -> Value {
    json!({
        "Tree": {
            "type": ["object", "array", "null"],
            "properties": {"a": {"$ref": "#/components/schemas/Tree"}, "b": {"$ref": "#/components/schemas/Leaf"}},
            "items": {"$ref": "#/components/schemas/Tree"},
        },
        "Leaf": {"type": ["string", "integer"], "maxLength": 2, "minimum": 0},
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn both_agree(schema in schema(), values in prop::collection::vec(value(), 12)) {
        let mut whole = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [schema]});
        whole["components"] = json!({"schemas": components()});
        let oracle = jsonschema::validator_for(&whole).unwrap();
        let rules = document_rules("3.1.0", &schema.to_string(), &components().to_string());
        for value in values {
            let text = value.to_string();
            let BodyCheck::Done(findings) = check(&rules, text.as_bytes()) else {
                return Err(TestCaseError::fail("not checked"));
            };
            prop_assert_eq!(findings.is_empty(), oracle.is_valid(&value), "{} {:?}", text, findings);
        }
    }
}
