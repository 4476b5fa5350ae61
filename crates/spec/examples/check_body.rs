//! How long checking a body of about a kilobyte takes, here and with another validator.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

use std::{hint::black_box, time::Instant};

use serde_json::{Value, json};
use spec::{BodyCheck, Effort, Limits, RequestRules};

const ROUNDS: u32 = 5;
const CALLS: u32 = 50_000;

fn main() {
    let (schema, body) = (schema(), body());
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "t", "version": "1" },
        "paths": { "/results": { "post": {
            "requestBody": { "required": true, "content": { "application/json": { "schema": schema } } },
            "responses": { "204": { "description": "done" } },
        } } },
    });
    let rules = RequestRules::compile(document.to_string().as_bytes(), &Limits::default()).unwrap();
    let operation = rules.operation("POST", "/results").unwrap();
    let other = jsonschema::validator_for(&schema).unwrap();
    println!("body of {} bytes, nanoseconds per call: reading and checking", body.len());
    for _ in 0..ROUNDS {
        let ours = time(|| {
            let checked =
                rules.check_body(operation, "application/json", body.as_bytes(), Effort::Little);
            assert!(matches!(checked, BodyCheck::Done(findings) if findings.is_empty()));
        });
        let theirs = time(|| {
            let value: Value = serde_json::from_str(&body).unwrap();
            assert!(other.is_valid(&value));
        });
        let reading = time(|| {
            black_box(serde_json::from_str::<Value>(&body).unwrap());
        });
        println!(
            "ours {ours:6.0}   serde_json and jsonschema {theirs:6.0}   of that reading {reading:6.0}"
        );
    }
}

fn time(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn schema() -> Value {
    json!({
        "type": "object", "required": ["patient", "results"], "additionalProperties": false,
        "properties": {
            "patient": {
                "type": "object", "required": ["id", "birthDate"],
                "properties": {
                    "id": { "type": "string", "pattern": "^[A-Z]{2}\\d{6}$" },
                    "birthDate": { "type": "string", "format": "date" },
                    "name": { "type": "string", "minLength": 1, "maxLength": 100 },
                    "active": { "type": "boolean" },
                },
            },
            "results": {
                "type": "array", "maxItems": 100,
                "items": {
                    "type": "object", "required": ["code", "value"], "additionalProperties": false,
                    "properties": {
                        "code": { "type": "string", "maxLength": 10 },
                        "value": { "type": "number", "minimum": 0, "maximum": 1000 },
                        "unit": { "enum": ["mg/dl", "mmol/l", "g/l"] },
                        "status": { "oneOf": [{ "const": "final" }, { "const": "amended" }] },
                    },
                },
            },
        },
    })
}

fn body() -> String {
    let result = |number: u32| json!({ "code": format!("LOINC-{number}"), "value": 12.5, "unit": "mmol/l", "status": "final" });
    let results: Vec<Value> = (0..13).map(result).collect();
    json!({
        "patient": { "id": "AB123456", "birthDate": "1990-01-31", "name": "Müller, Änne", "active": true },
        "results": results,
    })
    .to_string()
}
