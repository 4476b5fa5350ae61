//! Spans as JSON, as OpenTelemetry wants it: lower camel case, identifiers in hexadecimal, 64-bit integers as texts.

use gateway::{AttributeValue, Span, SpanKind};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'s> {
    resource_spans: [ResourceSpans<'s>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'s> {
    resource: Resource<'s>,
    scope_spans: [ScopeSpans<'s>; 1],
}

#[derive(Serialize)]
struct Resource<'s> {
    attributes: [Attribute<'s>; 2],
}

#[derive(Serialize)]
struct ScopeSpans<'s> {
    scope: Scope,
    spans: Vec<SpanView<'s>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanView<'s> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'s str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'s>>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Serialize)]
struct Attribute<'s> {
    key: &'s str,
    value: Value<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'s> {
    StringValue(&'s str),
    IntValue(String),
}

/// The body of a request that hands over spans.
pub(super) fn encode(spans: &[Span]) -> serde_json::Result<Vec<u8>> {
    let attribute = |key, value| Attribute { key, value: Value::StringValue(value) };
    let resource = Resource {
        attributes: [
            attribute("service.name", "caduceus-gateway"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ],
    };
    let scope = Scope { name: "caduceus-gateway" };
    let spans = spans.iter().map(SpanView::from).collect();
    let scope_spans = [ScopeSpans { scope, spans }];
    serde_json::to_vec(&Request { resource_spans: [ResourceSpans { resource, scope_spans }] })
}

impl<'s> From<&'s Span> for SpanView<'s> {
    fn from(span: &'s Span) -> Self {
        let attributes = span.attributes.iter().map(|(key, value)| {
            let value = match value {
                AttributeValue::Text(text) => Value::StringValue(text),
                AttributeValue::Number(number) => Value::IntValue(number.to_string()),
            };
            Attribute { key, value }
        });
        Self {
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_span_id: span.parent_id.map(|id| hex(&id)),
            name: &span.name,
            kind: match span.kind {
                SpanKind::Server => 2,
                SpanKind::Client => 3,
            },
            start_time_unix_nano: span.start_nanos.to_string(),
            end_time_unix_nano: span.end_nanos.to_string(),
            attributes: attributes.collect(),
            // Unset unless it failed, as for any instrumentation.
            status: Status { code: if span.is_error { 2 } else { 0 } },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_have_the_shape_that_opentelemetry_specifies() {
        let span = Span {
            trace_id: [0x0a; 16],
            span_id: [0xbc; 8],
            parent_id: None,
            kind: SpanKind::Server,
            name: "GET /patients/{id}".to_owned(),
            start_nanos: 1_700_000_000_000_000_001,
            end_nanos: 1_700_000_000_000_000_002,
            attributes: vec![
                ("http.route", AttributeValue::Text("/patients/{id}".to_owned())),
                ("http.response.status_code", AttributeValue::Number(502)),
            ],
            is_error: true,
        };
        let encoded: serde_json::Value = serde_json::from_slice(&encode(&[span]).unwrap()).unwrap();
        let resource = &encoded["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["key"], "service.name");
        assert_eq!(
            resource["scopeSpans"][0]["spans"],
            json!([{
                "traceId": "0a".repeat(16),
                "spanId": "bc".repeat(8),
                "name": "GET /patients/{id}",
                "kind": 2,
                "startTimeUnixNano": "1700000000000000001",
                "endTimeUnixNano": "1700000000000000002",
                "attributes": [
                    { "key": "http.route", "value": { "stringValue": "/patients/{id}" } },
                    { "key": "http.response.status_code", "value": { "intValue": "502" } },
                ],
                "status": { "code": 2 },
            }])
        );
    }
}
